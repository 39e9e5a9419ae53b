"""200 pictures of mixed sizes, modes and formats in folders, five of them broken, from a folder and from a zip file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
from PIL import Image

from ganengine.translation.writing import encode

COUNT = 200
BROKEN = (7, 48, 90, 133, 199)


def picture(number: int) -> tuple[str, bytes, tuple[int, int, int, int]]:
    """Return the name and the bytes of a picture, and what its result is like: width, height, channels, bits."""
    rng = np.random.default_rng(number)
    width, height = (int(side) for side in rng.integers(1, 40, 2))

    def noise(channels: int, bits: int = 8) -> np.ndarray:
        return rng.integers(0, 2**bits, (height, width, channels)).astype(f"uint{bits}")

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    colour = Image.fromarray(noise(3))
    exif = Image.Exif()
    exif[0x0112] = 6
    translucent = colour.convert("P")
    kinds: list[tuple[str, Callable[[], bytes], int, int]] = [
        ("png", lambda: saved(colour, "PNG"), 3, 8),
        ("jpg", lambda: saved(colour, "JPEG"), 3, 8),
        ("jpeg", lambda: saved(colour, "JPEG", exif=exif), 3, 8),
        ("png", lambda: saved(colour.convert("L"), "PNG"), 3, 8),
        ("png", lambda: saved(colour.convert("1"), "PNG"), 3, 8),
        ("gif", lambda: saved(colour.convert("P"), "GIF"), 3, 8),
        ("png", lambda: saved(translucent, "PNG", transparency=0), 4, 8),
        ("png", lambda: encode(noise(2), ".png"), 4, 8),
        ("webp", lambda: saved(Image.fromarray(noise(4)), "WEBP", lossless=True, exact=True), 4, 8),
        ("jpg", lambda: saved(colour.convert("CMYK"), "JPEG"), 3, 8),
        ("png", lambda: encode(noise(1, 16), ".png"), 3, 16),
        ("png", lambda: encode(noise(3, 16), ".png"), 3, 16),
        ("PNG", lambda: encode(noise(4, 16), ".png"), 4, 16),
        ("png", lambda: encode(noise(2, 16), ".png"), 4, 16),
        ("tif", lambda: saved(Image.fromarray(noise(1, 16)[:, :, 0]), "TIFF"), 3, 16),
        ("bmp", lambda: saved(colour, "BMP"), 3, 8),
        ("npy", lambda: encode(noise(3), ".npy"), 3, 8),
    ]
    suffix, make, channels, bits = kinds[number % len(kinds)]
    data = make()
    if suffix == "jpeg":  # its EXIF says that it lies on its side
        width, height = height, width
    name = f"{('', 'a/', 'a/b c/', 'd/')[number % 4]}{number:03d}.{suffix}"
    return name, data, (width, height, channels, bits)


@pytest.fixture(scope="module")
def pictures() -> dict[str, tuple[bytes, tuple[int, int, int, int] | None]]:
    """Return contents by name, and what results are like; None where there is none."""
    made: dict[str, tuple[bytes, tuple[int, int, int, int] | None]] = {}
    for number in range(COUNT):
        name, data, like = picture(number)
        made[name] = (data, like)
        if number in BROKEN:
            at = BROKEN.index(number)
            made[name] = ([b"", b"GIF89a\x00", data[: len(data) * 2 // 3], data[:30], b"\0" * 999][at], None)
    return made


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_each_result_has_its_place_size_and_mode(
    pictures: dict[str, Any], go: Any, trained: Path, tmp_path: Path, packed: bool
) -> None:
    source = tmp_path / ("in.zip" if packed else "in")
    if packed:
        with zipfile.ZipFile(source, "w") as archive:
            for name, (data, _) in pictures.items():
                archive.writestr(name, data)
    else:
        for name, (data, _) in pictures.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
    target = tmp_path / ("out.zip" if packed else "out")
    done = go("translate", trained, source, target, "--threads", 1, "--precision", "fp32")
    assert done.status == 1
    lines = done.err.splitlines()
    assert lines[-1] == f"195 of 200 pictures translated to {target}"
    bad = [name for name, (_, like) in pictures.items() if like is None]
    assert sorted(line.split(": ")[0] for line in lines[:-1]) == sorted(f"{source}/{name}" for name in bad)
    if packed:
        with zipfile.ZipFile(target) as archive:
            results = {name: archive.read(name) for name in archive.namelist()}
    else:
        results = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*.*")}
    expected = {f"{name.rpartition('.')[0]}.png": like for name, (_, like) in pictures.items() if like}
    assert set(results) == set(expected)
    for name, data in results.items():
        width, height, rows, info = png.Reader(bytes=data).read()
        assert (width, height, info["planes"], info["bitdepth"]) == expected[name], name
        assert sum(1 for _ in rows) == height
