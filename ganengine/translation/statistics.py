"""Normalisation of a tile by the statistics of the whole picture that it is cut from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn import BatchNorm2d
from ganengine.nn.context import Statistics

Layer: TypeAlias = "nn.InstanceNorm2d | nn.GroupNorm | BatchNorm2d"
Key: TypeAlias = "tuple[int, int]"
"""A layer, and which of its calls within a forward pass."""


class WholeStatistics:
    """What the layers normalise by that take a picture's own statistics: gathered over its tiles.

    While gathering, each tile replaces what it gave in the pass before, and every layer normalises by the latest of all
    tiles so far, this one included: so layers are always normalised by statistics that fit their inputs, and a few
    passes come near those of the whole picture (after as many passes as there are layers they are exactly these).
    Pixels count as they do in the blend: each of the picture once. Afterwards the statistics stay as they are.

    Args:
        networks: those that are used.
        statistics: with "running", batch norm has statistics already and is left alone.
        passes: how often to gather, where there is a layer to gather for.

    Layers that take statistics of their own in another way (adaptive instance norm) keep those of each tile.
    """

    def __init__(self, networks: Mapping[str, Any], statistics: Statistics, passes: int) -> None:
        self._layers: list[Any] = [
            module
            for network in networks.values()
            if isinstance(network, nn.Module)
            for module in network.modules()
            if _takes_own(module, statistics)
        ]
        self.passes = passes if self._layers else 0
        """How often all tiles are to be run before their output counts."""

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have the layers gather and use the statistics of one picture inside the block."""
        self._sums: dict[Key, Tensor] = {}
        self._pieces: dict[tuple[Key, tuple[int, int]], Tensor] = {}
        handles = [layer.register_forward_hook(self._normalised) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, tile: tuple[int, int], down: Tensor, across: Tensor, *, gather: bool) -> None:
        """Say which tile comes next, what its rows [h] and columns [w] weigh, and whether to gather from it."""
        self._tile, self._down, self._across, self._gather = tile, down, across, gather
        self._calls: dict[int, int] = {}

    def _normalised(self, layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        call = self._calls.get(id(layer), 0)
        self._calls[id(layer)] = call + 1
        key = (id(layer), call)
        if self._gather:
            piece = _piece(x, self._down, self._across)
            before = self._pieces.get((key, self._tile))
            self._sums[key] = self._sums.get(key, 0) + (piece if before is None else piece - before)
            self._pieces[key, self._tile] = piece
        groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else x.shape[1]
        mean, var = _mean_and_variance(self._sums[key], groups)
        return F.batch_norm(x, mean, var, layer.weight, layer.bias, False, 0.0, layer.eps)


def _takes_own(module: nn.Module, statistics: Statistics) -> bool:
    if isinstance(module, BatchNorm2d):
        return statistics == "own"
    if isinstance(module, nn.InstanceNorm2d):
        return not module.track_running_stats
    return isinstance(module, nn.GroupNorm)


def _piece(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return what a tile x [1, C, h, w] adds: weights, weighted values and weighted squares [3, C], float64."""
    x = x[0].float()
    down, across = _resampled(down, x.shape[1], x), _resampled(across, x.shape[2], x)
    weight = (down.sum() * across.sum()).double()
    mean = ((x @ across @ down).double() / weight)[:, None, None]
    # About the mean first: the difference of large squares would be lost in float32.
    spread = ((x - mean.float()).square_() @ across @ down).double()
    mean = mean.flatten()
    return torch.stack([weight.expand_as(mean), weight * mean, spread + weight * mean.square()])


def _resampled(weights: Tensor, size: int, like: Tensor) -> Tensor:
    """Return the weights of a map of `size` rows, by those of the pixels: each row's mean."""
    return F.adaptive_avg_pool1d(weights[None].to(like.device), size)[0]


def _mean_and_variance(sums: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return both [C], float32, of sums [3, C]; the channels of a group have the same."""
    channels = sums.shape[1]
    weight, first, second = sums.view(3, groups, -1).sum(2)
    mean = first / weight
    var = (second / weight - mean.square()).clamp(min=0)
    size = channels // groups
    return mean.repeat_interleave(size).float(), var.repeat_interleave(size).float()
