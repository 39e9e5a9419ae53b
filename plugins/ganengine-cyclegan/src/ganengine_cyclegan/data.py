"""The data source `sketched-letters`: letters sketched in ink, and letters painted on a wall, drawn from fonts.

No letter has a partner in training: A and B are drawn from different numbers. Those to test with come in pairs, one
letter in both looks, so that translations can be scored.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ganengine import draws
from ganengine.data import DataOptions, Dataset
from ganengine.data.glyphs import Glyphs
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec
from numpy.typing import NDArray
from PIL import Image, ImageFilter

OVER = 3
"""Letters are drawn so many times larger than they are shown."""
SIDE = 64
"""Side in pixels where none is asked for."""
COUNTS = {"train": 3000, "test": 260}
NIB = 1 / 26
"""Width of an ink line, as a share of the side."""

INK = np.array((0.16, 0.18, 0.30))
PAPER = np.array((0.97, 0.95, 0.90))
WALL = np.array((0.10, 0.24, 0.36))
ABOVE = np.array((1.00, 0.82, 0.25))
BELOW = np.array((0.93, 0.24, 0.42))
"""The paint runs from one colour at the top of a picture to the other at its bottom."""


class Letters(Dataset):
    """Letters in two looks: an ink outline on paper (A), and colours on a rough wall (B).

    Args:
        argument: "", since there is one set.
        options: how pictures are read.

    Raises:
        DataError: there is an argument.
        UserError: matplotlib, which brings the fonts, is not installed.
    """

    def __init__(self, argument: str, options: DataOptions) -> None:
        if argument:
            raise DataError(f'sketched-letters: expected no argument, got "{argument}". Write sketched-letters alone.')
        self.mirrors = False
        self._letters = Glyphs("letters", options)
        image = FieldSpec("image", (3, options.size, options.size))
        self.spec = DataSpec({"A": image, "B": image}, COUNTS["train"])

    @property
    def splits(self) -> Mapping[str, int]:
        return COUNTS

    @property
    def natural_side(self) -> int:
        return SIDE

    @property
    def fingerprint(self) -> str:
        return self._letters.fingerprint

    def aligned(self, split: str) -> bool:
        return split != "train"

    def read(self, split: str, index: int, size: int | None) -> dict[str, NDArray[np.uint8]]:
        side = size or SIDE
        other = index + COUNTS["train"] if split == "train" else index
        noise = np.random.default_rng(draws.key(0, "sketched-letters", split, index))
        return {"A": sketch(self._mask(split, index, side), noise), "B": paint(self._mask(split, other, side), noise)}

    def _mask(self, split: str, index: int, side: int) -> Image.Image:
        return Image.fromarray(self._letters.read(split, index, OVER * side)["real"][:, :, 0])


def sketch(mask: Image.Image, noise: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the outline of a letter in ink on paper.

    Args:
        mask: the letter, white on black, `OVER` times as large as the result.
        noise: where the grain of the paper comes from.

    Returns:
        [side, side, 3], uint8.
    """
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(NIB * mask.width / 2)), np.float64) / 255
    line = _smaller((8 * soft * (1 - soft) - 0.5).clip(0, 1))  # where a blurred letter is neither inside nor outside
    return _finish(line * INK + (1 - line) * PAPER, 0.012, noise)


def paint(mask: Image.Image, noise: np.random.Generator) -> NDArray[np.uint8]:
    """Fill a letter with colour, on a rough wall that it throws a soft shadow on; arguments and result as `sketch`."""
    side = mask.width // OVER
    drop = round(mask.width / 24)
    shadow = Image.new("L", mask.size)
    shadow.paste(mask, (drop, drop))
    dark = _smaller(np.asarray(shadow.filter(ImageFilter.GaussianBlur(mask.width / 48)), np.float64) / 255)
    wall = WALL * (1 - 0.65 * dark) * (1 + 0.2 * _clouds(side, noise))
    letter = _smaller(np.asarray(mask, np.float64) / 255)
    share = np.linspace(-0.15, 1.15, side).clip(0, 1)[:, None, None]
    return _finish(letter * ((1 - share) * ABOVE + share * BELOW) + (1 - letter) * wall, 0.02, noise)


def _smaller(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means over squares of `OVER` pixels of a picture, [side, side, 1]."""
    side = len(picture) // OVER
    smaller: NDArray[np.float64] = picture.reshape(side, OVER, side, OVER).mean((1, 3))
    return smaller[:, :, None]


def _clouds(side: int, noise: np.random.Generator) -> NDArray[np.float64]:
    """Return smooth noise of about unit size, [side, side, 1]."""
    coarse = noise.standard_normal((6, 6)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.float64)[:, :, None]


def _finish(picture: NDArray[np.float64], grain: float, noise: np.random.Generator) -> NDArray[np.uint8]:
    """Add grain of that deviation and round to 8 bits."""
    rough = picture + grain * noise.standard_normal((*picture.shape[:2], 1))
    rounded: NDArray[np.uint8] = np.rint(255 * rough.clip(0, 1)).astype(np.uint8)
    return rounded
