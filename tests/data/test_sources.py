"""Layouts of folders, what is refused and in which words, and how a user's word becomes a data source."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganengine.data import SOURCES, DataOptions, open_data
from ganengine.data.dataset import BadPictureError, Dataset
from ganengine.data.pictures import read_picture
from ganengine.errors import DataError, PluginError
from ganengine.variant import DataSource, DataSpec, FieldSpec

OPTIONS = DataOptions(size=8)
BUILT_IN = {source.name: source for source in SOURCES}
AB = ("A", "B")


def open_pairs(path, **options):
    return open_data(str(path), AB, DataOptions(size=8, **options), BUILT_IN)


def open_images(path, **options):
    return open_data(str(path), ("real",), DataOptions(size=8, **options), BUILT_IN)


SIDE_BY_SIDE = ["train/0.png", "train/1.png", "val/2.png", "test/3.png"]
PAIR_LAYOUTS = [
    (SIDE_BY_SIDE, "pairs side by side", {"train": 2, "val": 1, "test": 1}),
    (["0.png", "1.png"], "pairs side by side", {"train": 2}),
    (["inner/train/0.png", "inner/test/1.png"], "pairs side by side", {"train": 1, "test": 1}),
    (["Training/0.png", "Validation/1.png"], "pairs side by side", {"train": 1, "val": 1}),
    (["A/0.png", "B/0.png"], "pairs in A, B", {"train": 1}),
    (["a/0.png", "b/0.jpg"], "pairs in A, B", {"train": 1}),
    (["A/x/0.png", "B/x/0.png"], "pairs in A, B", {"train": 1}),
    (["data/A/0.png", "data/B/0.png"], "pairs in A, B", {"train": 1}),
    (["train/A/0.png", "train/B/0.png", "test/A/1.png", "test/B/1.png"], "pairs in train/A, train/B", None),
    (["A/train/0.png", "B/train/0.png", "A/test/1.png", "B/test/1.png"], "pairs in A/train, B/train", None),
    (["trainA/0.png", "trainB/0.png", "testA/1.png", "testB/1.png"], "pairs in trainA, trainB", None),
    (["train_A/0.png", "train_B/0.png", "test_A/1.png", "test_B/1.png"], "pairs in trainA, trainB", None),
]


@pytest.mark.parametrize(("names", "layout", "splits"), PAIR_LAYOUTS)
def test_layouts_of_pairs(tmp_path, paint, names, layout, splits):
    for name in names:
        paint(name)
    for other in ("README.md", "LICENSE", "items.csv", ".hidden.png", "__MACOSX/train/0.png", "__MACOSX/A/9.png"):
        path = tmp_path / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not a picture")
    data = open_pairs(tmp_path)
    assert data.layout == layout
    assert dict(data.splits) == (splits or {"train": 1, "test": 1})
    assert list(data.splits) == [split for split in ("train", "val", "test") if split in data.splits]
    assert data.spec.count == data.splits["train"]
    assert {name: field.shape for name, field in data.spec.fields.items()} == {"A": (3, 8, 8), "B": (3, 8, 8)}
    assert set(data.read("train", 0, 8)) == {"A", "B"}


def test_the_halves_of_a_picture(tmp_path, paint):
    whole = read_picture(paint("train/x.png", 20, 8))
    data = open_pairs(tmp_path)
    assert data.names("train") == ["x.png"]
    sample = data.read("train", 0, None)
    assert np.array_equal(sample["A"], whole[:, :10])
    assert np.array_equal(sample["B"], whole[:, 10:])


def test_partners_are_found_by_name(tmp_path, paint):
    for stem in ("10", "9", "b.c"):
        paint(f"A/{stem}.png", mode="L")
        paint(f"B/{stem}.bmp")
    data = open_pairs(tmp_path)
    assert data.names("train") == ["10.png", "9.png", "b.c.png"]
    assert {name: field.shape[0] for name, field in data.spec.fields.items()} == {"A": 1, "B": 3}
    for index, stem in enumerate(["10", "9", "b.c"]):
        sample = data.read("train", index, None)
        assert np.array_equal(sample["A"], read_picture(tmp_path / f"A/{stem}.png"))
        assert np.array_equal(sample["B"], read_picture(tmp_path / f"B/{stem}.bmp"))


def sizes(*entries):
    """(names with sizes) -> a folder's contents."""
    return list(entries)


