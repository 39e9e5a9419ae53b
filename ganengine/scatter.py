"""Draw points of the plane: what toy games on a ring or a grid of Gaussians look like."""

from __future__ import annotations

import numpy as np
from torch import Tensor

SIDE = 256
"""Side of the picture in pixels."""
REAL, FAKE = (200, 200, 200), (31, 78, 180)
"""Colours of real points and of generated ones, which lie over them."""


def scatter(points: Tensor, real: Tensor, limit: float | None = None) -> np.ndarray:
    """Draw generated points over real ones on white.

    Args:
        points: [N, 2], generated; those outside the picture are drawn at its border, where one sees them.
        real: [M, 2].
        limit: largest coordinate in the picture; None: 1.25 times that of the real points.

    Returns:
        [SIDE, SIDE, 3], uint8.
    """
    limit = limit or 1.25 * max(1e-6, float(real.abs().max()))
    page = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for cloud, colour in ((real, REAL), (points, FAKE)):
        place = np.nan_to_num((cloud.numpy() / limit + 1) / 2 * (SIDE - 1), nan=0.0, posinf=SIDE, neginf=0.0)
        column, row = np.clip(np.rint(place), 1, SIDE - 2).astype(int).T
        for down in (0, 1):
            for right in (0, 1):
                page[SIDE - 1 - row - down, column + right] = colour
    return page
