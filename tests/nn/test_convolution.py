"""Convolutions over small maps against torch's own, in float64: values, gradients of every order, who computes what."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine.layout import channels_last
from ganengine.nn import convolution, spectral_norm
from ganengine.nn.adopt import adopt
from ganengine.nn.convolution import Conv2d, ConvTranspose2d, Form
from ganengine.nn.flatten import Flatten, Unflatten
from ganengine.players import to_channels_last

MEASURED = {
    name: getattr(convolution, name) for name in ("VALUES_LEAST_RATIO", "VALUES_MOST_POSITIONS", "WEIGHTS_LEAST_RATIO")
}


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the matrix product everywhere."""
    everything = dict.fromkeys(convolution.VALUES_LEAST_RATIO, 0)
    monkeypatch.setattr(convolution, "VALUES_LEAST_RATIO", everything)
    monkeypatch.setattr(convolution, "WEIGHTS_LEAST_RATIO", everything)
    monkeypatch.setattr(convolution, "VALUES_MOST_POSITIONS", 10**9)


def pair(transposed: bool, *form: Any, **more: Any) -> tuple[nn.Module, nn.Module]:
    """Return torch's own layer and ours, with the same weights."""
    theirs = (nn.ConvTranspose2d if transposed else nn.Conv2d)(*form, **more).double()
    ours = copy.deepcopy(theirs)
    assert adopt(ours) == 1
    return theirs, ours


FORMS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "bias": st.booleans(),
    }
)


@settings(deadline=None, max_examples=60)
@given(transposed=st.booleans(), form=FORMS, sides=st.tuples(st.integers(4, 7), st.integers(4, 7)), last=st.booleans())
def test_values_and_gradients_are_torchs(
    transposed: bool, form: dict[str, Any], sides: tuple[int, int], last: bool
) -> None:
    theirs, ours = pair(transposed, 3, 2, **form)
    x = torch.randn(2, 3, *sides, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    try:
        theirs(x)
    except RuntimeError:  # the kernel is larger than the picture
        return
    results = []
    for layer in (theirs, ours):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        (y * y.detach().sin()).sum().backward()
        results.append([y, leaf.grad, *(p.grad for p in layer.parameters())])
    for mine, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_an_activation_may_work_in_place(transposed: bool, bias: bool) -> None:
    results = []
    for layer in pair(transposed, 2, 3, 3, stride=2, padding=1, bias=bias):
        x = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = nn.Sequential(layer, nn.ReLU(inplace=True))(x)
        y.sin().sum().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_second_order(transposed: bool) -> None:
    _, ours = pair(transposed, 2, 3, 3, stride=2, padding=1)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weights = tuple(ours.parameters())

    def fn(x: Tensor, *_: Tensor) -> Tensor:
        return ours(x)

    assert torch.autograd.gradcheck(fn, (x, *weights))
    assert torch.autograd.gradgradcheck(fn, (x, *weights))


def test_a_penalty_on_the_gradient_reaches_the_weights() -> None:
    found = []
    for layer in pair(False, 2, 3, 3, padding=1):
        x = torch.arange(64, dtype=torch.float64).reshape(2, 2, 4, 4).div(64).requires_grad_()
        (slope,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
        slope.square().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    for mine, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, expected)


def test_nobody_computes_what_no_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """G's phase lets the gradient through D: D's weights must cost nothing there."""
    called: list[str] = []
    product = convolution._product
    monkeypatch.setattr(convolution, "_product", lambda *given: called.append("weights") or product(*given))
    _, D = pair(False, 2, 2, 3, padding=1)
    z = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    D(D(z)).sum().backward(inputs=[z])
    assert called == []
    D(D(z.detach())).sum().backward(inputs=list(D.parameters()))
    assert called == ["weights"] * 2
    with torch.no_grad():
        assert D(z).grad_fn is None


def test_autocast_computes_in_its_dtype_and_gives_gradients_in_the_weights() -> None:
    theirs, ours = (layer.float() for layer in pair(False, 8, 8, 3, padding=1))
    x = torch.randn(4, 8, 4, 4)
    grads = []
    for layer in (theirs, ours):
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == torch.float32
        grads.append(layer.weight.grad)
    assert (grads[0] - grads[1]).abs().max() <= 0.02 * grads[0].abs().max()


def test_normalised_layers_and_copies_are_taken_too() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.ConvTranspose2d(3, 2, 3), nn.Linear(1, 1))
    spectral_norm(network[:1], torch.Generator().manual_seed(0))
    assert adopt(network) == 3  # the sequence too
    copied = copy.deepcopy(network)
    for each in (network, copied):
        assert isinstance(each[0], Conv2d)
        assert isinstance(each[2], ConvTranspose2d)
    assert set(network.state_dict()) == set(copied.state_dict())
    assert adopt(nn.Conv3d(1, 1, 1)) == 0


