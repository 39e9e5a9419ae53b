"""16 bits and transparency come through; damaged and hostile files are refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganengine.data.dataset import BadPictureError
from ganengine.translation.reading import read
from ganengine.translation.writing import encode

rng = np.random.default_rng(0)


def deep(channels: int, height: int = 5, width: int = 7) -> np.ndarray:
    return rng.integers(0, 65536, (height, width, channels)).astype(np.uint16)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture
def put(tmp_path: Path) -> Any:
    def write(data: bytes, name: str = "x.png") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.sampled_from([np.uint8, np.uint16]), st.integers(1, 9), st.integers(1, 9))
def test_what_is_written_is_read(tmp_path_factory: Any, channels: int, dtype: Any, height: int, width: int) -> None:
    array = np.random.default_rng(height).integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)
    path = tmp_path_factory.mktemp("x") / "x.png"
    path.write_bytes(encode(array, ".png"))
    alpha = channels in (2, 4)
    picture = read(path, channels, "keep")
    top = np.iinfo(dtype).max if dtype == np.uint16 else 1
    np.testing.assert_array_equal(np.round(picture.pixels.astype(np.float64) * top), array)
    assert picture.bits == np.iinfo(dtype).bits
    assert (picture.cover is not None) == alpha
    if picture.cover is not None:
        np.testing.assert_array_equal(picture.cover, picture.pixels[:, :, -1:])


def test_transparency_goes_on_the_ground_and_is_kept_beside(put: Any) -> None:
    array = deep(4)
    file = put(encode(array, ".png"))
    colour, cover = array[:, :, :3] / 65535, array[:, :, 3:] / 65535
    for alpha, ground in (("white", 1), ("black", 0), ("keep", 1)):
        picture = read(file, 3, alpha)  # type: ignore[arg-type]
        np.testing.assert_allclose(picture.pixels, colour * cover + ground * (1 - cover), atol=1e-6)
        np.testing.assert_allclose(picture.cover, cover, atol=1e-6)
    assert read(file, 1, "white").pixels.shape == (5, 7, 1)


def test_a_colour_that_is_transparent(put: Any) -> None:
    array = deep(3)
    buffer = io.BytesIO()
    png.Writer(7, 5, greyscale=False, bitdepth=16, transparent=tuple(array[2, 3].tolist())).write(
        buffer, array.reshape(5, -1).tolist()
    )
    cover = read(put(buffer.getvalue()), 3, "white").cover
    assert cover is not None
    assert np.argwhere(cover[:, :, 0] == 0).tolist() == [[2, 3]]
    assert set(np.unique(cover)) == {0, 1}


def test_interlaced(put: Any) -> None:
    """Written by hand: seven passes (PNG, third edition, section 8.2), each row unfiltered."""
    array = deep(3, 11, 13)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, across in passes
        for row in array[top::down, left::across]
        if row.size
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 13, 11, 16, 2, 0, 0, 1))
    file = put(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(np.round(read(file, 3, "white").pixels * 65535), array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright(put: Any, orientation: int) -> None:
    """As pillow turns the same picture of 8 bits."""
    array = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", exif=exif)
    shallow = read(put(buffer.getvalue()), 3, "white").pixels
    data = encode(array.astype(np.uint16) * 257, ".png")
    data = data[:33] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[33:]
    picture = read(put(data, "deep.png"), 3, "white")
    np.testing.assert_array_equal(np.round(picture.pixels * 255), shallow)


def test_sixteen_bits_of_other_formats(put: Any) -> None:
    grey = deep(1)[:, :, 0]
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "TIFF")
    for file in (put(buffer.getvalue(), "x.tif"), put(encode(grey[:, :, None], ".npy"), "x.npy")):
        picture = read(file, 1, "white")
        assert (picture.bits, picture.cover) == (16, None)
        np.testing.assert_array_equal(np.round(picture.pixels[:, :, 0] * 65535), grey)


def blank(rows: int) -> bytes:
    """Return a picture of 4 rows, as it says."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    packed = zlib.compress((b"\0" + bytes(24)) * rows, 9)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def whole() -> bytes:
    return encode(deep(3, 40, 40), ".png")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (whole()[:-200], "damaged or cut off"),
        (whole()[:60], "damaged or cut off"),
        (whole()[:26], "header is damaged"),
        (whole()[:200] + b"\xff" + whole()[201:], "damaged or cut off"),
        (blank(1 << 20), "more rows than it states, as in a decompression bomb"),
        (blank(3), "damaged or cut off"),
        (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 16, 2, 0, 0, 0))
            + chunk(b"IDAT", b""),
            "bomb",
        ),
    ],
    ids=["cut", "cut early", "header", "flipped", "bomb", "rows lacking", "huge"],
)
def test_refused(put: Any, data: bytes, reason: str) -> None:
    with pytest.raises(BadPictureError) as caught:
        read(put(data), 3, "white")
    assert reason in str(caught.value)
    assert "x.png" in str(caught.value)
