"""Read a picture for translation: colour as the networks take it, transparency beside it, 16 bits where it has them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ganengine.data.archives import File, read_bytes
from ganengine.data.dataset import BadPictureError
from ganengine.data.headers import open_picture, orientation
from ganengine.data.options import Alpha
from ganengine.data.pictures import decode_picture, joined, read_picture

Bits: TypeAlias = Literal[8, 16]
TRUECOLOUR_OR_ALPHA = (2, 4, 6)
"""Colour types of PNG that pillow reads with 8 bits even where the file has 16 (PNG, third edition, table 8)."""


@dataclass(frozen=True)
class Picture:
    """A picture that is to be translated."""

    pixels: np.ndarray
    """[H, W, C], uint8, or float32 in [0, 1]: what the networks take."""
    cover: np.ndarray | None
    """Its transparency [H, W, 1], likewise; None: it has none."""

    @property
    def bits(self) -> Bits:
        """How many bits a channel needs."""
        return 8 if self.pixels.dtype == np.uint8 else 16


def read(file: File, channels: int, alpha: Alpha) -> Picture:
    """Read a picture, turned upright.

    Args:
        file: a picture or `.npy` array.
        channels: what the networks take.
        alpha: what the run put transparency on; "keep": a channel of what the networks take, where there is room.

    Raises:
        BadPictureError: it is damaged, or cannot be given so many channels.
    """
    data = read_bytes(file)
    if file.suffix.lower() == ".npy":
        return Picture(read_picture(file, channels=channels, data=data), None)
    pixels, cover = _decode_deep(file, data) if _is_deep(data) else decode_picture(file, data)
    return Picture(joined(file, pixels, cover, alpha, channels), cover)


def _is_deep(data: bytes) -> bool:
    """Whether this is a PNG of 16 bits of which pillow would keep 8."""
    return (
        data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 25 and data[24] == 16 and data[25] in TRUECOLOUR_OR_ALPHA
    )


def _decode_deep(file: File, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Return colour [H, W, 1 or 3] and alpha [H, W, 1], float32 in [0, 1]."""
    import png  # here: few pictures need it

    with open_picture(file, data) as picture:  # refuses what is too large
        turn = orientation(picture)
    try:
        _check_size(png.Reader(bytes=data))
        width, height, rows, info = png.Reader(bytes=data).read()
        numbers = np.empty((height, width * info["planes"]), np.uint16)
        count = 0
        for count, row in enumerate(rows, 1):
            numbers[count - 1] = row
        if count < height:
            raise ValueError(f"{count} of {height} rows")
    except Exception as error:  # pypng and zlib have errors of their own for damaged bytes
        raise BadPictureError(str(file), f"damaged or cut off ({error})") from error
    numbers = _turned(numbers.reshape(height, width, -1), turn)
    colours, cover = numbers, None
    if info["alpha"]:
        colours, cover = numbers[:, :, :-1], _scaled(numbers[:, :, -1:])
    elif "transparent" in info:
        cover = (numbers != info["transparent"]).any(2, keepdims=True).astype(np.float32)
    return _scaled(colours), cover


def _scaled(numbers: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = numbers.astype(np.float32) / np.float32(65535)
    return scaled


def _check_size(reader: Any) -> None:
    """Check that compressed rows unpack to no more than they should: pypng unpacks whatever there is.

    Raises:
        ValueError: they are a bomb.
    """
    reader.preamble()
    # Interlacing adds a byte to each row of each of seven passes.
    left = (reader.row_bytes + 1) * reader.height + 8 * (reader.width + reader.height) + 64
    unpack = zlib.decompressobj()
    for kind, chunk in reader.chunks():
        while kind == b"IDAT" and chunk and not unpack.eof:
            left -= len(unpack.decompress(chunk, 1 << 20))
            chunk = unpack.unconsumed_tail
            if left < 0:
                raise ValueError("more rows than it states, as in a decompression bomb")


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (Exif 2.3, tag 274) of [H, W, C]: the axes are exchanged, then either is mirrored."""
    upright = array.transpose(1, 0, 2) if orientation >= 5 else array
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    return upright
