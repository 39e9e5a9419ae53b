"""Unpaired pictures: each side in an order of its own, from (seed, position) alone; truth where it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganengine.data import SOURCES, BadPictureError, DataOptions, Dataset, Loader, inspect, open_data
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec

BUILT_IN = {source.name: source for source in SOURCES}
AB = ("A", "B")
OPTIONS = DataOptions(size=8, flip=False)
COUNTS = {"A": 7, "B": 3}


def open_unpaired(path, **options):
    return open_data(str(path), AB, DataOptions(size=8, flip=False, **options), BUILT_IN, aligned=False)


class Side(Dataset):
    """Pictures whose level is their number."""

    def __init__(self, name, count):
        self.spec = DataSpec({name: FieldSpec("image", (1, 4, 4))}, count)

    def read(self, split, index, size):
        (name,) = self.spec.fields
        row, column = np.indices((size, size), dtype=np.uint8)
        return {name: np.where(column == 0, index, row * size + column)[:, :, None].astype(np.uint8)}


class Sides(Dataset):
    def __init__(self, **counts):
        self._parts = {name: Side(name, count) for name, count in counts.items()}
        self.spec = DataSpec({n: part.spec.fields[n] for n, part in self._parts.items()}, max(counts.values()))

    @property
    def parts(self):
        return self._parts

    def read(self, split, index, size):
        return {
            k: v for part in self._parts.values() for k, v in part.read(split, index % part.spec.count, size).items()
        }


def drawn(batch, name):
    return ((batch[name][:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def plain(**options):
    return DataOptions(**{"size": 4, "flip": False, **options})


@pytest.fixture(scope="module")
def stream():
    with Loader(Sides(**COUNTS), plain()) as loader:
        return loader.draw(0, 84)


def test_each_side_goes_through_epochs_of_its_own(stream):
    for name, count in COUNTS.items():
        numbers = drawn(stream, name)
        epochs = [numbers[start : start + count] for start in range(0, 84, count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len(set(map(tuple, epochs))) > 4
    assert drawn(stream, "A") == stream.index.tolist()  # the longer side counts


def test_a_meets_every_b(stream):
    assert len(set(zip(drawn(stream, "A"), drawn(stream, "B"), strict=True))) == 21


def test_equal_counts_are_shuffled_against_each_other():
    with Loader(Sides(A=20, B=20), plain()) as loader:
        batch = loader.draw(0, 20)
    assert sum(a == b for a, b in zip(drawn(batch, "A"), drawn(batch, "B"), strict=True)) < 8


def test_sides_are_mirrored_independently():
    with Loader(Sides(A=20, B=20), plain(flip=True)) as loader:
        batch = loader.draw(0, 200)
    mirrored = {name: batch[name][:, 0, 1, 1] > batch[name][:, 0, 1, 2] for name in AB}
    agree = (mirrored["A"] == mirrored["B"]).float().mean()
    assert 0.35 < agree < 0.65


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 70), st.integers(1, 14), st.integers(1, 3))
def test_any_position_batch_and_rank_give_the_same_stream(stream, position, count, world):
    for rank in range(world):
        with Loader(Sides(**COUNTS), plain(memory_mib=rank % 2)) as loader:
            share = loader.draw(position, count, rank=rank, world=world)
        start, end = position + count * rank // world, position + count * (rank + 1) // world
        for name in AB:
            assert torch.equal(share[name], stream[name][start:end])
        assert torch.equal(share.index, stream.index[start:end])


LAYOUTS = [
    (["trainA/x.png", "trainA/y.png", "trainB/z.png", "testA/u.png", "testB/v.png"], "unpaired: trainA, trainB", True),
    (
        ["train_A/x.png", "train_A/y.png", "train_B/z.png", "test_A/u.png", "test_B/v.png"],
        "unpaired: trainA, trainB",
        True,
    ),
    (
        ["A/train/x.png", "A/train/y.png", "B/train/z.png", "A/test/u.png", "B/test/v.png"],
        "unpaired: A/train, B/train",
        False,
    ),
    (
        ["train/A/x.png", "train/A/y.png", "train/B/z.png", "test/A/u.png", "test/B/v.png"],
        "unpaired: train/A, train/B",
        False,
    ),
]


@pytest.mark.parametrize(("names", "layout", "by_sight"), LAYOUTS)
@pytest.mark.parametrize("word", ["{}", "unpaired:{}"])
def test_layouts(tmp_path, paint, names, layout, by_sight, word):
    for name in names:
        paint(name, mode="L" if "A" in name else "RGB")
    data = open_unpaired(word.format(tmp_path))
    assert (data.layout, dict(data.splits), data.spec.count) == (layout, {"train": 2, "test": 1}, 2)
    assert {name: part.spec.count for name, part in data.parts.items()} == {"A": 2, "B": 1}
    assert {name: field.shape for name, field in data.spec.fields.items()} == {"A": (1, 8, 8), "B": (3, 8, 8)}
    assert not data.aligned("test")
    assert data.names("train") == ["x.png", "y.png"]
    with Loader(data, OPTIONS) as loader:
        assert loader.draw(0, 2).index.sort().values.tolist() == [0, 1]
        assert loader.fixed("test", 4).B.shape == (1, 3, 8, 8)
    report = inspect(tmp_path)
    if by_sight:
        assert (report["source"], report["problem"]) == ("unpaired", None)
        assert report["fields"]["A"]["sizes"] == {"16x8": 3}


def pixels(folder, name):
    return np.asarray(Image.open(folder / name))


def test_aligned_folders_keep_their_truth_where_nothing_is_trained(tmp_path, paint):
    for split, numbers in (("train", range(12)), ("test", (3, 1, 2))):
        for number in numbers:
            for side in AB:
                paint(f"{split}/{side}/{number}.png", 8, 8)
    data = open_unpaired(tmp_path)
    assert data.aligned("test")
    assert data.names("test") == ["1.png", "2.png", "3.png"]
    for index, name in enumerate(data.names("test")):
        sample = data.read("test", index, None)
        for side in AB:
            assert np.array_equal(sample[side], pixels(tmp_path / "test" / side, name))
    with Loader(data, OPTIONS) as loader:
        batch = loader.draw(0, 12)
        whole = loader.fixed("train", 12)
    a, b = ([int((whole[s] == batch[s][row]).flatten(1).all(1).nonzero()) for row in range(12)] for s in AB)
    assert sorted(a) == sorted(b) == list(range(12))
    assert sum(x == y for x, y in zip(a, b, strict=True)) < 6


def test_pairs_side_by_side_are_cut_and_shuffled(tmp_path, paint):
    for name in ("train/0.png", "train/1.png", "train/2.png", "test/3.png"):
        paint(name, 16, 8)
    data = open_unpaired(tmp_path)
    assert (data.layout, data.aligned("test")) == ("unpaired: side by side", True)
    sample, picture = data.read("test", 0, None), pixels(tmp_path, "test/3.png")
    assert np.array_equal(sample["A"], picture[:, :8])
    assert np.array_equal(sample["B"], picture[:, 8:])


def test_without_names_in_common_the_shorter_side_begins_again(tmp_path, paint):
    for name in (
        "trainA/0.png",
        "trainB/1.png",
        "testA/a.png",
        "testA/b.png",
        "testA/c.png",
        "testB/x.png",
        "testB/y.png",
    ):
        paint(name, 8, 8)
    data = open_unpaired(tmp_path)
    assert data.names("test") == ["a.png", "b.png", "c.png"]
    for index, (a, b) in enumerate((("a", "x"), ("b", "y"), ("c", "x"))):
        sample = data.read("test", index, None)
        assert np.array_equal(sample["A"], pixels(tmp_path / "testA", f"{a}.png"))
        assert np.array_equal(sample["B"], pixels(tmp_path / "testB", f"{b}.png"))


def test_a_bad_picture_does_not_move_the_truth(tmp_path, paint):
    for number in range(4):
        for side in AB:
            paint(f"test{side}/{number}.png", 8, 8)
            paint(f"train{side}/{number}.png", 8, 8)
    for bad in ("testA/1.png", "testB/2.png", "trainB/0.png"):
        (tmp_path / bad).write_bytes(b"no picture")
    data = open_unpaired(tmp_path)
    assert data.names("test") == ["0.png", "3.png"]
    assert np.array_equal(data.read("test", 1, None)["B"], pixels(tmp_path / "testB", "3.png"))
    assert {name.rpartition("/")[0][-5:] for name in data.bad} == {"testA", "testB", "rainB"}
    assert (data.spec.count, data.parts["B"].spec.count) == (4, 3)
    with pytest.raises(BadPictureError):
        open_unpaired(tmp_path, bad_images="fail")


def test_a_picture_that_is_cut_off_is_replaced_within_its_side(tmp_path, paint, truncate):
    for number in range(3):
        paint(f"trainA/{number}.png", 32, 32)
        paint(f"trainB/{number}x.png", 32, 32)
    truncate(tmp_path / "trainB/1x.png")
    with Loader(open_unpaired(tmp_path), OPTIONS) as loader:
        batch = loader.draw(0, 3)
        assert loader.bad.keys() == {str(tmp_path / "trainB/1x.png")}
    assert len({row.numpy().tobytes() for row in batch.A}) == 3
    assert len({row.numpy().tobytes() for row in batch.B}) == 2


def test_who_gets_what(tmp_path, paint):
    for name in ("trainA/x.png", "trainB/y.png"):
        paint(name)
    with pytest.raises(DataError, match=r"so this looks unpaired: .* use a variant for unpaired pictures"):
        open_data(str(tmp_path), AB, OPTIONS, BUILT_IN)
    with pytest.raises(DataError, match="needs A, B of the same thing, the data source unpaired draws each by itself"):
        open_data(f"unpaired:{tmp_path}", AB, OPTIONS, BUILT_IN)
    paint("p/A/0.png")
    paint("p/B/0.png")
    assert open_data(str(tmp_path / "p"), AB, OPTIONS, BUILT_IN).layout == "pairs in A, B"
    assert open_unpaired(tmp_path / "p").layout == "unpaired: A, B"
    assert open_unpaired(f"pairs:{tmp_path / 'p'}").layout == "pairs in A, B"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["trainA/x.png"], "has no partner: expected one for B beside it"),
        (["trainA/x.png", "trainB/notes.txt"], "pictures of A and B in the split train; B has none"),
        (["x.png"], r"expected A\|B side by side, .* Unpaired pictures go into folders trainA/ and trainB/"),
        ([], "the folder is empty"),
    ],
)
def test_what_is_refused(tmp_path, paint, names, message):
    for name in names:
        if name.endswith(".txt"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).touch()
        else:
            paint(name, 8, 8)
    with pytest.raises(DataError, match=message):
        open_unpaired(tmp_path)


def test_the_fingerprint_knows_both_sides(tmp_path, paint):
    for name in ("trainA/x.png", "trainB/y.png"):
        paint(name)
    before = open_unpaired(tmp_path).fingerprint
    paint("trainB/z.png")
    assert open_unpaired(tmp_path).fingerprint != before
