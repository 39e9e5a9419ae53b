"""Translate a picture piece by piece: overlapping tiles, blended, with the statistics of the whole picture."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganengine.data.pictures import to_levels, to_tensor
from ganengine.errors import UserError
from ganengine.translation.reading import Bits
from ganengine.translation.statistics import WholeStatistics

LARGEST_STEP = 128
"""Tiles start at multiples of a power of two up to this, so that a network which halves sees the same grid in each:
with a step of 64 instead, a U-Net of seven levels differs three times as much from the untiled result."""
PASSES = 3
"""Passes that gather statistics. The section on tiles in docs/commands.md tells what each is worth."""

Span = tuple[int, int]
"""Where a tile starts and where it ends, in pixels."""


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut.

    Args:
        tile: the largest side of a tile, in pixels.
        overlap: of neighbours, at least, in pixels; None: a quarter of `tile`.
        multiple, minimum: what the view demands of a side.

    Raises:
        UserError: the overlap is more than half a tile, or the tile is too small for the networks.
    """

    tile: int
    overlap: int | None = None
    multiple: int = 1
    minimum: int = 1

    def __post_init__(self) -> None:
        if self.tile < 2 * self.multiple or self.side < self.minimum:
            needed = math.ceil(max(2 * self.multiple, self.minimum) / self.multiple) * self.multiple
            raise UserError(f"--tile: these networks take tiles of at least {needed} pixels, got {self.tile}.")
        if self.least > self.side // 2:
            raise UserError(f"--overlap: expected at most half a tile ({self.side // 2} pixels), got {self.least}.")

    @property
    def least(self) -> int:
        """The least overlap, in pixels."""
        return self.tile // 4 if self.overlap is None else self.overlap

    @property
    def step(self) -> int:
        """What tiles start at multiples of, in pixels: at most half a tile."""
        fitting = max(1, self.tile // (2 * self.multiple))
        return self.multiple * min(LARGEST_STEP, 1 << (fitting.bit_length() - 1))

    @property
    def side(self) -> int:
        """The side of a tile in pixels: `tile`, rounded down to a multiple of `step`."""
        return self.tile // self.step * self.step

    def cuts(self, height: int, width: int) -> bool:
        """Whether a picture is too large to be translated whole."""
        return max(height, width) > self.tile

    def spans(self, size: int) -> list[Span]:
        """Cut a side of `size` pixels into evenly spread tiles.

        The last one ends with the picture, less than a step early: networks then pad it as they pad the whole picture.
        """
        if size <= self.tile:
            return [(0, size)]
        last = math.ceil((size - self.side) / self.step)
        gaps = math.ceil(last / ((self.side - self.least) // self.step))
        starts = [index * last // gaps * self.step for index in range(gaps + 1)]
        return [(start, min(start + self.side, size)) for start in starts]

    def weights(self, spans: list[Span]) -> list[np.ndarray]:
        """Return the weight of each pixel of each tile: they sum to 1 at every pixel.

        At a border inside the picture a tile counts for nothing on the outer quarter of the least overlap, where the
        network sees the tile's edge; from there on its weight grows linearly as far as the overlap's other quarter.
        """
        edge, end = self.least // 4, spans[-1][1]
        ramp = max(1, self.least - 2 * edge)
        tents = []
        for start, stop in spans:
            centres = np.arange(start, stop) + 0.5
            inside = np.full(stop - start, math.inf)
            if start > 0:
                inside = np.minimum(inside, centres - start - edge)
            if stop < end:
                inside = np.minimum(inside, stop - edge - centres)
            tents.append(np.clip(inside / ramp, 0, 1))
        total = np.zeros(end)
        for (start, stop), tent in zip(spans, tents, strict=True):
            total[start:stop] += tent
        return [(tent / total[start:stop]).astype(np.float32) for (start, stop), tent in zip(spans, tents, strict=True)]


def translate_tiles(
    pixels: np.ndarray,
    tiling: Tiling,
    run: Callable[[Tensor, str], Tensor],
    statistics: WholeStatistics,
    bits: Bits,
) -> np.ndarray:
    """Translate one picture tile by tile; beside it and its result, memory holds one row of tiles.

    Args:
        pixels: [H, W, C], uint8, or float32 in [0, 1].
        tiling: how to cut it.
        run: translates tiles [1, C, h, w] in [-1, 1]; its second argument names the tile, for its draws.
        statistics: of the networks that `run` uses.
        bits: of the result.

    Returns:
        [H, W, C'], uint8 or uint16.
    """
    height, width = pixels.shape[:2]
    rows, columns = tiling.spans(height), tiling.spans(width)
    row_weights = list(map(torch.from_numpy, tiling.weights(rows)))
    column_weights = list(map(torch.from_numpy, tiling.weights(columns)))

    def translated(row: int, column: int, *, gather: bool) -> Tensor:
        (top, bottom), (left, right) = rows[row], columns[column]
        tile = to_tensor(np.ascontiguousarray(pixels[top:bottom, left:right]))
        statistics.enter((row, column), row_weights[row], column_weights[column], gather=gather)
        return run(tile[None], f"{top},{left}")[0]

    def strips() -> Iterator[Tensor]:
        """Translate row by row of tiles: [C', h, W'], the tiles of a row blended."""
        for row in range(len(rows)):
            strip: Tensor | None = None
            for column, (left, right) in enumerate(columns):
                tile = translated(row, column, gather=False)
                if strip is None:
                    strip = tile.new_zeros(*tile.shape[:2], width)
                strip[:, :, left:right] += tile * column_weights[column]
            assert strip is not None
            yield strip

    with statistics.used():
        order = list(itertools.product(range(len(rows)), range(len(columns))))
        random.Random(0).shuffle(order)  # so that the first few are of all parts of the picture
        for _ in range(statistics.passes):
            for row, column in order:
                translated(row, column, gather=True)
        return _stack(strips(), rows, row_weights, bits)


def _stack(strips: Iterator[Tensor], rows: list[Span], weights: list[Tensor], bits: Bits) -> np.ndarray:
    """Blend rows of tiles; what no later row reaches is rounded at once."""
    height = rows[-1][1]
    result: np.ndarray | None = None
    below: Tensor | None = None  # what the rows so far gave to those from the present row's start on
    for index, (strip, down) in enumerate(zip(strips, weights, strict=True)):
        start, stop = rows[index]
        strip = strip * down[:, None]
        if below is not None:
            strip[:, : below.shape[1]] += below
        finished = rows[index + 1][0] if index + 1 < len(rows) else stop
        levels = to_levels(strip[:, : finished - start], bits)
        if result is None:
            result = np.empty((height, *levels.shape[1:]), levels.dtype)
        result[start:finished] = levels
        below = strip[:, finished - start :]
    assert result is not None
    return result
