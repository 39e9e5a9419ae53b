"""The command `ganengine draw-dots FOLDER [COUNT]`: write dots as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ganengine.errors import UserError
from ganengine_dots.data import draw


def draw_dots(arguments: Sequence[str]) -> int:
    """Write pictures of dots and return the exit status.

    Raises:
        UserError: no folder, or a COUNT that is no number.
    """
    if not arguments or len(arguments) > 2 or not all(word.isdecimal() for word in arguments[1:]):
        raise UserError("expected FOLDER [COUNT], as in `ganengine draw-dots pictures 20`.")
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    count = int(arguments[1]) if len(arguments) == 2 else 10
    for number in range(count):
        Image.fromarray(draw(number, 64)[:, :, 0]).save(folder / f"{number:06d}.png")
    print(f"{count} pictures in {folder}")
    return 0
