"""What a picture says of itself, read from its first bytes: nothing is decoded here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image

from ganengine.data.archives import File, Member, file_bytes
from ganengine.data.dataset import BadPictureError

AnyFile = TypeVar("AnyFile", bound=File)
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes with one channel of colour."""


@dataclass(frozen=True)
class Header:
    """Size and kind of one picture file, after its EXIF rotation."""

    path: File
    width: int
    height: int
    mode: str
    """Pillow's mode, or the dtype of an array."""
    colours: int
    """1, 3, or the number of channels of an array; transparency is not counted."""
    alpha: bool
    bytes: int
    """Size of the file."""
    format: str
    """Pillow's name of the file format, or NPY."""

    @property
    def size(self) -> str:
        """Width x height, as people write it."""
        return f"{self.width}x{self.height}"


def read_header(path: File) -> Header:
    """Read the header of a picture or of a `.npy` array.

    Raises:
        BadPictureError: it is no picture, damaged, or larger than pillow's bound against decompression bombs.
    """
    if path.suffix.lower() == ".npy":
        array = open_array(path)
        height, width, colours = array.shape
        return Header(path, width, height, str(array.dtype), colours, False, file_bytes(path), "NPY")
    with open_picture(path) as picture:
        width, height = picture.size
        if orientation(picture) >= 5:  # a quarter turn, with or without a mirror
            width, height = height, width
        colours = 1 if picture.mode in GREY else 3
        alpha, kind = has_alpha(picture), picture.format or ""
        return Header(path, width, height, picture.mode, colours, alpha, file_bytes(path), kind)


def read_headers(paths: Iterable[AnyFile]) -> tuple[dict[AnyFile, Header], dict[AnyFile, str]]:
    """Read many headers; return those that were read, and by path why others were not."""
    good: dict[AnyFile, Header] = {}
    bad: dict[AnyFile, str] = {}
    with warnings.catch_warnings():
        # open_picture makes an error of it, which names the file.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in paths:
            try:
                good[path] = read_header(path)
            except BadPictureError as error:
                bad[path] = error.reason
    return good, bad


def open_picture(path: File, data: bytes | None = None) -> Image.Image:
    """Open a picture without decoding it.

    Args:
        path: the file, which is opened for this, or only named where there is `data`.
        data: its contents, where they have been read already.

    Raises:
        BadPictureError: it is no picture, damaged, or larger than pillow's bound against decompression bombs.
    """
    source: File | IO[bytes] = path if data is None else io.BytesIO(data)
    source = source.open() if isinstance(source, Member) else source
    try:
        picture = Image.open(source)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except FileNotFoundError as error:
        raise BadPictureError(str(path), "no such file") from error
    except PermissionError as error:
        raise BadPictureError(str(path), "it may not be read; check its permissions") from error
    except Exception as error:  # a plugin of pillow may raise anything on damaged bytes
        empty = file_bytes(path) == 0
        reason = "the file is empty" if empty else "this is no picture, or its header is damaged"
        raise BadPictureError(str(path), reason) from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        picture.close()
        raise _too_large(path)
    return picture


def open_array(path: File, data: bytes | None = None) -> np.ndarray:
    """Open a `.npy` picture as [H, W, C]; of a file on disk without reading its numbers.

    Args:
        path: the file, which is opened for this, or only named where there is `data`.
        data: its contents, where they have been read already.

    Raises:
        BadPictureError: it is damaged, or has another shape or another type, or too many pixels.
    """
    array: np.ndarray
    try:
        if data is None and isinstance(path, Path):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            array = np.load(io.BytesIO(path.read_bytes() if data is None else data), allow_pickle=False)
    except BadPictureError:
        raise
    except Exception as error:  # numpy raises ValueError, EOFError, OSError or MemoryError by where the damage is
        raise BadPictureError(str(path), f"this is no .npy array, or it is damaged ({error})") from error
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.size == 0 or array.shape[0] < 16 < array.shape[2]:
        fault = "reshape it" if array.ndim != 3 else "transpose it" if array.size else "it is empty"
        raise BadPictureError(str(path), f"expected an array [H, W] or [H, W, C], got {list(array.shape)}; {fault}")
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise BadPictureError(str(path), f"expected uint8, uint16 or float, got {array.dtype}; convert it")
    if Image.MAX_IMAGE_PIXELS is not None and array.shape[0] * array.shape[1] > Image.MAX_IMAGE_PIXELS:
        raise _too_large(path)
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


def _too_large(path: File) -> BadPictureError:
    return BadPictureError(
        str(path), f"more than {Image.MAX_IMAGE_PIXELS} pixels, which may be a decompression bomb; make it smaller"
    )
