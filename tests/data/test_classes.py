"""Class folders: which label a picture has, the same classes in all splits, and who may take them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from ganengine.data import SOURCES, DataOptions, Loader, inspect, open_data
from ganengine.data.classes import recognise
from ganengine.data.pictures import read_picture
from ganengine.errors import DataError
from ganengine.variant import FieldSpec

BUILT_IN = {source.name: source for source in SOURCES}
OPTIONS = DataOptions(size=8)


def open_classes(path, fields=("real", "label"), options=OPTIONS):
    return open_data(str(path), fields, options, BUILT_IN)


def labels(data, split="train"):
    return {name: int(data.read(split, i, None)["label"]) for i, name in enumerate(data.names(split))}


@pytest.mark.parametrize("prefix", ["", "train/", "pets/train/"])
def test_labels_follow_the_sorted_names(tmp_path, paint, prefix):
    for name in ("dog/1.png", "cat/2.png", "cat/0.png", "Zebra/in/3.png"):
        paint(prefix + name)
    (tmp_path / "README.md").touch()
    data = open_classes(tmp_path)
    assert data.classes == ["Zebra", "cat", "dog"]
    assert labels(data) == {"Zebra/in/3.png": 0, "cat/0.png": 1, "cat/2.png": 1, "dog/1.png": 2}
    assert data.spec.fields == {"real": FieldSpec("image", (3, 8, 8)), "label": FieldSpec("label", (), 3)}
    assert data.layout == "class folders"
    assert np.array_equal(data.read("train", 1, None)["real"], read_picture(tmp_path / f"{prefix}cat/0.png"))


def test_numbers_are_sorted_by_value(tmp_path, paint):
    for name in ("10", "9", "2"):
        paint(f"{name}/0.png")
    assert open_classes(tmp_path).classes == ["2", "9", "10"]


def test_batches_have_labels_of_their_pictures(tmp_path, paint):
    for number in range(6):
        paint(f"{'ab'[number % 2]}x/{number}.png", mode="L")
    data = open_classes(tmp_path)
    with Loader(data, OPTIONS) as loader:
        for batch in (loader.draw(0, 9), loader.draw(9, 9), loader.fixed("train", 6)):  # from files, then from memory
            wanted = list(labels(data).values())
            assert batch.label.tolist() == [wanted[index] for index in batch.index.tolist()]


def test_a_zip_file_gives_the_same(tmp_path, paint):
    for name in ("train/cat/0.png", "train/dog/1.png", "test/dog/2.png"):
        paint(f"data/{name}")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in (tmp_path / "data").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    data, packed = open_classes(tmp_path / "data"), open_classes(tmp_path / "data.zip")
    assert packed.fingerprint == data.fingerprint
    assert labels(packed, "test") == labels(data, "test") == {"dog/2.png": 1}


def test_the_labels_are_part_of_the_fingerprint(tmp_path, paint):
    """A third class moves the labels, though not one file of the first two is another."""
    for name in ("b/0.png", "c/0.png"):
        paint(name)
    before = open_classes(tmp_path).fingerprint
    assert open_classes(tmp_path).fingerprint == before
    paint("a/0.png")
    assert open_classes(tmp_path).fingerprint != before


def test_a_class_that_is_missing_in_a_split_is_said(tmp_path, paint):
    for name in ("train/cat/0.png", "train/cow/0.png", "train/dog/1.png", "test/dog/2.png"):
        paint(name, 12, 8)
    data = open_classes(tmp_path)
    assert data.notes == ["The split test has no pictures of 2 classes (cat, cow)."]
    assert labels(data, "test") == {"dog/2.png": 2}
    assert data.notes[0] in inspect(tmp_path)["repairs"]


WRONG = [
    (["train/cat/0.png", "train/dog/0.png", "test/fox/0.png"], r"got 1 class \(fox\) besides\. Rename the folder"),
    (["cat/0.png", "dog/0.png", "1.png", "2.png"], r"2 pictures of the split train are in none.*\(1\.png, 2\.png\)"),
    (["train/cat/0.png"], r"two or more classes, got only cat/"),
    (["train/0.png", "train/1.png"], r"expected a folder for each class, as cat/0\.png"),
    ([], "the folder is empty"),
]


@pytest.mark.parametrize(("names", "message"), WRONG)
def test_what_is_refused(tmp_path, paint, names, message):
    for name in names:
        paint(name)
    with pytest.raises(DataError, match=message):
        open_classes(tmp_path)


def test_a_variant_that_needs_pictures_alone_takes_class_folders(tmp_path, paint):
    for name in ("train/cat/0.png", "train/dog/0.png", "test/fox/0.png"):
        paint(name)
    data = open_classes(tmp_path, ("real",))
    assert (data.layout, dict(data.splits), set(data.spec.fields)) == ("images", {"train": 2, "test": 1}, {"real"})


@pytest.mark.parametrize(
    ("names", "mirrors"), [("0123", False), ("ABx", False), (["cat", "dog"], True), (["10", "9"], True)]
)
@pytest.mark.parametrize("fields", [("real",), ("real", "label")])
def test_digits_and_letters_are_not_mirrored(tmp_path, paint, names, mirrors, fields):
    for name in names:
        paint(f"train/{name}/0.png", 8, 8)
    data = open_classes(tmp_path, fields)
    assert data.mirrors is mirrors
    with Loader(data, OPTIONS) as loader:
        batch = loader.draw(0, 40)
        upright = loader.fixed("train", len(names))
    kept = [bool((batch.real[row] == upright.real[batch.index[row]]).all()) for row in range(40)]
    assert all(kept) is not mirrors


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["cat/0.png", "dog/0.png"], True),
        (["train/cat/0.png", "train/dog/0.png"], True),
        (["A/0.png", "B/0.png", "C/0.png", "D/0.png"], True),
        (["A/0.png", "B/0.png"], False),
        (["trainA/0.png", "trainB/0.png"], False),
        (["cat/0.png"], False),
        (["cat/0.png", "dog/0.png", "x.png"], False),
        (["train/0.png", "test/0.png"], False),
    ],
)
def test_recognising(tmp_path, paint, names, known):
    for name in names:
        paint(name)
    assert recognise(tmp_path) is known
    assert not recognise(tmp_path / "none")


def test_the_report(tmp_path, paint):
    for name in ("train/A/0.png", "train/B/0.png", "train/C/0.png", "train/D/0.png", "train/D/1.png", "test/A/9.png"):
        paint(name, 12, 8)
    report = inspect(tmp_path)
    assert (report["source"], report["problem"]) == ("classes", None)
    assert report["fields"]["label"] == {
        "classes": {
            "A": {"train": 1, "test": 1},
            "B": {"train": 1, "test": 0},
            "C": {"train": 1, "test": 0},
            "D": {"train": 2, "test": 0},
        }
    }
    assert report["fields"]["real"]["sizes"] == {"12x8": 6}