WRONG_PAIRS = [
    ([], "the folder is empty"),
    ([("A/0.png", 8, 8)], "the folder A of the split train has no partner: expected one for B"),
    (
        [("train/A/0.png", 8, 8), ("train/B/0.png", 8, 8), ("val/B/0.png", 8, 8)],
        "val/B of the split val has no partner",
    ),
    ([("0.png", 7, 8), ("1.png", 16, 8)], r"1 of 2 pictures has an odd width, the first: 0.png is 7x8"),
    (
        [("0.png", 8, 8), ("1.png", 9, 9)],
        r"expected A\|B side by side, but every picture is as wide as high .0.png is 8x8",
    ),
    ([("A/0.png", 64, 64), ("B/0.png", 32, 32)], r"1 of 1 pair is of unequal size.*A/0.png is 64x64, B/0.png is 32x32"),
    ([("A/0.png", 8, 8), ("B/0.png", 8, 8), ("A/1.png", 8, 8)], r"1 picture of .*/A without partner in B \(1.png\)"),
    ([("A/0.png", 8, 8), ("B/0.png", 8, 8), ("B/1.png", 8, 8), ("B/2.png", 8, 8)], r"2 pictures of .*/B without"),
    ([("A/0.png", 8, 8), ("A/1.png", 8, 8), ("B/0.png", 8, 8), ("B/2.png", 8, 8)], r"1.png\) and 1 picture of .*2.png"),
    ([("trainA/0.png", 8, 8), ("trainB/1.png", 8, 8)], "no name in common, so this looks unpaired"),
    ([("A/0.png", 8, 8), ("A/0.jpg", 8, 8), ("B/0.png", 8, 8)], "0.jpg and 0.png would both be 0; keep one"),
    ([("val/0.png", 16, 8), ("valid/1.png", 16, 8)], "mean the split val; keep one"),
]


