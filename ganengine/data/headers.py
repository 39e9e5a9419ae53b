"""What a picture says of itself, read from its first bytes: nothing is decoded here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ganengine.data.dataset import BadPictureError

GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes with one channel of colour."""


@dataclass(frozen=True)
class Header:
    """Size and kind of one picture file, after its EXIF rotation."""

    path: Path
    width: int
    height: int
    mode: str
    """Pillow's mode, or the dtype of an array."""
    colours: int
    """1, 3, or the number of channels of an array; transparency is not counted."""
    alpha: bool
    bytes: int
    """Size of the file."""

    @property
    def size(self) -> str:
        """Width x height, as people write it."""
        return f"{self.width}x{self.height}"


def read_header(path: Path) -> Header:
    """Read the header of a picture or of a `.npy` array.

    Raises:
        BadPictureError: it is no picture, damaged, or larger than pillow's bound against decompression bombs.
    """
    if path.suffix.lower() == ".npy":
        array = open_array(path)
        height, width, colours = array.shape
        return Header(path, width, height, str(array.dtype), colours, False, path.stat().st_size)
    with open_picture(path) as picture:
        width, height = picture.size
        if orientation(picture) >= 5:  # a quarter turn, with or without a mirror
            width, height = height, width
        colours = 1 if picture.mode in GREY else 3
        return Header(path, width, height, picture.mode, colours, has_alpha(picture), path.stat().st_size)


def read_headers(paths: Iterable[Path]) -> tuple[dict[Path, Header], dict[Path, str]]:
    """Read many headers; return those that were read, and by path why others were not."""
    good: dict[Path, Header] = {}
    bad: dict[Path, str] = {}
    with warnings.catch_warnings():
        # open_picture makes an error of it, which names the file.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in paths:
            try:
                good[path] = read_header(path)
            except BadPictureError as error:
                bad[path] = error.reason
    return good, bad


def open_picture(path: Path) -> Image.Image:
    """Open a picture without decoding it.

    Raises:
        BadPictureError: it is no picture, damaged, or larger than pillow's bound against decompression bombs.
    """
    try:
        picture = Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except FileNotFoundError as error:
        raise BadPictureError(path, "no such file") from error
    except Exception as error:  # a plugin of pillow may raise anything on damaged bytes
        reason = "the file is empty" if os.path.getsize(path) == 0 else "this is no picture, or its header is damaged"
        raise BadPictureError(path, reason) from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        picture.close()
        raise _too_large(path)
    return picture


def open_array(path: Path) -> np.ndarray:
    """Open a `.npy` picture as [H, W, C] without reading its numbers.

    Raises:
        BadPictureError: it is damaged, or has another shape or another type.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises ValueError, EOFError or OSError by where the damage is
        raise BadPictureError(path, f"this is no .npy array, or it is damaged ({error})") from error
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.size == 0 or array.shape[0] < 16 < array.shape[2]:
        raise BadPictureError(path, f"expected an array [H, W] or [H, W, C], got {list(array.shape)}; transpose it")
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise BadPictureError(path, f"expected uint8, uint16 or float, got {array.dtype}; convert it")
    return array


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, that is still to be applied. Ask before decoding.

    Pillow turns TIFF itself. Of a PNG only what stands before the pixels is read: asking for more would decode it.
    """
    if picture.format == "TIFF" or (picture.format == "PNG" and "exif" not in picture.info):
        return 1
    try:
        value = picture.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block is no reason to refuse the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def has_alpha(picture: Image.Image) -> bool:
    """Whether the picture has an alpha channel or a transparent colour."""
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def _too_large(path: Path) -> BadPictureError:
    return BadPictureError(
        path, f"more than {Image.MAX_IMAGE_PIXELS} pixels, which may be a decompression bomb; make it smaller"
    )
