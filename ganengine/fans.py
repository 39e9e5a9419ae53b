"""Draw forecasts: for each scene where everybody was, where they went, and a fan of futures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

SIDE = 192
"""Side of a picture in pixels."""
FINER = 3
"""How much larger it is drawn, so that lines come out smooth."""
FRAME = 0.1
"""Part of the side that stays free around what was and what came."""
INKS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (170, 70, 130), (150, 110, 0), (60, 60, 60))
"""Colours of people, in turn; told apart by the colour-blind too (after Okabe and Ito)."""
PALE = 0.62
"""How much nearer to white than their ink futures are."""
BORDER = (225, 225, 225)


def fans(observed: Tensor, truth: Tensor, futures: Tensor, starts: Tensor) -> Tensor:
    """Draw each scene: futures as pale lines, what was as a thick line, what came as dots, a colour for each person.

    Args:
        observed: [rows, steps, 2], the known points.
        truth: [rows, steps, 2], those that followed; with `observed` they decide what is in the picture.
        futures: [rows, k, steps, 2].
        starts: [N + 1], where the rows of each scene begin.

    Returns:
        [N, 3, SIDE, SIDE] in [-1, 1].
    """
    bounds = starts.tolist()
    pictures = [
        _fan(observed[first:last].numpy(), truth[first:last].numpy(), futures[first:last].numpy())
        for first, last in pairwise(bounds)
    ]
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 127.5 - 1


def _fan(observed: np.ndarray, truth: np.ndarray, futures: np.ndarray) -> np.ndarray:
    side = SIDE * FINER
    seen = np.concatenate([observed, truth], axis=1).reshape(-1, 2).astype(float)
    low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.ones(2))
    reach = max(float((high - low).max()), 1e-9) / (1 - 2 * FRAME)

    def pixels(points: np.ndarray) -> list[tuple[float, float]]:
        place = np.nan_to_num((points - (low + high) / 2) / reach + 0.5, nan=-1.0)
        place = np.clip(place, -9, 9) * side  # far outside: no longer than a line may be
        return [(x, side - y) for x, y in place.tolist()]

    page = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(page)
    for row in range(len(futures)):
        ink = INKS[row % len(INKS)]
        pale = tuple(round(value + PALE * (255 - value)) for value in ink)
        for future in futures[row]:
            pen.line(pixels(np.concatenate([observed[row, -1:], future])), pale, FINER, "curve")
    for row in range(len(observed)):
        ink = INKS[row % len(INKS)]
        pen.line(pixels(observed[row]), ink, 2 * FINER, "curve")
        for number, (x, y) in enumerate([pixels(observed[row])[-1], *pixels(truth[row])]):
            radius = FINER * (2.6 if number == 0 else 1.5)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), ink)
    pen.rectangle((0, 0, side - 1, side - 1), outline=BORDER, width=FINER)
    return np.asarray(page.resize((SIDE, SIDE), Image.Resampling.BOX))
