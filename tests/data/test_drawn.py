"""Data that the engine draws: points of Gaussians, characters from fonts; and torchvision's, by a stand-in for it."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ganengine.data import SOURCES, DataOptions, Loader, open_data
from ganengine.data.glyphs import FONTS, Glyphs
from ganengine.errors import DataError, UserError
from ganengine.variant import FieldSpec

BUILT_IN = {source.name: source for source in SOURCES}
BOTH = ("real", "label")


def draw(word, fields=BOTH, size=28):
    return open_data(word, fields, DataOptions(size=size), BUILT_IN)


# ----------------------------------------------------------------------------------------------------------------
# Points


RING = [(2 * np.cos(a), 2 * np.sin(a)) for a in np.radians(np.arange(0, 360, 45))]
GRID = [(x, y) for y in (-4, -2, 0, 2, 4) for x in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize(("word", "centres"), [("ring", RING), ("grid25", GRID)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_points_lie_around_the_stated_centres(word, centres, split):
    data = draw(word)
    assert dict(data.splits) == {"train": 2500, "test": 2500}
    assert data.spec.fields == {"real": FieldSpec("vector", (2,)), "label": FieldSpec("label", (), len(centres))}
    np.testing.assert_allclose(data.centres, centres, atol=1e-12)
    rows = data.read_many(split, list(range(2500)), 8)
    assert rows["real"].dtype == np.float32
    off = rows["real"] - np.array(centres)[rows["label"]]
    assert abs(off.std() - 0.02) < 0.001
    assert abs(off.mean()) < 0.001
    assert np.hypot(*off.T).max() < 0.1
    counts = np.bincount(rows["label"])
    assert len(counts) == len(centres)
    assert counts.max() - counts.min() <= 1


def test_splits_are_other_draws_and_every_opening_gives_the_same():
    a, b = draw("ring"), draw("ring")
    assert np.array_equal(a.arrays["train"]["real"], b.arrays["train"]["real"])
    assert a.fingerprint == b.fingerprint != draw("ring:9").fingerprint
    points = {split: set(map(tuple, a.arrays[split]["real"].tolist())) for split in a.splits}
    assert not points["train"] & points["test"]


def test_other_numbers_of_modes_and_points():
    data = draw("ring:5,100")
    assert (data.spec.count, data.classes) == (100, ["0", "1", "2", "3", "4"])
    assert draw("grid25:50").spec.count == 50


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ring:x", 'expected ring:MODES,COUNT, whole numbers, or ring alone; got "ring:x"'),
        ("ring:8,9,9", "expected ring:MODES,COUNT"),
        ("ring:-3", "expected ring:MODES,COUNT"),
        ("ring:1", "expected MODES of at least 2"),
        ("ring:8,0", "COUNT of at least 1"),
        ("grid25:1.5", "expected grid25:COUNT"),
        ("ring:99999999999", "expected ring:MODES,COUNT"),
    ],
)
def test_wrong_numbers(word, message):
    with pytest.raises(UserError, match=message):
        draw(word)


def test_vectors_are_batched_as_they_are():
    """Neither cropped nor mirrored nor scaled, and shown in a preview."""
    data = draw("ring")
    with Loader(data, DataOptions(flip=True, load_size=140)) as loader:
        batch, shown = loader.draw(2490, 64), loader.fixed(data.shown_split, 8)
    assert (batch.real.dtype, batch.label.dtype) == (torch.float32, torch.int64)
    assert torch.equal(batch.real, torch.from_numpy(data.arrays["train"]["real"][batch.index]))
    assert torch.equal(batch.label, torch.from_numpy(data.arrays["train"]["label"][batch.index]))
    assert torch.equal(shown.real, torch.from_numpy(data.arrays["test"]["real"][:8]))


# ----------------------------------------------------------------------------------------------------------------
# Characters


pytest.importorskip("matplotlib", reason="its fonts are drawn from")


@pytest.mark.parametrize(
    ("word", "classes"),
    [("glyphs", "0123456789"), ("glyphs:letters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), ("glyphs:aQaj", "aQj")],
)
def test_characters_and_their_labels(word, classes):
    data = draw(word)
    assert (data.classes, data.mirrors, data.natural_side) == (list(classes), False, 28)
    assert dict(data.splits) == {"train": 6000, "test": 1000}
    assert data.spec.fields == {"real": FieldSpec("image", (1, 28, 28)), "label": FieldSpec("label", (), len(classes))}
    assert [int(data.read("train", index, 28)["label"]) for index in range(5)] == [i % len(classes) for i in range(5)]


@pytest.mark.parametrize("size", [16, 28, 32, 64, 128])
def test_a_character_is_white_on_black_whole_and_the_same_at_any_size(size):
    data = draw("glyphs:letters")
    for index in (0, 4, 22, 3004):
        picture = data.read("train", index, size)["real"]
        assert (picture.shape, picture.dtype) == ((size, size, 1), np.uint8)
        assert max(picture[0].max(), picture[-1].max(), picture[:, 0].max(), picture[:, -1].max()) < 128
        assert picture.max() > 200
        assert 0.04 < picture.mean() / 255 < 0.5
        small = np.asarray(Image.fromarray(picture[:, :, 0]).resize((16, 16), Image.Resampling.BOX), int)
        other = np.asarray(Image.fromarray(data.read("train", index, 112)["real"][:, :, 0]).reduce(7), int)
        assert abs(small - other).mean() < 12


def test_samples_follow_from_the_index_alone():
    data, other = draw("glyphs"), draw("glyphs")
    backwards = {index: other.read("train", index, 28)["real"] for index in reversed(range(60))}
    pictures = [data.read("train", index, 28)["real"] for index in range(60)]
    assert all(np.array_equal(picture, backwards[index]) for index, picture in enumerate(pictures))
    assert len({picture.tobytes() for picture in pictures}) == 60
    assert not np.array_equal(pictures[0], data.read("test", 0, 28)["real"])
    assert data.fingerprint == other.fingerprint != draw("glyphs:01").fingerprint


def test_the_test_split_has_fonts_of_its_own():
    data = Glyphs("", DataOptions())
    used = {split: {font.stem for fonts in found for font in fonts} for split, found in data._fonts.items()}
    assert used == {split: set(names) for split, names in FONTS.items()}
    assert not used["train"] & used["test"]


def test_a_character_that_few_fonts_have_is_drawn_all_the_same():
    data = draw("glyphs:a\u20b4")  # a sign that DejaVu Sans has, and few others
    assert data.read("test", 1, 28)["real"].max() > 200


def test_classes_can_be_told_apart():
    """The mean of its class is nearest for most test characters, though their fonts are others."""
    data = draw("glyphs:014")
    pictures = np.stack([data.read("train", index, 16)["real"].ravel() for index in range(300)]).astype(float)
    means = np.stack([pictures[start::3].mean(axis=0) for start in range(3)])
    test = np.stack([data.read("test", index, 16)["real"].ravel() for index in range(90)]).astype(float)
    nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == np.arange(90) % 3).mean() > 0.8


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("glyphs:a", "two or more characters"),
        ("glyphs:a\uffff", r"that the fonts of matplotlib draw, got '\\uffff'"),
        ("glyphs:a ", "got ' '"),
    ],
)
def test_characters_that_cannot_be_drawn(word, message):
    with pytest.raises(UserError, match=message):
        draw(word)


def without(monkeypatch, name, error):
    """Let the import of a package fail."""
    found = builtins.__import__

    def fail(module, *rest, **named):
        if module.partition(".")[0] == name:
            raise error
        return found(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", fail)


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    without(monkeypatch, "matplotlib", ImportError("No module named 'matplotlib'"))
    with pytest.raises(UserError, match=r"pip install ganengine\[report\], or pip install matplotlib"):
        draw("glyphs")


# ----------------------------------------------------------------------------------------------------------------
# torchvision


class VisionDataset:
    pass


class Digits(VisionDataset):
    """What torchvision's classes look like from outside."""

    classes = ("0 - zero", "1 - one", "2 - two")
    mode = "L"

    def __init__(self, root, train=True, transform=None, download=False):
        self.root, self.train = root, train
        if root.endswith("empty") and not download:
            raise RuntimeError("Dataset not found. You can use download=True to download it")

    def __len__(self):
        return 6 if self.train else 4

    def __getitem__(self, index):
        level = 40 * index + (0 if self.train else 5)
        return Image.new("L", (12, 12), level).convert(self.mode), index % 3


