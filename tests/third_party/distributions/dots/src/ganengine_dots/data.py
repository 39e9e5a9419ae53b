"""The data source `dots`: pictures of one dot each, drawn when they are asked for."""

from __future__ import annotations

import numpy as np

from ganengine.data import DataOptions, Dataset
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec


class Dots(Dataset):
    """White dots on black; the place and size of a dot follow from its number.

    Args:
        count: training pictures.
        options: of these only the size matters here.
    """

    def __init__(self, count: int, options: DataOptions) -> None:
        self.side = options.size
        self.spec = DataSpec({"real": FieldSpec("image", (1, self.side, self.side))}, count)

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        """Return picture `index` as [size, size, 1], uint8."""
        return {"real": draw(index, size or self.side)}


def draw(number: int, side: int) -> np.ndarray:
    """Return a picture [side, side, 1], uint8, of the dot that belongs to `number`."""
    random = np.random.default_rng(number)
    row, column = random.uniform(0.3, 0.7, 2) * side
    radius = random.uniform(0.1, 0.25) * side
    rows, columns = np.mgrid[:side, :side] + 0.5
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return (inside[:, :, None] * 255).astype(np.uint8)


def build(argument: str, options: DataOptions) -> Dots:
    """Make the data that `dots` or `dots:COUNT` names.

    Raises:
        DataError: COUNT is no number above 0.
    """
    if argument and not (argument.isdecimal() and int(argument)):
        raise DataError(f'dots: expected a number of pictures, as in dots:500, got "{argument}".')
    return Dots(int(argument or 1000), options)
