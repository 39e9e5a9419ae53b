"""Equalised layers, pixel norm and minibatch deviation: by hand, and by what they promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn import EqualisedConv2d, EqualisedLinear, MinibatchStd, PixelNorm


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# -- equalised learning rate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_weights_are_scaled_as_they_are_used(gain: float) -> None:
    torch.manual_seed(0)
    linear, conv = EqualisedLinear(6, 3, gain=gain).double(), EqualisedConv2d(2, 3, 4, 2, 1, gain=gain).double()
    for layer, fan_in in ((linear, 6), (conv, 2 * 4 * 4)):
        assert layer.scale == pytest.approx(gain / math.sqrt(fan_in))
        assert layer.bias is not None
        assert not layer.bias.any()
        nn.init.normal_(layer.bias)
    x, y = drawn(5, 6), drawn(5, 2, 8, 8)
    torch.testing.assert_close(linear(x), x @ (linear.weight.T * gain / 6**0.5) + linear.bias)
    torch.testing.assert_close(conv(y), F.conv2d(y, conv.weight * gain / 32**0.5, conv.bias, 2, 1))


def test_weights_start_at_one_and_outputs_of_a_deep_stack_keep_their_size() -> None:
    torch.manual_seed(0)
    layers = [EqualisedLinear(400, 400) for _ in range(8)]
    assert all(layer.weight.std().item() == pytest.approx(1, rel=0.02) for layer in layers)
    x = torch.randn(64, 400)
    for layer in layers:
        x = layer(x).relu()
    assert 0.3 < x.square().mean().item() < 3  # each layer's weights move it by a tenth or so; unscaled: 200^8


def test_a_layer_without_bias_has_none() -> None:
    assert [name for name, _ in EqualisedConv2d(2, 3, 1, bias=False).named_parameters()] == ["weight"]


# -- pixel norm ----------------------------------------------------------------------------------------------------


def test_pixel_norm_by_hand() -> None:
    x = torch.tensor([[[3.0], [4.0]], [[0.0], [-2.0]]])  # [2, 2, 1]: mean squares 12.5 and 2
    found = PixelNorm()(x)[..., 0]
    torch.testing.assert_close(found, torch.tensor([[3, 4], [0, -2]]) / torch.tensor([[12.5], [2.0]]).sqrt())


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(0.01, 100), channels=st.integers(1, 7), seed=st.integers(0, 99))
def test_pixel_norm_gives_unit_mean_square_whatever_the_scale(factor: float, channels: int, seed: int) -> None:
    x = drawn(2, channels, 3, 3, seed=seed)
    found = PixelNorm(eps=0.0)(factor * x)
    torch.testing.assert_close(found.square().mean(1), torch.ones(2, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(found, PixelNorm(eps=0.0)(x))


def test_pixel_norm_of_zeros_is_zero_with_a_finite_gradient() -> None:
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    PixelNorm()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_low_precision_is_widened_inside_and_kept_outside() -> None:
    x = (drawn(2, 3, 4, 4) * 1e4).half()  # its squares are beyond float16
    for layer in (PixelNorm(), MinibatchStd()):
        found = layer(x)
        assert found.dtype == torch.float16
        assert found.isfinite().all()


# -- minibatch deviation -------------------------------------------------------------------------------------------


def test_minibatch_deviation_by_hand() -> None:
    x = torch.tensor([[[[1.0]], [[5.0]]], [[[3.0]], [[5.0]]]])  # deviations over the samples: 1 and 0
    found = MinibatchStd(eps=0.0)(x)
    assert found.shape == (2, 3, 1, 1)
    assert torch.equal(found[:, :2], x)
    assert found[:, 2].flatten().tolist() == [0.5, 0.5]


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 5), seed=st.integers(0, 99), shift=st.floats(-50, 50))
def test_minibatch_deviation_ignores_order_and_shift(count: int, seed: int, shift: float) -> None:
    x = drawn(count, 3, 2, 4, seed=seed)
    found = MinibatchStd()(x)[:, 3]
    assert len(found.unique()) == 1
    torch.testing.assert_close(MinibatchStd()(x.flip(0) + shift)[:, 3], found)
    expected = (x.var(0, correction=0) + 1e-8).sqrt().mean()
    torch.testing.assert_close(found[0, 0, 0], expected)


@pytest.mark.parametrize("layer", [PixelNorm(), MinibatchStd(), EqualisedConv2d(3, 2, 2).double()])
def test_gradients_of_first_and_second_order(layer: nn.Module) -> None:
    x = drawn(2, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_equal_samples_have_a_finite_gradient() -> None:
    x = torch.ones(3, 2, 2, 2, requires_grad=True)
    MinibatchStd()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
