"""One pass over several batches: taken where it is the same as a pass each, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ganengine.nn import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    Dropout,
    InstanceNorm2d,
    MinibatchStd,
    ReferenceNorm,
    spectral_norm,
    together,
)


class Counting(nn.Module):
    """Count the passes through `layer`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.passes = nn.Sequential(*layers).double(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        y: Tensor = self.layers(x)
        return y


def batches(*sizes: int, side: int = 5) -> list[Tensor]:
    return [torch.randn(n, 2, side, side, dtype=torch.float64) for n in sizes]


def test_one_pass_has_the_results_and_gradients_of_two() -> None:
    network = Counting(nn.Conv2d(2, 4, 3), InstanceNorm2d(4, affine=True), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    first, second = batches(2, 3)
    found = together(network, first, second)
    assert network.passes == 1
    grads = torch.autograd.grad(found[0].sin().sum() + 2 * found[1].sum(), list(network.parameters()))
    apart = [network(first), network(second)]
    expected = torch.autograd.grad(apart[0].sin().sum() + 2 * apart[1].sum(), list(network.parameters()))
    for mine, right in zip((*found, *grads), (*apart, *expected), strict=True):
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize(
    "layer",
    [
        BatchNorm2d(2),
        nn.BatchNorm2d(2),
        MinibatchStd(2),
        ReferenceNorm(2),
        nn.Dropout(0.5),
        Dropout(0.5, always=True),
        InstanceNorm2d(2, track_running_stats=True),
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.utils.spectral_norm(nn.Linear(5, 5)),
        nn.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_mix_draw_or_move_on_take_a_pass_each(layer: nn.Module) -> None:
    network = Counting(nn.Conv2d(2, 2, 1), layer)
    if isinstance(layer, nn.Identity):  # the convolution is what takes a pass each then
        spectral_norm(network, torch.Generator().manual_seed(0))
    assert len(together(network, *batches(4, 4))) == 2
    assert network.passes == 2


def test_a_conditional_norm_anywhere_takes_a_pass_each() -> None:
    network = Counting(nn.Identity())
    network.norm = ConditionalBatchNorm2d(2, 3)
    together(network, *batches(1, 1))
    assert network.passes == 2


def test_batches_of_two_shapes_take_a_pass_each() -> None:
    network = Counting(nn.Conv2d(2, 1, 3))
    small, large = together(network, *batches(1), *batches(1, side=7))
    assert (small.shape[-1], large.shape[-1], network.passes) == (3, 5, 2)
    together(network, *batches(1))
    assert network.passes == 3
