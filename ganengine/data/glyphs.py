"""The data source `glyphs`: digits, letters or any characters, white on black, drawn from the fonts of matplotlib."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont

from ganengine import draws
from ganengine.data.dataset import Dataset, hash_record
from ganengine.data.options import DataOptions
from ganengine.errors import UserError
from ganengine.variant import DataSpec, FieldSpec

SETS = {"": "0123456789", "digits": "0123456789", "letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
"""What may stand behind `glyphs:` instead of the characters themselves."""
COUNTS = {"train": 6000, "test": 1000}
FONTS = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSans-Oblique",
        "DejaVuSerif",
        "DejaVuSerif-Bold",
        "DejaVuSerif-Italic",
        "DejaVuSerif-BoldItalic",
        "DejaVuSansMono",
        "DejaVuSansMono-Oblique",
        "STIXGeneral",
        "STIXGeneralBol",
        "STIXGeneralItalic",
        "cmr10",
        "cmb10",
        "cmtt10",
    ),
    "test": ("DejaVuSans-BoldOblique", "DejaVuSansMono-Bold", "STIXGeneralBolIta", "cmss10", "cmti10"),
}
"""Test fonts are of the families that training knows, in cuts that it does not."""
SIDE = 28
"""Side in pixels where none is asked for, that of digit data."""
EM = 96
"""Size in pixels that characters are drawn at before they are turned and made smaller."""
STROKES = (0, 1, 2)
"""How much bolder than its font a character may be, in pixels on each side of a line at `EM`."""
HEIGHT = (0.6, 0.76)
"""Height of capitals, as a share of the side; that of the digits of MNIST is 0.71."""
TURN = 10.0
"""Largest rotation in degrees."""
SHEAR = 0.18
SHIFT = 0.07
"""Largest shift, as a share of the side."""
REACH = 0.47
"""Largest distance from the middle in either direction, as a share of the side: nothing is cut off."""


class Glyphs(Dataset):
    """Characters drawn from fonts, each by its index: font, boldness, height, rotation, shear and shift.

    Samples are the same for any seed of the run, and the same pictures at any size. Character i of a split is number
    i % len(characters).

    Args:
        argument: "", "digits", "letters", or the characters.
        options: how pictures are to be read.

    Raises:
        UserError: matplotlib is not installed, or a character that none of its fonts has.
    """

    def __init__(self, argument: str, options: DataOptions) -> None:
        self.classes = list(dict.fromkeys(SETS.get(argument, argument)))
        if len(self.classes) < 2:
            raise UserError(f'glyphs: expected digits, letters or two or more characters, got "{argument}".')
        self.mirrors = False
        folder = font_folder()
        self._fonts = {split: [_usable(folder, names, c) for c in self.classes] for split, names in FONTS.items()}
        for number, character in enumerate(self.classes):
            every = [font for fonts in self._fonts.values() for font in fonts[number]]
            if not every:
                raise UserError(
                    f"glyphs: expected characters that the fonts of matplotlib draw, got {character!a}. Leave it out."
                )
            for fonts in self._fonts.values():  # one that few fonts have is drawn from the same in both splits
                fonts[number] = fonts[number] or every
        self.spec = DataSpec(
            {
                "real": FieldSpec("image", (1, options.size, options.size)),
                "label": FieldSpec("label", (), len(self.classes)),
            },
            COUNTS["train"],
        )

    @property
    def splits(self) -> Mapping[str, int]:
        return COUNTS

    @property
    def natural_side(self) -> int:
        return SIDE

    @property
    def fingerprint(self) -> str:
        fonts = {split: [[font.name for font in each] for each in found] for split, found in self._fonts.items()}
        return hash_record([list(self.classes), fonts, PIL.__version__])

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        label = index % len(self.classes)
        fonts = self._fonts[split][label]
        draw = np.random.default_rng(draws.key(0, "glyphs", split, index))
        font, stroke = fonts[draw.integers(len(fonts))], STROKES[draw.integers(len(STROKES))]
        height, turn, shear, across, down = draw.uniform(-1, 1, 5)
        side = size or SIDE
        low, high = HEIGHT
        picture = draw_character(
            font,
            self.classes[label],
            side,
            stroke=stroke,
            height=low + (high - low) * (height + 1) / 2,
            turn=TURN * turn,
            shear=SHEAR * shear,
            shift=(SHIFT * across, SHIFT * down),
        )
        return {"real": picture[:, :, None], "label": np.asarray(label)}


def draw_character(
    font: Path,
    character: str,
    side: int,
    *,
    stroke: int,
    height: float,
    turn: float,
    shear: float,
    shift: tuple[float, float],
) -> np.ndarray:
    """Return a character, white on black, whole: [side, side], uint8.

    Args:
        font: a file of matplotlib's fonts.
        character: one that the font has.
        side: in pixels.
        stroke: boldness beyond the font's own, in pixels at `EM`.
        height: of the font's capitals, as a share of the side.
        turn: in degrees.
        shear: share of the height that the top is pushed aside.
        shift: of the middle, right and down, as a share of the side; less where it would be cut off.
    """
    over = max(1, round(EM / side))  # as fine as the drawing; the mean of these pixels is a sample's
    mask, capital = _draw(font, character, stroke)
    scale = over * side * height / capital
    angle = math.radians(turn)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = scale * matrix @ np.array([[1.0, shear], [0.0, 1.0]])
    reach = np.abs(matrix) @ (np.array(mask.size) / 2)  # of the corners
    limit = REACH * over * side
    if reach.max() > limit:
        matrix, reach = matrix * (limit / reach.max()), reach * (limit / reach.max())
    moved = np.clip(over * side * np.array(shift), reach - limit, limit - reach)
    back = np.linalg.inv(matrix)
    origin = np.array(mask.size) / 2 - back @ (over * side / 2 + moved)
    picture = mask.transform(
        (over * side, over * side),
        Image.Transform.AFFINE,
        (*back[0], origin[0], *back[1], origin[1]),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(picture.reduce(over))


def font_folder() -> Path:
    """Return the folder of matplotlib's fonts.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib  # only for its fonts, when they are asked for
    except ImportError as error:
        raise UserError(
            "glyphs: expected matplotlib, whose fonts the characters are drawn from; it is not installed. "
            "Run: pip install ganengine[report], or pip install matplotlib."
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _usable(folder: Path, names: Sequence[str], character: str) -> list[Path]:
    """Return the fonts among `names` that have a character; those of TeX have few beside ASCII letters and digits."""
    plain = character.isascii() and character.isalnum()
    paths = [folder / f"{name}.ttf" for name in names if plain or not name.startswith("cm")]
    return [path for path in paths if path.exists() and _has(path, character)]


def _has(path: Path, character: str) -> bool:
    with _LOCK:
        font = _load(path)
        drawn, missing = (bytes(font.getmask(letter)) for letter in (character, "\U0010ffff"))
    return any(drawn) and drawn != missing


@functools.lru_cache(maxsize=4096)
def _draw(path: Path, character: str, stroke: int) -> tuple[Image.Image, int]:
    """Return a character at `EM`, cut to its ink, and the height of the font's capitals in the same pixels."""
    with _LOCK:
        font = _load(path)
        _, top, _, bottom = font.getbbox("H")
        canvas = Image.new("L", (4 * EM, 4 * EM))
        ImageDraw.Draw(canvas).text((EM, EM), character, 255, font, stroke_width=stroke)
    box = canvas.getbbox()
    margin = 2  # so that edges stay soft
    assert box is not None, "a character without ink was refused"
    left, upper, right, lower = box
    return canvas.crop((left - margin, upper - margin, right + margin, lower + margin)), round(bottom - top)


@functools.lru_cache(maxsize=64)
def _load(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), EM)


_LOCK = Lock()
"""A font is used by one thread at a time."""
