"""The data sources `ring` and `grid25`: points of Gaussians in the plane, to see which of them a game reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ganengine import draws
from ganengine.data.arrays import ArrayDataset
from ganengine.data.options import DataOptions
from ganengine.errors import UserError

RADIUS = 2.0
SPACING = 2.0
DEVIATION = 0.02
"""Standard deviation of each Gaussian, in both directions."""
COUNT = 2500
"""Points of a split."""


class Mixture(ArrayDataset):
    """Points of equally many draws from each of several Gaussians; test points are other draws.

    The point i of a split is centre[i % modes] + DEVIATION * N(0, 1), whatever the seed of the run.

    Args:
        name: of the data source.
        centres: [modes, 2].
        count: points of each split.
        options: how data is to be read.
    """

    def __init__(self, name: str, centres: np.ndarray, count: int, options: DataOptions) -> None:
        self.centres = centres
        self.deviation = DEVIATION
        label = np.arange(count) % len(centres)
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for split in ("train", "test"):
            noise = np.random.default_rng(draws.key(0, name, split)).standard_normal((count, 2))
            arrays[split] = {"real": (centres[label] + DEVIATION * noise).astype(np.float32), "label": label}
        classes = [str(mode) for mode in range(len(centres))]
        super().__init__(arrays, options, source=name, layout=f"{len(centres)} Gaussians", classes=classes)


def ring(argument: str, options: DataOptions) -> Mixture:
    """Draw `ring`, `ring:MODES` or `ring:MODES,COUNT`: Gaussians at equal distances on a circle, 8 unless stated.

    Raises:
        UserError: the argument is something else.
    """
    modes, count = _numbers("ring", "MODES,COUNT", argument, (8, COUNT), (2, 1))
    angle = 2 * np.pi * np.arange(modes) / modes  # without 2 pi, which would be 0 again
    return Mixture("ring", RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1), count, options)


def grid25(argument: str, options: DataOptions) -> Mixture:
    """Draw `grid25` or `grid25:COUNT`: 25 Gaussians on a square grid around 0.

    Raises:
        UserError: the argument is something else.
    """
    (count,) = _numbers("grid25", "COUNT", argument, (COUNT,), (1,))
    line = SPACING * np.arange(-2.0, 3.0)
    return Mixture("grid25", np.stack(np.meshgrid(line, line), axis=2).reshape(-1, 2), count, options)


def _numbers(name: str, form: str, argument: str, defaults: Sequence[int], least: Sequence[int]) -> Sequence[int]:
    """Return the whole numbers of an argument, with defaults for those that are left out at its end."""
    words = argument.split(",") if argument else []
    if len(words) > len(defaults) or not all(word.isdecimal() and len(word) < 8 for word in words):
        raise UserError(f'{name}: expected {name}:{form}, whole numbers, or {name} alone; got "{name}:{argument}".')
    numbers = [*map(int, words), *defaults[len(words) :]]
    if any(number < low for number, low in zip(numbers, least, strict=True)):
        bounds = " and ".join(f"{word} of at least {low}" for word, low in zip(form.split(","), least, strict=True))
        raise UserError(f'{name}: expected {bounds}, got "{name}:{argument}".')
    return numbers