def test_what_is_left_to_torch() -> None:
    for layer in (nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2)):
        ours = copy.deepcopy(layer)
        adopt(ours)
        x = torch.randn(1, 4, 6, 6)
        assert torch.equal(ours(x), layer(x))
    rim = nn.ConvTranspose2d(2, 2, 3, stride=2)
    ours = copy.deepcopy(rim)
    adopt(ours)
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(ours(x, output_size=[8, 8]), rim(x, output_size=[8, 8]))


BF16, F32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("side", "batch", "weights", "dtype", "values", "gradient"),
    [(4, 64, 512 * 256 * 25, BF16, True, True), (8, 64, 256 * 128 * 25, BF16, True, True),
     (16, 64, 128 * 64 * 25, BF16, False, False), (15, 1, 256 * 128 * 16, BF16, False, True),
     (4, 64, 64 * 64 * 9, BF16, False, True), (4, 64, 64 * 64 * 9, F32, False, False),
     (4, 8, 512 * 256 * 16, F32, True, True), (8, 8, 512 * 128 * 16, F32, True, True),
     (1, 1, 256 * 256 * 16, BF16, True, True)],
)  # fmt: skip
def test_where_a_product_wins(
    side: int,
    batch: int,
    weights: int,
    dtype: torch.dtype,
    values: bool,
    gradient: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in MEASURED.items():
        monkeypatch.setattr(convolution, name, value)
    form = Form((1, 1), (1, 1), (0, 0), (0, 0), False, (side, side), (side, side))
    assert form.values_pay(batch, weights, dtype) is values
    assert form.weights_pay(batch, weights, dtype) is gradient


def test_flattening_keeps_the_memory_order_of_gradients() -> None:
    features = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    seen: list[Tensor] = []
    for layer in (nn.Flatten(), Flatten()):
        middle = features * 1
        middle.register_hook(seen.append)
        (layer(middle) * torch.arange(48.0)).sum().backward()
    assert torch.equal(seen[0], seen[1])
    assert [g.is_contiguous(memory_format=torch.channels_last) for g in seen] == [False, True]


@pytest.mark.parametrize(("channels", "moved"), [(3, False), (8, True)], ids=["picture", "features"])
def test_unflattened_features_are_channels_last(channels: int, moved: bool) -> None:
    flat = torch.randn(2, channels * 4, requires_grad=True)
    plain, ours = (layer(flat) for layer in (nn.Unflatten(1, (channels, 2, 2)), Unflatten(1, (channels, 2, 2))))
    assert torch.equal(plain, ours)
    assert ours.is_contiguous(memory_format=torch.channels_last) is moved
    weights = torch.randn_like(plain)
    grads = [torch.autograd.grad((out * weights).sum(), flat)[0] for out in (plain, ours)]
    assert torch.equal(*grads)


def test_one_channel_says_that_it_is_channels_last() -> None:
    grey = channels_last(torch.randn(2, 1, 4, 6))
    assert grey.stride() == (24, 1, 6, 1)
    layer = nn.Conv2d(1, 3, 3)
    plain = layer(grey.contiguous())
    to_channels_last(layer)
    adopt(layer)
    for picture in (grey, torch.randn(2, 1, 4, 6), torch.randn(2, 1, 4, 6, requires_grad=True)):
        assert layer(picture).is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(layer(grey), plain, atol=1e-6)


def test_padding_keeps_the_precision() -> None:
    x = torch.randn(1, 2, 4, 4).bfloat16()
    theirs, ours = nn.ReflectionPad2d(1), nn.ReflectionPad2d(1)
    assert adopt(ours) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert theirs(x).dtype == torch.float32
        assert ours(x).dtype == torch.bfloat16
        assert torch.equal(ours(x).float(), theirs(x))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_picture_of_other_channels_is_named(transposed: bool) -> None:
    _, ours = pair(transposed, 1, 2, 3)
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 3 channels"):
        ours(torch.zeros(1, 3, 5, 5, dtype=torch.float64))
