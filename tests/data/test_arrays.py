"""IDX and .npz files: made here byte by byte or by numpy, and read back; what is unclear or damaged is refused."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganengine.data import SOURCES, DataOptions, Loader, inspect, open_data
from ganengine.errors import DataError
from ganengine.variant import FieldSpec

BUILT_IN = {source.name: source for source in SOURCES}
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (10, 6, 6), dtype=np.uint8)
LABELS = np.array([3, 0, 1, 2, 3, 0, 1, 2, 3, 0])
BOTH = ("real", "label")


def open_arrays(path, fields=BOTH, **options):
    return open_data(str(path), fields, DataOptions(**{"size": 6, **options}), BUILT_IN)


def idx(array, code=8):
    """Bytes of an IDX file, as Y. LeCun's page on MNIST describes them."""
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + b"".join(struct.pack(">i", n) for n in array.shape)
    return header + array.astype(">u1").tobytes()


def write_idx(folder, pixels=PIXELS, labels=LABELS, *, packed=False, prefix="", split="train"):
    folder.mkdir(parents=True, exist_ok=True)
    for what, array, dimensions in (("images", pixels, 3), ("labels", labels, 1)):
        if array is not None:
            data, end = (gzip.compress(idx(array)), ".gz") if packed else (idx(array), "")
            (folder / f"{prefix}{split}-{what}-idx{dimensions}-ubyte{end}").write_bytes(data)


