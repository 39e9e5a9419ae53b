"""A convolution with the doubling or halving beside it: one convolution, the numbers of the two."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn import conv_pool2d, convolution, resampled, spectral_norm, up_conv2d
from ganengine.nn.adopt import adopt

WAYS: dict[str, tuple[Callable[[nn.Conv2d, Tensor], Tensor], Callable[[nn.Conv2d, Tensor], Tensor]]] = {
    "up": (up_conv2d, lambda conv, x: conv(F.interpolate(x, scale_factor=2))),
    "pool": (conv_pool2d, lambda conv, x: F.avg_pool2d(conv(x), 2)),
}


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one of them at every size, in float64 too."""
    monkeypatch.setattr(resampled, "LEAST_SIDE", dict.fromkeys((*resampled.LEAST_SIDE, torch.float64), 2))
    monkeypatch.setattr(resampled, "LEAST_SIDE_OF_KERNELS", 2)


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell when two became one."""
    told: list[str] = []
    kernels = resampled.merged_kernels
    monkeypatch.setattr(
        resampled, "merged_kernels", lambda *given, **named: told.append("merged") or kernels(*given, **named)
    )
    return told


def adopted(conv: nn.Conv2d) -> nn.Conv2d:
    ours = copy.deepcopy(conv)
    adopt(ours)
    return ours


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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


# ----------------------------------------------------------------------------------------------------------------
# With an activation in front, in every precision


def bent(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


FRONTED: dict[str, tuple[Callable[[nn.Conv2d, Tensor], Tensor], Callable[[nn.Conv2d, Tensor], Tensor]]] = {
    "relu-pool": (lambda conv, x: conv_pool2d(conv, x, 0.0), lambda conv, x: F.avg_pool2d(conv(bent(x, 0.0)), 2)),
    "leaky-pool": (lambda conv, x: conv_pool2d(conv, x, 0.2), lambda conv, x: F.avg_pool2d(conv(bent(x, 0.2)), 2)),
    **WAYS,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sides", [(6, 8), (7, 8)], ids=["even", "odd"])
@pytest.mark.parametrize("way", ["relu-pool", "leaky-pool"])
def test_values_and_gradients_behind_an_activation(
    way: str, sides: tuple[int, int], dtype: torch.dtype, merged: list[str]
) -> None:
    ours, theirs = FRONTED[way]
    conv = nn.Conv2d(3, 5, 3, padding=1).to(dtype)
    results = []
    for function, layer in ((theirs, conv), (ours, adopted(conv))):
        x = picture(2, 3, *sides).to(dtype).requires_grad_()
        y = function(layer, x)
        y.sin().sum().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    allowed = 1e-11 if dtype == torch.float64 else 1e-5
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=allowed, atol=allowed)
    assert merged == (["merged"] if sides == (6, 8) else [])


def test_gradients_of_second_order_behind_an_activation() -> None:
    conv = adopted(nn.Conv2d(2, 2, 3, padding=1).double())
    x = picture(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, *_: conv_pool2d(conv, x, 0.2).sin(), (x, *conv.parameters()))


@pytest.fixture(params=["tiles", "backend"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who computes convolutions in bfloat16."""
    own = (convolution.kernels_pay, convolution.small_kernels_pay)
    if request.param == "tiles" and not any(pay(torch.bfloat16) for pay in own):
        pytest.skip("this machine has neither AMX nor AVX512_BF16, or the kernels are not compiled")
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: False)
    for module in (convolution, resampled):
        monkeypatch.setattr(module, "kernels_pay", lambda dtype: dtype == torch.bfloat16 and request.param == "tiles")
    return str(request.param)


@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "spectral"])
@pytest.mark.parametrize("side", ["merged", "apart"])
@pytest.mark.parametrize("way", FRONTED)
def test_in_bfloat16(
    way: str, side: str, normalised: bool, by: str, merged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    least = 4 if side == "merged" else 1 << 30
    monkeypatch.setattr(resampled, "LEAST_SIDE", {torch.bfloat16: least})
    monkeypatch.setattr(resampled, "LEAST_SIDE_OF_KERNELS", least)
    ours, theirs = FRONTED[way]
    results = []
    for function, dtype in ((theirs, torch.float64), (ours, torch.bfloat16)):
        network = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1))
        network[0].weight.data = picture(16, 8, 3, 3).div(9).bfloat16().float()
        network[0].bias.data = picture(16).float()
        if normalised:
            spectral_norm(network, torch.Generator().manual_seed(0))
        if dtype == torch.float64:
            network.double()
        else:
            adopt(network)
        for seed in (0, 1):  # a normalised weight moves on once in each pass
            x = picture(2, 8, 12, 12, seed=seed).bfloat16().to(dtype).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                y = function(network[0], x)
        y.backward(picture(*y.shape).to(dtype))
        results.append([y, x.grad, *(p.grad for p in network.parameters()), *network.buffers()])
    for expected, found in zip(*results, strict=True):
        assert (found.double() - expected).abs().max() <= 0.02 * expected.abs().max()
    assert merged == (["merged"] * 2 if side == "merged" else [])


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_batch(way: str) -> None:
    layer = adopted(nn.Conv2d(4, 6, 3, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        y = WAYS[way][0](layer, torch.zeros(0, 4, 16, 16))
    assert y.shape == (0, 6, *((32, 32) if way == "up" else (8, 8)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", WAYS)
def test_weights_of_16_bits(way: str, dtype: torch.dtype, merged: list[str]) -> None:
    """A network that was converted whole: its weight and the gradient of that have 16 bits too."""
    ours, theirs = WAYS[way]
    conv = nn.Conv2d(8, 16, 3, padding=1).to(dtype)
    results = []
    for function, layer, width in (
        (theirs, copy.deepcopy(conv).double(), torch.float64),
        (ours, adopted(conv), dtype),
    ):
        x = picture(2, 8, 12, 12).to(dtype).to(width).requires_grad_()
        y = function(layer, x)
        y.backward(picture(*y.shape).to(width))
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        assert found.dtype == dtype
        assert (found.double() - expected).abs().max() <= 0.02 * expected.abs().max()
    assert merged == ["merged"]