@pytest.mark.parametrize(("contents", "message"), WRONG_PAIRS)
def test_pairs_that_are_refused_before_anything_is_decoded(tmp_path, paint, monkeypatch, contents, message):
    for name, width, height in contents:
        paint(name, width, height)

    def decode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(DataError, match=message) as caught:
        open_pairs(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    (tmp_path / "README.md").touch()
    (tmp_path / "pairs.zip").touch()
    with pytest.raises(
        DataError, match=r"no pictures among 2 files \(README.md, pairs.zip\).*Give .*/pairs.zip itself, or unpack it"
    ):
        open_pairs(tmp_path)


def test_splits_and_subfolders_of_images(tmp_path, paint):
    for name in ("train/b/0.png", "train/a/1.PNG", "test/2.jpeg", "test/notes.txt"):
        paint(name) if not name.endswith("txt") else (tmp_path / name).touch()
    data = open_images(tmp_path)
    assert data.splits == {"train": 2, "test": 1}
    assert data.names("train") == ["a/1.PNG", "b/0.png"]
    assert data.spec.fields["real"].shape == (3, 8, 8)


def test_a_flat_folder_trains_and_has_no_test_split(tmp_path, paint):
    paint("0.png")
    data = open_images(tmp_path)
    assert data.splits == {"train": 1}
    with pytest.raises(DataError, match='no split "test"'):
        data.check_split("test")


def test_only_a_test_split_can_be_judged_but_not_trained_on(tmp_path, paint):
    paint("test/0.png")
    data = open_pairs(tmp_path)
    assert data.splits == {"test": 1}
    with pytest.raises(DataError, match=r"nothing to train on: splits test"):
        data.check_batch(1)


@pytest.mark.parametrize(
    ("modes", "alpha", "channels"),
    [
        (["L", "1"], "white", 1),
        (["L", "RGB"], "white", 3),
        (["LA"], "white", 1),
        (["LA", "L"], "keep", 2),
        (["L", "RGBA"], "keep", 4),
        (["RGB"], "keep", 3),
        (["LA", "RGB"], "keep", 4),
    ],
)
def test_channels_of_a_field(tmp_path, paint, modes, alpha, channels):
    for number, mode in enumerate(modes):
        paint(f"{number}.png", mode=mode)
    data = open_images(tmp_path, alpha=alpha)
    assert data.spec.channels("real") == channels
    for index in range(len(modes)):
        assert data.read("train", index, 8)["real"].shape == (8, 8, channels)


def test_arrays_of_five_channels_and_pictures_do_not_mix(tmp_path, paint):
    np.save(tmp_path / "0.npy", np.zeros((8, 8, 5), np.uint8))
    assert open_images(tmp_path).spec.channels("real") == 5
    paint("1.png")
    with pytest.raises(DataError, match=r"different numbers of channels: 3 \(1.png\), 5 \(0.npy\)"):
        open_images(tmp_path)


@pytest.mark.parametrize(("resize", "shape"), [("stretch", (8, 8, 3)), ("crop", (8, 12, 3))])
def test_pictures_that_are_not_square(tmp_path, paint, resize, shape):
    paint("0.png", 30, 20)
    assert open_images(tmp_path, resize=resize).read("train", 0, 8)["real"].shape == shape


def test_unreadable_headers_are_left_out_or_fatal(tmp_path, paint):
    for name in ("A/0.png", "B/0.png", "A/1.png", "B/1.png"):
        paint(name)
    (tmp_path / "B/0.png").write_bytes(b"no picture")
    data = open_pairs(tmp_path)
    assert data.names("train") == ["1.png"]
    assert data.bad == {str(tmp_path / "B/0.png"): "this is no picture, or its header is damaged"}
    with pytest.raises(BadPictureError, match=r"B/0.png: this is no picture.*Replace it"):
        open_pairs(tmp_path, bad_images="fail")
    (tmp_path / "A/1.png").write_bytes(b"")
    with pytest.raises(BadPictureError, match=r"\(2 of 4 pictures cannot be read\)"):
        open_pairs(tmp_path)


def test_a_bomb_is_left_out_and_named(tmp_path, paint, monkeypatch):
    paint("0.png", 4, 4)
    paint("1.png", 6, 6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    data = open_images(tmp_path)
    assert data.names("train") == ["0.png"]
    assert "decompression bomb" in data.bad[str(tmp_path / "1.png")]


def test_the_fingerprint_follows_names_and_file_sizes_not_the_place(tmp_path, paint):
    first = paint("one/train/0.png")
    paint("two/train/0.png")
    (tmp_path / "two/train/0.png").write_bytes(first.read_bytes())
    one = open_pairs(tmp_path / "one").fingerprint
    assert open_pairs(tmp_path / "two").fingerprint == one
    paint("two/train/0.png", 32, 16)
    changed = open_pairs(tmp_path / "two").fingerprint
    (tmp_path / "two/train/0.png").rename(tmp_path / "two/train/1.png")
    assert len({one, changed, open_pairs(tmp_path / "two").fingerprint}) == 3


def test_a_link_to_a_folder_above_is_not_followed(tmp_path, paint):
    paint("x/0.png")
    paint("y/1.png")
    os.symlink(tmp_path, tmp_path / "x" / "loop")
    data = open_images(tmp_path)
    assert data.splits == {"train": 2}
    assert data.bad == {str(tmp_path / "x/loop"): "a link to a folder that it is in"}


def test_links_within_the_data_are_followed_and_the_folder_may_be_one(tmp_path, paint):
    paint("data/raw/0.png")
    (tmp_path / "data/train").mkdir()
    os.symlink("../raw/0.png", tmp_path / "data/train/a.png")
    os.symlink("../raw", tmp_path / "data/train/b")
    os.symlink(tmp_path / "data", tmp_path / "link")
    data = open_images(tmp_path / "link")
    assert data.names("train") == ["a.png", "b/0.png"]
    assert data.bad == {}


OUTSIDE = "a link that leads out of the data; put the file itself there"


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("data/9.png", "{tmp}/secret.png", OUTSIDE),
        ("data/9.png", "../secret.png", OUTSIDE),
        ("data/more", "{tmp}/folder", OUTSIDE),
        ("data/more", "/proc/self", OUTSIDE),
        ("data/9.png", "/dev/zero", OUTSIDE),
        ("data/9.png", "none.png", "a link to nothing"),
        ("data/notes.txt", "{tmp}/secret.png", None),  # nothing opens it
    ],
)
def test_links_that_lead_outside_are_left_out_and_named(tmp_path, paint, name, target, reason):
    paint("data/0.png")
    paint("secret.png")
    paint("folder/1.png")
    os.symlink(target.replace("{tmp}", str(tmp_path)), tmp_path / name)
    data = open_images(tmp_path / "data")
    assert data.names("train") == ["0.png"]
    assert data.bad == ({str(tmp_path / name): reason} if reason else {})
    if reason:
        with pytest.raises(BadPictureError, match=re.escape(f"{name}: {reason}")):
            open_images(tmp_path / "data", bad_images="fail")


