"""The previews of a run, chosen evenly over time and recompressed so that a page can hold them."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image, features

from ganengine.data.dataset import BadPictureError
from ganengine.data.headers import open_picture

COUNT = 40
"""At most so many previews."""
BUDGET = 6_000_000
"""At most so many bytes of them together, as they stand in the page."""
SIDE = 1600
"""Longest side in pixels."""
SMALL = 320
"""Narrower sheets are shown larger, pixel by pixel, and kept without loss."""

_NAME = re.compile(r"\d{1,18}\.png")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Frame:
    """One preview, ready for a page."""

    images: int
    """Images shown when it was made."""
    width: int
    height: int
    uri: str

    @property
    def zoom(self) -> int:
        """By how much it is shown larger than it is."""
        return max(1, SMALL // self.width)


def read_frames(folder: Path, count: int = COUNT, budget: int = BUDGET) -> tuple[list[Frame], int, list[str]]:
    """Return previews from first to last, how many there are in all, and what could not be read.

    Args:
        folder: the run's `samples` folder; it may be missing.
        count: at most so many.
        budget: bytes that they may take together; fewer are taken, evenly again, where they would take more.
    """
    paths = sorted(
        (path for path in (folder.iterdir() if folder.is_dir() else ()) if _NAME.fullmatch(path.name)),
        key=lambda path: int(path.stem),
    )
    faults: list[str] = []
    frames = []
    for path in evenly(paths, count):
        try:
            frames.append(_frame(path))
        except (BadPictureError, OSError) as error:
            faults.append(f"Preview {path.name}: {getattr(error, 'reason', error)}. It is left out.")
    while len(frames) > 1 and (size := sum(len(frame.uri) for frame in frames)) > budget:
        frames = evenly(frames, max(1, min(len(frames) - 1, len(frames) * budget // size)))
    return frames, len(paths), faults


def evenly(items: Sequence[_Item], count: int) -> list[_Item]:
    """Return `count` items at equal distances, the first and the last among them; of one, the last."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]


def _frame(path: Path) -> Frame:
    with open_picture(path) as picture:
        try:
            colour = picture.convert("RGB")
        except Exception as error:  # a decoder may raise anything on damaged bytes
            raise BadPictureError(path, f"damaged or cut off ({error})") from error
    colour.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    memory = io.BytesIO()
    if features.check("webp"):
        kind = "webp"
        colour.save(memory, "WEBP", quality=82, lossless=colour.width < SMALL)
    else:
        kind = "jpeg"
        colour.save(memory, "JPEG", quality=88)
    data = base64.b64encode(memory.getvalue()).decode("ascii")
    return Frame(int(path.stem), colour.width, colour.height, f"data:image/{kind};base64,{data}")
