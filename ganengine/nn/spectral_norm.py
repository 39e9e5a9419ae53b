"""Spectral normalisation of weights, whose vectors are part of the state and move only where they should."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ganengine.ops.spectral_norm import iterated, over_next_sigma, over_sigma

START = 15
"""Iterations at the start, from random vectors; the paper's single one per pass then only has to follow the weight."""

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SpectralNorm(nn.Module):
    """Parametrisation of one weight: W / sigma(W), sigma(W) = u^T W v, with W as a matrix [outputs, rest].

    u and v follow the largest singular value by power iteration: v = W^T u / |W^T u|, u = W v / |W v|.

    Args:
        weight: the weight as it is now.
        axis: its axis of outputs.
        generator: draws the first u.
        eps: lower limit of the norms that are divided by.

    State: `u` [outputs], `v` [rest]. They move by one iteration in every forward pass of the layer in training mode
    (not in eval mode, nor inside `ganengine.nn.context.hold`), so a checkpoint holds all that is needed to go on.
    Gradients: into the weight, any order; u and v are constants. Paper: arXiv:1802.05957, section 2.1, algorithm 1.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, axis: int, generator: Generator, eps: float = 1e-12) -> None:
        super().__init__()
        self.axis, self.eps = axis, eps
        self.track_running_stats = True
        self.due = False
        """Whether a pass has begun, in which u and v move as soon as its weight is looked at."""
        first = weight.detach()
        u = torch.randn(weight.shape[axis], generator=generator).to(first)
        self.register_buffer("u", F.normalize(u, dim=0, eps=eps))
        self.register_buffer("v", first.new_zeros(weight.numel() // weight.shape[axis]))
        for _ in range(START):
            self._move(*iterated(weight, self.u, axis, eps))

    def forward(self, weight: Tensor) -> Tensor:
        if not self.due:
            return over_sigma(weight, self.u, self.v, self.axis)
        self.due = False
        y, *vectors = over_next_sigma(weight, self.u, self.axis, self.eps)
        self._move(*vectors)
        return y

    def _move(self, u: Tensor, v: Tensor) -> None:
        self.u.copy_(u)
        self.v.copy_(v)


def spectral_norm(network: nn.Module, generator: Generator) -> int:
    """Put `SpectralNorm` on every weight of two or more axes in `network`, and return how many those are.

    A weight is a parameter called `weight`, as in `ganengine.nn.init`: those of linear and convolutional layers, of
    maxout and of embeddings. In the state it is then called `parametrizations.weight.original`.

    Args:
        network: changed in place; its modules stay of their classes.
        generator: draws the first vectors.
    """
    layers = [module for module in network.modules() if getattr(module._parameters.get("weight"), "ndim", 0) > 1]
    for layer in layers:
        axis = 1 if isinstance(layer, _TRANSPOSED) else 0
        rule = SpectralNorm(cast(Tensor, layer.weight), axis, generator).train(layer.training)
        parametrize.register_parametrization(layer, "weight", rule)
        layer.register_forward_pre_hook(follow)
    return len(layers)


def follow(layer: Any, inputs: Any) -> None:
    """Have the vectors of a layer's rule move in the pass that begins, if it is one in training."""
    # A plain function of the layer: a copy of a network copies its hooks, which must then see the copy.
    rule = layer.parametrizations.weight[0]
    rule.due = layer.training and rule.track_running_stats
