"""Exponential moving averages of networks, with a half-life in images so that the batch size does not bend it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def decay_at(images: int, batch: int, half_life: int, rampup: float) -> float:
    """Return the factor that the average keeps in a step of `batch` images.

    decay = 0.5^(batch / min(half_life, rampup * images)): early on the average forgets fast, so that it is good at
    any time (the rule of arXiv:1912.04958's published code, with the half-life in images).
    """
    window = min(float(half_life), rampup * images) if rampup > 0 else float(half_life)
    return 0.5 ** (batch / window) if window > 0 else 0.0


class Average:
    """The averaged copy of one network."""

    def __init__(self, network: nn.Module) -> None:
        self._decay = 0.0
        self._model = AveragedModel(network, multi_avg_fn=self._lerp)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        self._model.update_parameters(network)  # the first update copies

    @property
    def network(self) -> nn.Module:
        """The averaged network itself."""
        module: nn.Module = self._model.module
        return module

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Move towards `network`: average = decay * average + (1 - decay) * network; buffers are copied."""
        self._decay = decay
        self._model.update_parameters(network)

    def _lerp(self, averaged: Sequence[Tensor], parameters: Sequence[Tensor], _: Any) -> None:
        torch._foreach_lerp_(list(averaged), list(parameters), 1.0 - self._decay)
