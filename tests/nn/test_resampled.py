"""A convolution with the doubling or halving beside it: one convolution, the numbers of the two."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn import conv_pool2d, resampled, spectral_norm, up_conv2d
from ganengine.nn.adopt import adopt

WAYS: dict[str, tuple[Callable[[nn.Conv2d, Tensor], Tensor], Callable[[nn.Conv2d, Tensor], Tensor]]] = {
    "up": (up_conv2d, lambda conv, x: conv(F.interpolate(x, scale_factor=2))),
    "pool": (conv_pool2d, lambda conv, x: F.avg_pool2d(conv(x), 2)),
}


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one of them at every size, in float64 too."""
    monkeypatch.setattr(resampled, "LEAST_SIDE", dict.fromkeys((*resampled.LEAST_SIDE, torch.float64), 2))


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell when two became one."""
    told: list[str] = []
    kernels = resampled._merged
    monkeypatch.setattr(resampled, "_merged", lambda *given: told.append("merged") or kernels(*given))
    return told


def adopted(conv: nn.Conv2d) -> nn.Conv2d:
    ours = copy.deepcopy(conv)
    adopt(ours)
    return ours


def picture(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients(way: str, bias: bool, last: bool, merged: list[str]) -> None:
    ours, theirs = WAYS[way]
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=bias).double()
    results = []
    for function, layer in ((theirs, conv), (ours, adopted(conv))):
        x = picture(2, 3, 6, 8).requires_grad_()
        y = function(layer, x.contiguous(memory_format=torch.channels_last) if last else x)
        y.sin().sum().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert merged == ["merged"]


@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_second_order(way: str) -> None:
    conv = adopted(nn.Conv2d(2, 2, 3, padding=1).double())
    x = picture(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, *_: WAYS[way][0](conv, x).sin(), (x, *conv.parameters()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(2, 2, 5, padding=2),
        nn.Conv2d(2, 2, 3),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, padding=1, groups=2),
        nn.Conv2d(2, 2, 3, padding=2, dilation=2),
    ],
    ids=str,
)
def test_what_stays_two(way: str, conv: nn.Conv2d, merged: list[str]) -> None:
    conv = conv.double()
    x = picture(1, 2, 8, 8)
    ours, theirs = WAYS[way]
    assert torch.equal(ours(adopted(conv), x), theirs(conv, x))
    assert merged == []


def test_layers_as_torch_has_them_odd_sides_and_hooks_stay_two(merged: list[str]) -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1).double()
    conv_pool2d(conv, picture(1, 2, 4, 4))
    conv_pool2d(adopted(conv), picture(1, 2, 5, 4))
    heard = adopted(conv)
    heard.register_forward_hook(lambda *_: None)
    up_conv2d(heard, picture(1, 2, 4, 4))
    assert merged == []


@pytest.mark.parametrize("way", WAYS)
def test_a_normalised_kernel_moves_on_once(way: str, merged: list[str]) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)).double()
    spectral_norm(network, torch.Generator().manual_seed(0))
    other = copy.deepcopy(network)
    adopt(other)
    ours, theirs = WAYS[way]
    for _ in range(3):
        torch.testing.assert_close(ours(other[0], picture(1, 2, 4, 4)), theirs(network[0], picture(1, 2, 4, 4)))
    for mine, expected in zip(other.buffers(), network.buffers(), strict=True):
        torch.testing.assert_close(mine, expected)
    assert merged == ["merged"] * 3