def test_a_folder_of_links_that_lead_outside(tmp_path, paint):
    paint("raw/0.png")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "raw/0.png", tmp_path / "data/0.png")
    with pytest.raises(DataError, match=r"data: no pictures; 1 entry left out, the first: 0\.png: a link"):
        open_images(tmp_path / "data")


def test_a_pipe_is_not_opened(tmp_path, paint):
    paint("0.png")
    os.mkfifo(tmp_path / "1.png")
    assert open_images(tmp_path).bad == {str(tmp_path / "1.png"): "no file: a pipe, a socket or a device"}


def test_a_name_that_is_no_text_is_left_out(tmp_path, paint):
    paint("0.png")
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes((tmp_path / "0.png").read_bytes())
    data = open_images(tmp_path)
    assert data.names("train") == ["0.png"]
    assert list(data.bad.values()) == ["its name is no UTF-8; rename it"]
    assert all(path.isascii() for path in data.bad)


def test_exif_rotation_of_both_sides(tmp_path):
    upright = np.arange(32, dtype=np.uint8).reshape(4, 8)
    for side, orientation, stored in (("A", 6, upright.T[::-1]), ("B", 1, upright)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        (tmp_path / side).mkdir()
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / side / "0.png", exif=exif.tobytes())
    sample = open_pairs(tmp_path).read("train", 0, None)
    assert np.array_equal(sample["A"][:, :, 0], upright)
    assert np.array_equal(sample["B"][:, :, 0], upright)


