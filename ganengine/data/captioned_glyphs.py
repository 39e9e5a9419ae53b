"""The data source `captioned-glyphs`: coloured digits, each with sentences that say which, in what colour and where."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from itertools import product

import numpy as np
import PIL

from ganengine import draws
from ganengine.data.dataset import Dataset, hash_record
from ganengine.data.glyphs import draw_character, font_folder
from ganengine.data.options import DataOptions
from ganengine.data.text import CODES, encode_all, length_for
from ganengine.errors import UserError
from ganengine.variant import DataSpec, FieldSpec

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HUES: Mapping[str, float] = {"red": 0.0, "yellow": 55.0, "green": 125.0, "blue": 225.0, "purple": 290.0}
"""Degrees on the circle of hues."""
HUE_SPREAD = 8.0
"""A hue is at most so far from its colour's, in degrees."""
PLACES: Mapping[str, float] = {"left": -0.21, "middle": 0.0, "right": 0.21}
"""Where the middle of a digit is, as a share of the side from the picture's middle."""
PHRASES = (
    "a {colour} {digit}, {place}",
    "{digit} in {colour} on the {place}",
    "the {place} shows a {colour} {digit}",
    "{place}: a {digit} drawn in {colour}",
)
FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")
COUNTS = {"train": 6000, "test": 1000}
SIDE = 32
HEIGHT = (0.52, 0.6)
TURN = 5.0
SHIFT = 0.02


class CaptionedGlyphs(Dataset):
    """Digits on black, each by its index: colour, digit and place by its turn, font and jitter drawn.

    Of the 150 combinations the test split has those that training lacks: every digit in every colour is trained in two
    places and tested in the third, place number (digit + colour) % 3. Fields: `real`, `captions` (as in
    `ganengine.data.captions`: every picture has all phrases) and `label`, the digit.

    Args:
        argument: nothing, or how many training pictures there are.
        options: how pictures are to be read.

    Raises:
        UserError: an argument that is no number, or matplotlib is not installed.
    """

    def __init__(self, argument: str, options: DataOptions) -> None:
        if argument and not (argument.isascii() and argument.isdigit() and 0 < int(argument) <= 10**7):
            raise UserError(f'expected captioned-glyphs, or captioned-glyphs:COUNT; got "captioned-glyphs:{argument}".')
        self.classes = list(DIGITS)
        self.mirrors = False
        self._fonts = [font_folder() / f"{name}.ttf" for name in FONTS]
        self._counts = {**COUNTS, **({"train": int(argument)} if argument else {})}
        every = list(product(range(len(DIGITS)), range(len(HUES)), range(len(PLACES))))
        held_out = [(digit, colour, place) for digit, colour, place in every if (digit + colour) % 3 == place]
        turns = {"train": [each for each in every if each not in held_out], "test": held_out}
        # In an order in which neighbours differ in all three.
        self.turns = {
            split: [found[i] for i in np.random.default_rng(draws.key(0, split)).permutation(len(found))]
            for split, found in turns.items()
        }
        longest = max(len(text) for turn in every for text in phrases(*turn))
        self._form = (len(PHRASES), length_for(longest))
        size = options.size
        self.spec = DataSpec(
            {
                "real": FieldSpec("image", (3, size, size)),
                "captions": FieldSpec("ids", self._form, CODES),
                "label": FieldSpec("label", (), len(DIGITS)),
            },
            self._counts["train"],
        )

    @property
    def splits(self) -> Mapping[str, int]:
        return self._counts

    @property
    def natural_side(self) -> int:
        return SIDE

    @property
    def fingerprint(self) -> str:
        return hash_record([dict(self._counts), PHRASES, list(FONTS), PIL.__version__])

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        digit, colour, place = self.turns[split][index % len(self.turns[split])]
        draw = np.random.default_rng(draws.key(0, "captioned-glyphs", split, index))
        font = self._fonts[draw.integers(len(self._fonts))]
        height, turn, across, down, hue, bright = draw.uniform(-1, 1, 6)
        ink = draw_character(
            font,
            str(digit),
            size or SIDE,
            stroke=1,
            height=sum(HEIGHT) / 2 + (HEIGHT[1] - HEIGHT[0]) / 2 * height,
            turn=TURN * turn,
            shear=0.0,
            shift=([*PLACES.values()][place] + SHIFT * across, SHIFT * down),
        )
        tone = ([*HUES.values()][colour] + HUE_SPREAD * hue) % 360 / 360
        rgb = np.array(colorsys.hsv_to_rgb(tone, 0.9, 0.925 + 0.075 * bright))
        return {
            "real": np.round(ink[:, :, None] * rgb).astype(np.uint8),
            "captions": encode_all(phrases(digit, colour, place), *self._form),
            "label": np.asarray(digit),
        }


def phrases(digit: int, colour: int, place: int) -> list[str]:
    """Return the captions of a combination."""
    words = {"digit": DIGITS[digit], "colour": [*HUES][colour], "place": [*PLACES][place]}
    return [phrase.format(**words) for phrase in PHRASES]
