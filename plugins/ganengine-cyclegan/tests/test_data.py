"""The data source sketched-letters: unpaired in training, pairs to test with, the same pictures every time."""

from __future__ import annotations

import numpy as np
import pytest
from ganengine.data import DataOptions
from ganengine.errors import DataError, UserError
from PIL import Image, ImageFilter

from ganengine_cyclegan.data import OVER, Letters, paint, sketch

pytest.importorskip("matplotlib", reason="needs the extra: pip install 'ganengine-cyclegan[data]'")


def bar(side: int) -> Image.Image:
    """Return a mask with an upright bar over its middle half."""
    mask = np.zeros((OVER * side, OVER * side), np.uint8)
    mask[OVER * side // 8 : -OVER * side // 8, OVER * side // 4 : -OVER * side // 4] = 255
    return Image.fromarray(mask)


def test_a_bar_in_both_looks() -> None:
    noise = np.random.default_rng(0)
    inked, painted = sketch(bar(64), noise).astype(int), paint(bar(64), noise).astype(int)
    assert inked.shape == painted.shape == (64, 64, 3)
    row = inked[32].sum(1)
    assert (row[[16, 47]] < 400).all(), "ink along both edges"
    assert (row[[4, 24, 32, 40, 60]] > 600).all(), "paper on both sides of it"
    red, blue = painted[..., 0], painted[..., 2]
    assert (red[12:52, 20:44] > 180).all(), "paint inside"
    assert (red[2:60, 2:12] < 100).all(), "wall outside"
    assert painted[10, 32, 1] > painted[54, 32, 1] + 60, "yellow above, red below"
    assert blue[30, 50] < blue[30, 60] - 10, "a shadow beside it"


def test_splits() -> None:
    letters = Letters("", DataOptions(size=32))
    assert letters.splits == {"train": 3000, "test": 260}
    assert letters.spec.count == 3000
    assert {name: field.shape for name, field in letters.spec.fields.items()} == {"A": (3, 32, 32), "B": (3, 32, 32)}
    assert (letters.aligned("train"), letters.aligned("test")) == (False, True)
    assert not letters.mirrors
    assert (letters.natural_side, letters.shown_split) == (64, "test")
    assert Letters("", DataOptions(size=64)).fingerprint == letters.fingerprint


def test_samples_repeat_and_only_those_to_test_with_are_pairs() -> None:
    letters, again = Letters("", DataOptions(size=64)), Letters("", DataOptions(size=64, seed=3))

    def covered(sample: dict[str, np.ndarray]) -> float:
        """Return the share of the ink that lies on the paint or within 2 pixels of it."""
        ink, painted = sample["A"].sum(2) < 350, sample["B"][..., 0] > 140
        near = np.asarray(Image.fromarray(painted).convert("L").filter(ImageFilter.MaxFilter(5))) > 0
        return float((ink & near).sum() / ink.sum())

    shares: dict[str, list[float]] = {"train": [], "test": []}
    for split, found in shares.items():
        for index in range(12):
            sample = letters.read(split, index, 64)
            assert all(np.array_equal(sample[name], again.read(split, index, 64)[name]) for name in "AB")
            assert all(array.shape == (64, 64, 3) and array.dtype == np.uint8 for array in sample.values())
            found.append(covered(sample))
    assert min(shares["test"]) > 0.97, "ink lies where the paint is"
    assert max(shares["train"]) < 0.9


def test_other_sizes_show_the_same_letters() -> None:
    letters = Letters("", DataOptions(size=64))
    small, large = (letters.read("test", 5, size)["B"] for size in (32, 128))
    shrunk = np.asarray(Image.fromarray(large).resize((32, 32), Image.Resampling.BOX), int)
    assert np.abs(shrunk - small).mean() < 12
    assert letters.read("test", 5, None)["A"].shape == (64, 64, 3)


def test_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="expected no argument"):
        Letters("digits", DataOptions())
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match="matplotlib"):
        Letters("", DataOptions())
