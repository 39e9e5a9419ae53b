"""Write frames as a film that any browser plays: an endless GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ganengine.runfolder import write_whole


def write_film(path: Path, frames: Sequence[np.ndarray], *, frame_ms: int, colours: int = 256) -> None:
    """Write frames of one size; the folder is made where it is not there.

    Args:
        path: the file, `.gif`.
        frames: [H, W, 3], uint8, one or more.
        frame_ms: milliseconds that a frame stays.
        colours: of each frame, its most frequent ones and mixtures; fewer make a smaller file. Never dithered: dots
            that differ from frame to frame would flicker.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    pictures = [Image.fromarray(frame).quantize(colours, dither=Image.Dither.NONE) for frame in frames]
    data = io.BytesIO()
    pictures[0].save(data, "GIF", save_all=True, append_images=pictures[1:], duration=frame_ms, loop=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data.getvalue())