def test_sigterm_lets_a_builder_clean_up(sources):
    """A real signal, in the middle of a builder that prepares its data."""
    import signal
    import sys

    steps = []

    def prepare(argument, options):
        steps.append("begun")
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            steps.append("cleaned up")

    sys.modules["dots_plugin"].prepare = prepare
    sources["slow"] = DataSource("slow", "Slow.", ("real",), "dots_plugin:prepare")
    with pytest.raises(SystemExit) as end:
        open_data("slow", ("real",), OPTIONS, sources)
    assert end.value.code == 143
    assert steps == ["begun", "cleaned up"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# How a user's word becomes a data source.


class Dots(Dataset):
    def __init__(self, argument, options):
        self.argument = argument
        self.spec = DataSpec({"real": FieldSpec("image", (1, options.size, options.size))}, 3)

    def read(self, split, index, size):
        return {"real": np.zeros((size or 8, size or 8, 1), np.uint8)}


def reads_dots(path: Path) -> bool:
    return path.suffix == ".dots"


def fails(path: Path) -> bool:
    raise RuntimeError("a bug")


@pytest.fixture
def sources(monkeypatch):
    """The built-in sources and one of a plugin."""
    import sys
    from types import ModuleType

    module = ModuleType("dots_plugin")
    module.Dots, module.reads_dots, module.fails = Dots, reads_dots, fails
    monkeypatch.setitem(sys.modules, "dots_plugin", module)
    dots = DataSource("dots", "Dots.", ("real",), "dots_plugin:Dots", "dots_plugin:reads_dots")
    return {**BUILT_IN, "dots": dots}


@pytest.mark.parametrize(("word", "argument"), [("dots", ""), ("dots:12,big", "12,big"), ("dots:a:b", "a:b")])
def test_a_source_by_name(sources, word, argument):
    assert open_data(word, ("real",), OPTIONS, sources).argument == argument


def test_a_source_that_recognises_a_file(sources, tmp_path):
    path = tmp_path / "x.dots"
    path.touch()
    assert open_data(str(path), ("real",), OPTIONS, sources).argument == str(path)


def test_a_built_in_source_by_name(sources, tmp_path, paint):
    paint("train/0.png")
    assert open_data(f"images:{tmp_path}", ("real",), OPTIONS, sources).layout == "images"
    with pytest.raises(DataError, match="Expected a folder of pictures, got none"):
        open_data("images", ("real",), OPTIONS, sources)


def test_missing_fields_name_both_sides(sources, tmp_path, paint):
    with pytest.raises(
        DataError, match=r"The variant needs A, B, the data source dots gives real\. Choose .* A, B too"
    ):
        open_data("dots", AB, OPTIONS, sources)
    paint("0.png", 8, 8)
    with pytest.raises(DataError, match=r"the variant needs real, mask, the data gives real \(images\)"):
        open_data(str(tmp_path), ("real", "mask"), OPTIONS, sources)
    with pytest.raises(DataError, match=r"1 picture of the split train is in none, so there is no label \(0\.png\)"):
        open_data(str(tmp_path), ("real", "label"), OPTIONS, sources)


def test_a_source_that_gives_less_than_it_states(sources):
    sources["dots"] = DataSource("dots", "Dots.", ("real", "label"), "dots_plugin:Dots")
    with pytest.raises(PluginError, match="its record states real, label, but what it built gives real"):
        open_data("dots", ("real",), OPTIONS, sources)


def test_a_recogniser_at_fault_does_not_stop_the_others(sources, tmp_path, paint):
    sources["dots"] = DataSource("dots", "Dots.", ("real",), "dots_plugin:Dots", "dots_plugin:fails")
    sources["lost"] = DataSource("lost", "Lost.", ("real",), "dots_plugin:Dots", "dots_plugin:lost")
    paint("0.png")
    assert open_data(str(tmp_path), ("real",), OPTIONS, sources).layout == "images"
    with pytest.raises(DataError, match="dots failed to look at it: a bug"):
        open_data(str(tmp_path), ("mask",), OPTIONS, sources)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("image", "no data source of that name. Did you mean images.* Data sources: captions, classes, .*, dots"),
        ("dot:3", "Did you mean dots"),
        ("", "Expected a folder or a data source .*, got nothing"),
        ("./nothing/here", "^./nothing/here: no such folder"),
        ("{tmp}/my-pair", "no such folder. Did you mean .*my-pairs"),
        ("{tmp}/file.txt", "expected a folder of pictures, got a file"),
    ],
)
def test_unknown_words(sources, tmp_path, word, message):
    (tmp_path / "my-pairs").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(DataError, match=message):
        open_data(word.replace("{tmp}", str(tmp_path)), ("real",), OPTIONS, sources)