class Flowers(Digits):
    mode = "RGB"

    def __init__(self, root, split="train", download=False):
        super().__init__(root, split == "train", None, download)
        if split == "val":
            raise ValueError("Unknown value 'val' for argument split")


class Faces(Digits):
    classes = ()


class Letters(Digits):
    def __init__(self, root, split, train=True):
        super().__init__(root, train)


@pytest.fixture
def torchvision(monkeypatch):
    datasets = ModuleType("torchvision.datasets")
    kinds = (VisionDataset, Digits, Flowers, Faces, Letters)
    vars(datasets).update({kind.__name__: kind for kind in kinds}, __all__=[kind.__name__ for kind in kinds])
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.usefixtures("torchvision")
def test_data_sets_of_torchvision():
    data = draw("torchvision:Digits", size=8)
    assert dict(data.splits) == {"train": 6, "test": 4}
    assert data.spec.fields == {"real": FieldSpec("image", (1, 8, 8)), "label": FieldSpec("label", (), 3)}
    assert (data.classes[0], data.mirrors, data.natural_side) == ("0 - zero", False, 12)
    sample = data.read("test", 2, 8)
    assert (sample["real"] == 85).all()
    assert sample["real"].shape == (8, 8, 1)
    assert sample["label"] == 2
    with Loader(data, DataOptions(size=8)) as loader:
        assert loader.draw(0, 6).label.sort().values.tolist() == [0, 0, 1, 1, 2, 2]
    colour = draw("torchvision:Flowers")
    assert (dict(colour.splits), colour.spec.channels("real"), colour.mirrors) == ({"train": 6, "test": 4}, 3, True)


