"""Exponential moving averages of networks, with a half-life in images so that the batch size does not bend it."""

from __future__ import annotations

import copy

import torch
from torch import nn


def decay_at(images: int, batch: int, half_life: int, rampup: float) -> float:
    """Return the factor that the average keeps in a step of `batch` images.

    decay = 0.5^(batch / min(half_life, rampup * images)): early on the average forgets fast, so that it is good at
    any time (the rule of arXiv:1912.04958's published code, with the half-life in images).
    """
    window = min(float(half_life), rampup * images) if rampup > 0 else float(half_life)
    return 0.5 ** (batch / window) if window > 0 else 0.0


class Average:
    """The averaged copy of one network. It knows its tensors from the start: walking the modules took 3 ms a step.

    Args:
        network: what is followed.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = copy.deepcopy(network).requires_grad_(False)
        self._parameters = [parameter.detach() for parameter in self._network.parameters()]
        self._followed = [parameter.detach() for parameter in network.parameters()]
        self._buffers = list(self._network.buffers())
        self._copied = list(network.buffers())
        self._behind = False

    @property
    def network(self) -> nn.Module:
        """The average as it is now, with the buffers of the network that it follows: ask anew after an update."""
        if self._behind:
            # Only here, where somebody looks: they are many and small, and change with every pass.
            with torch.no_grad():
                torch._foreach_copy_(self._buffers, self._copied)
            self._behind = False
        return self._network

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move towards the network: average = decay * average + (1 - decay) * network; buffers are copied."""
        torch._foreach_lerp_(self._parameters, self._followed, 1.0 - decay)
        self._behind = bool(self._buffers)
