"""Write results: single files, each whole or not at all, or one zip file that appears when it is complete."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
from PIL import Image

from ganengine.runfolder import write_whole

Write: TypeAlias = Callable[[str, np.ndarray], None]
"""Write a picture [H, W, C], uint8 or uint16, under a path with forward slashes."""


@contextmanager
def writer(target: Path, *, packed: bool) -> Iterator[Write]:
    """Give what writes results below `target`.

    Args:
        target: a folder, which is made; or a zip file, which is there once the block has ended well.
        packed: write a zip file.

    Raises:
        OSError: something cannot be written; the error names it, and nothing of it is left.
    """
    if not packed:
        yield lambda name, picture: _write_file(target / name, picture)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _named(target), zipfile.ZipFile(temporary, "w") as archive:  # stored: PNG is compressed already
            # A ZipInfo has a constant time: equal pictures give equal archives.
            yield lambda name, picture: archive.writestr(
                zipfile.ZipInfo(name), encode(picture, PurePosixPath(name).suffix)
            )
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_file(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path):
        write_whole(path, encode(picture, path.suffix))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have an error tell which file it was: a full disk is told of without a name, or with a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def encode(picture: np.ndarray, suffix: str) -> bytes:
    """Return a picture as the bytes of a file.

    Args:
        picture: [H, W, C], uint8 or uint16; for .png C of 1 (grey), 2 (grey, alpha), 3 (colour) or 4 (colour, alpha).
        suffix: ".png" or ".npy".
    """
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, picture)
    elif picture.dtype == np.uint8:
        flat = picture[:, :, 0] if picture.shape[2] == 1 else picture
        Image.fromarray(np.ascontiguousarray(flat)).save(buffer, "PNG")
    else:
        import png  # here: pillow does not write 16 bits of colour

        height, width, channels = picture.shape
        form = png.Writer(width, height, greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=16)
        form.write_packed(buffer, (row.tobytes() for row in picture.astype(">u2")))
    return buffer.getvalue()