@pytest.mark.usefixtures("torchvision")
def test_nothing_is_downloaded_unless_the_user_says_so(tmp_path, cache):
    assert draw("torchvision:Digits")._found["train"].root == str(cache / "torchvision")
    with pytest.raises(DataError, match=r"Dataset not found.*torchvision:Digits,download"):
        draw(f"torchvision:Digits,{tmp_path}/empty")
    data = draw(f"torchvision:Digits,{tmp_path}/empty,download")
    assert data._found["train"].root == f"{tmp_path}/empty"


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    ("word", "fields", "message"),
    [
        ("torchvision:Digit", BOTH, 'expected the name of a data set, got "Digit". Did you mean Digits'),
        ("torchvision", BOTH, r'torchvision:NAME\[,FOLDER\]\[,download\]: expected the name of a data set, got ""'),
        ("torchvision:Letters", BOTH, "needs root, split. Give the folder"),
        ("torchvision:Faces", BOTH, "states no classes, so there are no labels"),
    ],
)
def test_what_torchvision_does_not_give(word, fields, message):
    with pytest.raises(DataError, match=message):
        draw(word, fields)


@pytest.mark.usefixtures("torchvision")
def test_data_without_classes_gives_pictures():
    assert set(draw("torchvision:Faces", ("real",)).spec.fields) == {"real"}


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'torchvision'"), RuntimeError("operator nms does not exist")]
)
def test_without_torchvision_the_remedy_is_named(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr("ganengine.data.torchvision.importlib", SimpleNamespace(import_module=fail))
    with pytest.raises(UserError, match=r"it cannot be imported .*pip install torchvision"):
        draw("torchvision:MNIST")