def pack(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def contents(data, split="train"):
    samples = [data.read(split, index, None) for index in range(data.splits[split])]
    return {name: np.stack([sample[name] for sample in samples]) for name in data.spec.fields}


# ----------------------------------------------------------------------------------------------------------------
# IDX


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
@pytest.mark.parametrize("as_zip", [False, True])
def test_idx_files(tmp_path, packed, place, as_zip):
    write_idx(tmp_path / "data" / place, packed=packed)
    write_idx(tmp_path / "data" / place, PIXELS[:3], LABELS[:3], packed=packed, split="t10k")
    (tmp_path / "data" / "README.md").touch()
    data = open_arrays(pack(tmp_path / "data", tmp_path / "x.zip") if as_zip else tmp_path / "data")
    assert data.spec.fields == {"real": FieldSpec("image", (1, 6, 6)), "label": FieldSpec("label", (), 4)}
    assert (dict(data.splits), data.spec.count, data.natural_side) == ({"train": 10, "test": 3}, 10, 6)
    assert (data.classes, data.mirrors) == (["0", "1", "2", "3"], False)
    found = contents(data)
    assert np.array_equal(found["real"], PIXELS[..., None])
    assert np.array_equal(found["label"], LABELS)
    assert np.array_equal(contents(data, "test")["real"], PIXELS[:3, ..., None])


def test_idx_files_behind_the_name_of_a_set(tmp_path):
    write_idx(tmp_path, prefix="emnist-digits-")
    assert open_arrays(tmp_path).spec.count == 10
    write_idx(tmp_path, prefix="emnist-letters-")
    with pytest.raises(DataError, match=r"one set, got those of 2 .*move each set to a folder of its own"):
        open_arrays(tmp_path)


def test_of_a_packed_and_an_unpacked_file_the_latter_is_read(tmp_path):
    write_idx(tmp_path)
    write_idx(tmp_path, 255 - PIXELS, packed=True)
    assert np.array_equal(contents(open_arrays(tmp_path))["real"], PIXELS[..., None])


def test_labels_are_optional_and_told_truly(tmp_path):
    write_idx(tmp_path, labels=None)
    data = open_arrays(tmp_path, ("real",))
    assert (set(data.spec.fields), data.classes, data.notes) == ({"real"}, (), [])
    with pytest.raises(DataError, match=r"needs real, label, the data gives real\. Add what is missing"):
        open_arrays(tmp_path)
    write_idx(tmp_path, PIXELS[:3], LABELS[:3], split="t10k")
    data = open_arrays(tmp_path, ("real",))
    assert set(data.spec.fields) == {"real"}
    with pytest.raises(DataError, match=r"The labels are left aside: the split train has none. Add its file"):
        open_arrays(tmp_path)


DAMAGE = [
    (lambda d: d[:-1], "expected 360 bytes behind the header, as it says, got 359"),
    (lambda d: d + b"x", "got more"),
    (lambda d: d[:9], "cut off in its header"),
    (lambda d: b"", "got an empty file"),
    (lambda d: b"\x89PNG" + d[4:], "got 89 50 4e 47"),
    (lambda d: d[:2] + b"\x0d" + d[3:], r"begins with 00 00 08 03\), got 00 00 0d 03"),
    (lambda d: d[:4] + b"\xff\xff\xff\xff" + d[8:], "expected"),
    (lambda d: d[:4] + bytes(4) + d[8:], "got none: its header says"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_idx_files(tmp_path, damage, message, packed):
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    data = damage(path.read_bytes())
    path.write_bytes(data)
    if packed:
        path.unlink()
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=message):
        open_arrays(tmp_path)


def test_damaged_packing_missing_pictures_and_unequal_counts(tmp_path):
    write_idx(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (whole[:-20], b"no gzip", whole[:30] + bytes(40) + whole[70:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match="Get the file again, or take it out"):
            open_arrays(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"expected the pictures of train-labels-idx1-ubyte.gz beside it"):
        open_arrays(tmp_path)
    write_idx(tmp_path, PIXELS[:4], packed=True)
    with pytest.raises(DataError, match="as many of each field in the split train, got 4 of real, 10 of label"):
        open_arrays(tmp_path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_that_went_bad_give_an_error_or_the_right_shape(tmp_path, data):
    folder = tmp_path / "x"
    write_idx(folder, packed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        found = contents(open_arrays(folder))
    except DataError as error:
        assert "train-images" in str(error)  # noqa: PT017
    else:
        assert found["real"].shape == (10, 6, 6, 1)


# ----------------------------------------------------------------------------------------------------------------
# npz


COLOUR = RANDOM.integers(0, 256, (10, 6, 7, 3), dtype=np.uint8)
NAMES = [
    ({"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:2], "y_test": LABELS[:2]}, {"train": 10, "test": 2}),
    ({"train_images": PIXELS, "train_labels": LABELS, "val_images": PIXELS[:1], "val_labels": LABELS[:1]}, None),
    ({"X": PIXELS, "y": LABELS}, {"train": 10}),
    ({"images": PIXELS, "labels": LABELS, "comment": np.array("made up")}, {"train": 10}),
    ({"data": PIXELS, "target": LABELS}, {"train": 10}),
    ({"arr_0": PIXELS, "arr_1": LABELS}, {"train": 10}),
]


@pytest.mark.parametrize(("arrays", "splits"), NAMES)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_names_of_arrays(tmp_path, arrays, splits, save):
    save(tmp_path / "x.npz", **arrays)
    data = open_arrays(tmp_path / "x.npz")
    assert dict(data.splits) == (splits or {"train": 10, "val": 1})
    assert np.array_equal(contents(data)["real"], PIXELS[..., None])
    assert np.array_equal(contents(data)["label"], LABELS)
    assert contents(open_arrays(tmp_path))["label"].dtype == np.int64  # the folder that it is in
    assert open_arrays(pack(tmp_path, tmp_path / "y.zip")).fingerprint == data.fingerprint


def test_files_named_by_their_split(tmp_path):
    np.savez(tmp_path / "train.npz", images=PIXELS, labels=LABELS)
    np.savez(tmp_path / "test.npz", images=PIXELS[:4], labels=LABELS[:4])
    assert dict(open_arrays(tmp_path).splits) == {"train": 10, "test": 4}
    np.savez(tmp_path / "more.npz", images=PIXELS)
    with pytest.raises(DataError, match=r"one array of real for the split train, got images in .* as well"):
        open_arrays(f"npz:{tmp_path}")


FORMS = [
    (PIXELS, PIXELS[..., None]),
    (COLOUR, COLOUR),
    (COLOUR.transpose(0, 3, 1, 2), COLOUR),
    (PIXELS[..., None], PIXELS[..., None]),
    (PIXELS[:, None], PIXELS[..., None]),
    (COLOUR.astype(np.int64), COLOUR),
    (COLOUR / 255.0, (COLOUR / 255.0).astype(np.float32)),
    (COLOUR.astype(np.float32), (COLOUR / 255.0).astype(np.float32)),
    (COLOUR / 127.5 - 1, (COLOUR / 255.0).astype(np.float32)),
    (COLOUR.astype(np.uint16) * 257, (COLOUR / 255.0).astype(np.float32)),
    (PIXELS > 127, (PIXELS > 127).astype(np.float32)[..., None]),
]


@pytest.mark.parametrize(("array", "wanted"), FORMS)
def test_forms_and_ranges(tmp_path, array, wanted):
    np.savez(tmp_path / "x.npz", images=array)
    data = open_arrays(tmp_path / "x.npz", ("real",))
    found = contents(data)["real"]
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert data.spec.channels("real") == wanted.shape[3]
    assert data.mirrors is (wanted.shape[3] == 3)


def test_one_range_for_all_splits(tmp_path):
    """Dark test pictures are not made brighter."""
    np.savez(tmp_path / "x.npz", x_train=COLOUR.astype(np.float32), x_test=np.full((2, 6, 7, 3), 1.0, np.float32))
    assert np.allclose(contents(open_arrays(tmp_path, ("real",)), "test")["real"], 1 / 255)


@pytest.mark.parametrize(
    ("labels", "wanted", "classes"),
    [
        (LABELS[:, None], LABELS, ["0", "1", "2", "3"]),
        (np.eye(5)[LABELS], LABELS, ["0", "1", "2", "3"]),
        (LABELS.astype(np.float32), LABELS, ["0", "1", "2", "3"]),
        (LABELS - 1, LABELS - 1, ["0", "1", "2"]),
        (
            np.array(["cat", "ant", "bee", "ape", "cat", "ant", "bee", "ape", "cat", "ant"]),
            [3, 0, 2, 1] * 2 + [3, 0],
            None,
        ),
    ],
)
def test_labels(tmp_path, labels, wanted, classes):
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=labels)
    data = open_arrays(tmp_path / "x.npz")
    assert contents(data)["label"].tolist() == list(wanted)
    assert data.classes == (classes or ["ant", "ape", "bee", "cat"])


REFUSED = [
    ({"images": np.zeros((5, 3, 8, 3), np.uint8)}, r"got \[5, 3, 8, 3\], which may be either"),
    ({"images": np.zeros((5, 8, 8, 7), np.uint8)}, r"1, 3 or 4 channels, got \[5, 8, 8, 7\]\. Reshape"),
    ({"images": np.zeros((5, 8), np.uint8)}, r"got \[5, 8\]"),
    ({"images": np.zeros((0, 8, 8), np.uint8)}, r"got \[0, 8, 8\]"),
    ({"images": np.full((2, 8, 8), np.nan)}, "got nan to nan. Scale"),
    ({"images": np.full((2, 8, 8), -3.0)}, "got -3 to -3"),
    ({"images": np.full((2, 8, 8), 70000)}, "0 to 255 or 0 to 65535, got 70000"),
    ({"images": np.zeros((2, 8, 8), complex)}, "got complex128. Convert"),
    ({"images": np.array([[["x"]]])}, "got <U1"),
    ({"images": np.array([{}, {}], dtype=object)}, "expected an array of numbers, it cannot be read .*allow_pickle"),
    ({"x_train": PIXELS, "x_test": PIXELS / 255.0}, "of one type in all splits, got float64, uint8"),
    ({"x_train": PIXELS, "x_test": COLOUR}, r"got real \(1 channels\) in train and real \(3 channels\) in test"),
    ({"images": PIXELS, "labels": LABELS[:4]}, "got 10 of real, 4 of label"),
    ({"images": PIXELS, "labels": LABELS + 0.5}, r"expected labels \[N\].*got float64 \[10\]"),
    ({"images": PIXELS, "labels": LABELS - 2}, r"expected labels \[N\]"),
    ({"images": PIXELS, "labels": np.ones((10, 4))}, "with one 1 in each row"),
    ({"voxels": PIXELS}, "called x_train, train_images, images, arr_0 or the like, got voxels"),
    ({"labels": LABELS}, "expected pictures in an .npz file"),
    ({"x_train": PIXELS, "y_train": LABELS, "y_test": LABELS}, "expected the pictures of the split test too"),
]


@pytest.mark.parametrize(("arrays", "message"), REFUSED)
def test_arrays_that_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_arrays(tmp_path / "x.npz", ("real",))


@pytest.mark.parametrize("names", [("x.npz",), ("train.npz", "test.npz")])
def test_a_folder_of_arrays_by_other_names_is_told_both_names(tmp_path, names):
    for name in names:
        np.savez(tmp_path / name, voxels=PIXELS)
    wanted = "called x_train, train_images, .* got voxels.* Rename"
    with pytest.raises(DataError, match=wanted):
        open_arrays(tmp_path, ("real",))
    assert "got voxels" in inspect(tmp_path)["problem"]


def test_files_that_are_no_npz(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"this is no .npz file, or it is damaged"):
        open_arrays(tmp_path / "x.npz", ("real",))
    buffer = io.BytesIO()
    np.savez(buffer, images=PIXELS)
    content = bytearray(buffer.getvalue())
    content[200] ^= 255  # among the pixels: the checksum of the archive does not fit any more
    (tmp_path / "x.npz").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"images in .*x.npz: expected an array of numbers, it cannot be read"):
        open_arrays(tmp_path / "x.npz", ("real",))


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((400, 64, 64), np.uint8))
    assert open_arrays(tmp_path / "x.npz", ("real",)).spec.count == 400
    monkeypatch.setattr("ganengine.data.npz.MEMBER_LIMIT", 1 << 20)
    with pytest.raises(DataError, match="which may be a zip bomb"):
        open_arrays(tmp_path / "x.npz", ("real",))


# ----------------------------------------------------------------------------------------------------------------
# As all sources


@pytest.mark.parametrize("size", [6, 9])
@pytest.mark.parametrize("flip", [False, True])
def test_batches_drawn_at_once_are_those_drawn_one_by_one(tmp_path, size, flip, monkeypatch):
    np.savez(tmp_path / "x.npz", images=COLOUR[:, :, :6], labels=LABELS)
    data = open_arrays(tmp_path / "x.npz", size=size)
    options = DataOptions(size=size, flip=flip)
    with Loader(data, options) as loader:
        at_once = loader.draw(3, 25)
    monkeypatch.setattr(type(data), "read_many", lambda *_: None)
    with Loader(data, options) as loader:
        singly = loader.draw(3, 25)
    assert torch.equal(at_once.index, singly.index)
    assert torch.equal(at_once.real, singly.real)
    assert torch.equal(at_once.label, singly.label)
    assert at_once.label.tolist() == LABELS[at_once.index].tolist()
    assert np.array_equal(contents(data)["real"], COLOUR[:, :, :6])  # mirrored in the batch, not in the data


def test_the_report_on_arrays(tmp_path):
    write_idx(tmp_path, np.concatenate([PIXELS[:9], PIXELS[:1]]))
    write_idx(tmp_path, PIXELS[4:6], LABELS[4:6], split="t10k")
    report = inspect(tmp_path)
    assert report == {
        "schema": 1,
        "path": str(tmp_path),
        "layout": "IDX files",
        "source": "idx",
        "fields": {
            "real": {"channels": 1, "channel_counts": {"1": 12}, "sizes": {"6x6": 12}, "modes": {"uint8": 12}},
            "label": {
                "classes": {
                    "0": {"train": 3, "test": 1},
                    "1": {"train": 2, "test": 0},
                    "2": {"train": 2, "test": 0},
                    "3": {"train": 3, "test": 1},
                }
            },
        },
        "splits": {"train": 10, "test": 2},
        "bad": [],
        "odd": [],
        "duplicates": report["duplicates"],
        "decoded": True,
        "problem": None,
        "repairs": report["repairs"],
    }
    assert [group["splits"] for group in report["duplicates"]] == [["test", "train"], ["test", "train"], ["train"]]
    assert report["duplicates"][-1]["paths"] == [f"{tmp_path}/train/0", f"{tmp_path}/train/9"]
    assert report["repairs"][0].startswith("Keep 2 pictures in one split only")


@pytest.mark.parametrize(
    ("split", "repair"),
    [
        ("train", "Put some pictures into an array x_test"),
        ("test", "Add an array x_train: there is nothing to train on."),
    ],
)
def test_the_report_names_arrays_where_a_split_is_missing(tmp_path, split, repair):
    np.savez(tmp_path / "x.npz", **{f"x_{split}": PIXELS})
    report = inspect(tmp_path / "x.npz", quick=True)
    assert report["repairs"][0].startswith(repair)
    assert (report["problem"] is None) == (split == "train")


def test_the_report_on_damaged_arrays(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"something else")
    report = inspect(tmp_path / "x.npz")
    assert "this is no .npz file" in report["problem"]
    assert report["repairs"] == [report["problem"]]
    write_idx(tmp_path / "d", labels=None)
    (tmp_path / "d/train-images-idx3-ubyte").write_bytes(b"")
    assert "got an empty file" in inspect(tmp_path / "d")["problem"]
