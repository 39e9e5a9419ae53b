"""Convolutions over small maps against torch's own, in float64: values, gradients of every order, who computes what."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
import torch.fx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from ganengine.layout import channels_last
from ganengine.nn import convolution, preact_conv2d, spectral_norm
from ganengine.nn.adopt import adopt
from ganengine.nn.convolution import Conv2d, ConvTranspose2d, Form
from ganengine.nn.flatten import Flatten, Unflatten
from ganengine.ops import dispatch
from ganengine.players import to_channels_last

MEASURED = {
    name: getattr(convolution, name)
    for name in ("VALUES_LEAST_RATIO", "VALUES_MOST_POSITIONS", "WEIGHTS_LEAST_RATIO", "LEAST_PRODUCTS")
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


def test_copies_are_adopted_without_the_original() -> None:
    """Deep copies share the class that torch makes for a parametrized layer."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 3))
    spectral_norm(network, torch.Generator().manual_seed(0))
    network.eval()
    copied, x = copy.deepcopy(network), torch.randn(2, 2, 6, 6)
    classes, expected = [type(layer) for layer in network], network(x)
    assert adopt(copied) == 3
    assert [type(layer) for layer in network] == classes
    assert not any(isinstance(layer, (Conv2d, ConvTranspose2d)) for layer in network)
    assert [isinstance(layer, kind) for layer, kind in zip(copied, (Conv2d, ConvTranspose2d), strict=True)] == [
        True
    ] * 2
    torch.testing.assert_close(copied(x), expected)
    for layer in copied:
        parametrize.remove_parametrizations(layer, "weight")
        layer._forward_pre_hooks.clear()
    assert [type(layer) for layer in copied] == [Conv2d, ConvTranspose2d]
    torch.testing.assert_close(copied(x), expected)
    assert torch.equal(network(x), expected)  # which still has its parametrizations


@pytest.mark.parametrize("grey", [False, True])
def test_torch_fx_traces_networks_with_these_layers(grey: bool) -> None:
    colours = 1 if grey else 3
    network = nn.Sequential(nn.Conv2d(colours, 4, 3), nn.LeakyReLU(0.2), nn.ConvTranspose2d(4, 3, 3), nn.ReLU())
    adopt(network)
    x = torch.randn(2, colours, 6, 6)
    traced = torch.fx.symbolic_trace(network)
    torch.testing.assert_close(traced(x), network(x))


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
    form = Form((1, 1), (1, 1), (0, 0), (0, 0), False, False, (side, side), (side, side))
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


# ----------------------------------------------------------------------------------------------------------------
# In bfloat16, where the op of our own may multiply tiles


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose as outside of tests, but on a machine where few channels are nothing special."""
    for name, value in MEASURED.items():
        monkeypatch.setattr(convolution, name, value)
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: False)


@pytest.fixture(params=["tiles", "backend"])
def way(request: pytest.FixtureRequest, measured: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who computes layers of many positions and few weights."""
    if request.param == "backend":
        monkeypatch.setattr(convolution, "kernels_pay", lambda _: False)
        monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    elif not (convolution.kernels_pay(BF16) or convolution.small_kernels_pay(BF16)):
        pytest.skip("this machine has neither AMX nor AVX512_BF16, or the kernels are not compiled")
    else:
        monkeypatch.setattr(convolution, "kernels_pay", lambda dtype: dtype == BF16)
    return str(request.param)


def rounding(way: str) -> float:
    """Return the share of the largest number by which a result in bfloat16 may be off.

    Where the processor has no products in bfloat16, torch adds up patches in it, one rounding for each place.
    """
    return 2**-7 if way == "tiles" else 2**-6


def in_bfloat16(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        y: Tensor = layer(x)
    return y


def in_float64(layer: nn.Module) -> nn.Module:
    """Return a copy whose weights are those that products in bfloat16 see."""
    exact = copy.deepcopy(layer).double()
    for name, parameter in exact.named_parameters():
        if name.endswith("weight"):
            parameter.data = parameter.data.bfloat16().double()
    return exact


def drawn(*shape: int, seed: int = 1) -> Tensor:
    """Return channels-last pictures that bfloat16 holds."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().float()
    return values.contiguous(memory_format=torch.channels_last)


def made(layer: nn.Module, seed: int = 0) -> Any:
    """Return a layer as the engine has it: drawn weights, channels-last, one of ours."""
    for parameter in layer.parameters():
        seed += 1
        draw = torch.Generator().manual_seed(seed)
        parameter.data = torch.randn(parameter.shape, generator=draw) / parameter[0].numel() ** 0.5
    to_channels_last(layer)
    assert adopt(layer) > 0
    return layer


def assert_near(found: Tensor | None, exact: Tensor | None, allowed: float) -> None:
    assert found is not None
    assert exact is not None
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= allowed * exact.abs().max()


LAYERS = {
    "same": (lambda: nn.Conv2d(16, 33, 3, padding=1), (2, 16, 10, 12)),
    "first": (lambda: nn.Conv2d(3, 16, 7), (1, 3, 18, 18)),
    "grey": (lambda: nn.Conv2d(1, 8, 4, stride=2, padding=1), (2, 1, 24, 24)),
    "down": (lambda: nn.Conv2d(20, 32, 4, stride=2, padding=1, bias=False), (2, 20, 20, 20)),
    "rectangular": (lambda: nn.Conv2d(8, 8, (3, 5), stride=(1, 2), padding=(0, 2)), (2, 8, 12, 24)),
    "up": (lambda: nn.ConvTranspose2d(24, 16, 4, stride=2, padding=1), (2, 24, 10, 10)),
    "up-by-output-padding": (
        lambda: nn.ConvTranspose2d(16, 20, 3, stride=2, padding=1, output_padding=1),
        (2, 16, 10, 10),
    ),
    "up-without-bias": (
        lambda: nn.ConvTranspose2d(8, 3, (2, 3), (2, 3), output_padding=(1, 0), bias=False),
        (2, 8, 11, 10),
    ),
}


def front(x: Tensor, slope: float = 1.0, reflect: tuple[int, int] | None = None) -> Tensor:
    """Return x as the layer's own part of the work sees it."""
    x = torch.where(x > 0, x, slope * x)
    return x if reflect is None else F.pad(x, (reflect[1], reflect[1], reflect[0], reflect[0]), mode="reflect")


FRONTED: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "relu": (lambda: nn.Conv2d(16, 24, 3, padding=1), (2, 16, 12, 10), {"slope": 0.0}),
    "leaky": (lambda: nn.Conv2d(20, 16, 4, 2, 1, bias=False), (2, 20, 20, 20), {"slope": 0.25}),
    "relu-up": (lambda: nn.ConvTranspose2d(24, 16, 4, 2, 1), (2, 24, 10, 10), {"slope": 0.0}),
    "leaky-up": (lambda: nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1), (2, 8, 10, 10), {"slope": 0.25}),
    "reflect": (lambda: nn.Conv2d(16, 16, 3), (2, 16, 12, 10), {"reflect": (1, 1)}),
    "reflect-far": (lambda: nn.Conv2d(3, 16, 7), (1, 3, 20, 16), {"reflect": (3, 3)}),
    "reflect-uneven": (lambda: nn.Conv2d(8, 8, (3, 5), stride=(1, 2)), (2, 8, 12, 24), {"reflect": (0, 2)}),
    "relu-reflect": (lambda: nn.Conv2d(8, 8, 3, stride=2), (2, 8, 24, 20), {"slope": 0.0, "reflect": (2, 1)}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_autocast_layers_and_their_gradients_are_near_the_exact_ones(name: str, way: str) -> None:
    build, shape = LAYERS[name]
    layer = made(build())
    exact = in_float64(layer)
    leaves = drawn(*shape).requires_grad_(), drawn(*shape).double().requires_grad_()
    y, truth = in_bfloat16(layer, leaves[0]), exact(leaves[1])
    assert y.dtype == BF16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_near(y, truth, rounding(way))
    grad = drawn(*y.shape, seed=2)
    found = torch.autograd.grad(y, (leaves[0], *layer.parameters()), grad.bfloat16())
    for mine, other in zip(
        found, torch.autograd.grad(truth, (leaves[1], *exact.parameters()), grad.double()), strict=True
    ):
        assert mine.dtype == F32
        assert_near(mine, other, rounding(way))
    if way == "tiles":
        assert found[1].stride() == layer.weight.stride()
        # Summed in float32 and never rounded to bfloat16.
        weight = torch.autograd.grad(exact(leaves[1]), exact.weight, grad.double())[0]
        assert_near(found[1], weight, 1e-5)


@pytest.mark.parametrize("name", ["same", "up-by-output-padding"])
def test_fused_adam_steps_by_these_gradients(name: str, way: str) -> None:
    build, shape = LAYERS[name]
    ours = made(build())
    plain = copy.deepcopy(ours)
    grad = None
    for layer, fused in ((ours, True), (plain, False)):
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=fused)
        for seed in (1, 2):
            optimizer.zero_grad()
            y = in_bfloat16(layer, drawn(*shape, seed=seed))
            grad = drawn(*y.shape, seed=3).bfloat16() if grad is None else grad
            y.backward(grad)
            for parameter in layer.parameters():
                assert parameter.grad is not None
                if not fused:
                    parameter.grad = parameter.grad.contiguous()
            optimizer.step()
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def critic() -> nn.Sequential:
    network: nn.Sequential = made(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(16, 24, 4, 2, 1),
            nn.Tanh(),
            nn.ConvTranspose2d(24, 8, 3),
        )
    )
    return network


def penalty(D: nn.Module, x: Tensor) -> Tensor:
    """Return R1's: what the slope of the scores has of length."""
    (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def test_a_gradient_penalty_in_bfloat16(way: str) -> None:
    D = critic()
    exact = in_float64(D)
    leaves = drawn(2, 3, 20, 20).requires_grad_(), drawn(2, 3, 20, 20).double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = penalty(D, leaves[0])
    truth = penalty(exact, leaves[1])
    assert_near(value, truth, 0.03)
    value.backward()
    truth.backward()
    for mine, other in zip(D.parameters(), exact.parameters(), strict=True):
        if other.grad is None or not other.grad.any():  # the last bias moves no slope
            assert mine.grad is None or not mine.grad.any()
        else:
            assert_near(mine.grad, other.grad, 0.05)
    assert_near(leaves[0].grad, leaves[1].grad, 0.05)


@pytest.fixture
def called(measured: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of our own ops in the order in which layers and gradients call them; they need no AMX for it."""
    names: list[str] = []
    monkeypatch.setattr(convolution, "kernels_pay", lambda dtype: dtype == torch.bfloat16)

    def recorded(name: str, op: Any) -> Any:
        return lambda *given: names.append(name) or op(*given)

    for name in ("convolution", "convolution_backward", "convolution_weights"):
        for module in (convolution, importlib.import_module("ganengine.ops.convolution")):
            monkeypatch.setattr(module, name, recorded(name, getattr(module, name)))
    return names


def test_tiles_compute_what_somebody_waits_for(called: list[str]) -> None:
    D = critic()
    values = ["convolution", "convolution", "convolution_backward"]
    pictures = drawn(1, 3, 20, 20)
    with torch.no_grad():
        y = in_bfloat16(D, pictures)
    assert y.grad_fn is None
    assert called == values

    called.clear()
    again = in_bfloat16(D, pictures)
    assert torch.equal(again, y)
    again.sum().backward()
    # Pictures that nobody learns from have no gradient.
    assert sorted(called[3:]) == sorted(["convolution", "convolution_backward", *["convolution_weights"] * 3])

    called.clear()
    made_by_g = pictures.clone().requires_grad_()
    in_bfloat16(D, made_by_g).sum().backward(inputs=[made_by_g])
    assert called == [*values, "convolution", "convolution_backward", "convolution_backward"]

    called.clear()
    in_bfloat16(D.requires_grad_(False), made_by_g).sum().backward()
    assert "convolution_weights" not in called


def test_a_second_order_goes_by_the_same_ops(called: list[str]) -> None:
    x = drawn(1, 3, 20, 20).requires_grad_()
    y = in_bfloat16(critic(), x)
    called.clear()
    (slope,) = torch.autograd.grad(y.float().sum(), x, create_graph=True)
    first = ["convolution", "convolution_backward", "convolution_backward"]
    assert called == first
    called.clear()
    slope.float().square().sum().backward()
    assert {"convolution", "convolution_backward", "convolution_weights"} == set(called)


def test_normalised_weights_in_bfloat16(way: str) -> None:
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ConvTranspose2d(16, 8, 3, stride=2))
    spectral_norm(network, torch.Generator().manual_seed(0))
    made(network)
    network.eval()
    exact = copy.deepcopy(network).double()
    leaves = drawn(2, 8, 12, 12).requires_grad_(), drawn(2, 8, 12, 12).double().requires_grad_()
    y, truth = in_bfloat16(network, leaves[0]), exact(leaves[1])
    assert_near(y, truth, 0.03)
    grad = drawn(*y.shape, seed=2)
    y.backward(grad.bfloat16())
    truth.backward(grad.double())
    assert_near(leaves[0].grad, leaves[1].grad, 0.03)
    for mine, other in zip(network.parameters(), exact.parameters(), strict=True):
        assert_near(mine.grad, other.grad, 0.03)


@pytest.fixture
def in_float32(measured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our own kernels compute in float32, however small a layer is."""
    if not dispatch.compiled("convolution", "cpu"):
        pytest.skip("no compiled CPU kernels")
    monkeypatch.setattr(convolution, "kernels_pay", lambda dtype: dtype == F32)
    monkeypatch.setattr(convolution, "LEAST_PRODUCTS", dict.fromkeys(convolution.LEAST_PRODUCTS, 0))
    patches = dict.fromkeys(convolution.WEIGHTS_LEAST_RATIO, 1 << 40)
    monkeypatch.setattr(convolution, "VALUES_LEAST_RATIO", patches)
    monkeypatch.setattr(convolution, "WEIGHTS_LEAST_RATIO", patches)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("name", [*LAYERS, *FRONTED])
def test_float32_by_our_own_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape, *more = (LAYERS | FRONTED)[name]  # type: ignore[operator]
    layer, beside = made(build()), more[0] if more else {}
    exact = copy.deepcopy(layer).double()
    leaves = drawn(*shape).requires_grad_(), drawn(*shape).double().requires_grad_()
    y, truth = layer(leaves[0], **beside), exact(front(leaves[1], **beside))
    with monkeypatch.context() as patch:  # neither forward nor backward asks the backend
        patch.setattr(convolution, "_backend", lambda *_: pytest.fail("the backend's values"))
        patch.setattr(convolution, "_by_backend", lambda *_: pytest.fail("the backend's gradients"))
        grad = drawn(*y.shape, seed=2)
        found = torch.autograd.grad(layer(leaves[0], **beside), (leaves[0], *layer.parameters()), grad)
    expected = torch.autograd.grad(truth, (leaves[1], *exact.parameters()), grad.double(), retain_graph=True)
    for mine, other in zip((y, *found), (truth, *expected), strict=True):
        assert mine.dtype == F32
        assert_near(mine, other, 2e-6)

    (slope,) = torch.autograd.grad(y.tanh().sum(), leaves[0], create_graph=True)
    (steepness,) = torch.autograd.grad(truth.tanh().sum(), leaves[1], create_graph=True)
    seconds = torch.autograd.grad(slope.square().sum(), layer.parameters(), allow_unused=True)
    for mine, other in zip(
        seconds, torch.autograd.grad(steepness.square().sum(), exact.parameters(), allow_unused=True), strict=True
    ):
        assert (mine is None) == (other is None)
        if other is not None:
            assert_near(mine, other, 2e-5)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("channels", "side"), [(16, 32), (256, 16), (512, 2)])
def test_a_picture_gets_the_same_bits_whatever_its_batch_mates(
    channels: int, side: int, transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 and not in training: layers that would be products of patches, alone or beside fifteen others."""
    if not dispatch.compiled("convolution", "cpu"):
        pytest.skip("no compiled CPU kernels")
    monkeypatch.setattr(convolution, "kernels_pay", lambda dtype: dtype == F32)
    monkeypatch.setattr(convolution, "LEAST_PRODUCTS", {F32: 0})
    layer = made((nn.ConvTranspose2d if transposed else nn.Conv2d)(channels, channels, 4, 2, 1)).eval()
    pictures = drawn(16, channels, side, side)
    with torch.no_grad():
        together = layer(pictures)
        assert all(torch.equal(layer(pictures[n : n + 1]), together[n : n + 1]) for n in range(16))


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("training", "ways"), [(True, [None, ("own", "own")]), (False, [None, None])])
def test_batch_mates_have_a_say_in_training_alone(
    training: bool, ways: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "kernels_pay", lambda dtype: dtype == F32)
    pictures = drawn(8, 16, 20, 20)
    form = convolution.gathering((3, 3), (1, 1), (1, 1), pictures)
    assert [convolution.ways_of(x, 16 * 16 * 9, form, training) for x in (pictures[:1], pictures)] == ways


@pytest.mark.usefixtures("in_float32")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace")  # deprecated; with what else it calls
def test_a_tracer_sees_torchs_own_layer() -> None:
    layer = made(nn.Conv2d(16, 24, 3, padding=1))
    x = drawn(2, 16, 12, 12)
    traced = torch.jit.trace(layer, x)
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-5)
    assert "_Convolution" not in str(traced.graph)


# In, out, kernel; batch, side: the layer, as nobody else may have it.
MANY, FEW, WIDE, POINT = (256, 512, 5), (16, 16, 3), (256, 128, 4), (64, 64, 1)


@pytest.mark.parametrize(
    ("layer", "batch", "side", "dtype", "own", "ways"),
    [(FEW, 2, 20, BF16, True, ("own", "own")), (FEW, 2, 20, BF16, False, None),
     (FEW, 2, 20, F32, True, None), (FEW, 64, 5, BF16, True, ("own", "patches")),
     (FEW, 64, 5, BF16, False, ("backend", "patches")), (FEW, 1, 5, F32, True, None),
     (MANY, 64, 8, BF16, True, ("patches", "patches")), (MANY, 64, 8, BF16, False, ("patches", "patches")),
     (MANY, 64, 14, BF16, True, ("own", "patches")), (MANY, 1, 12, F32, True, ("patches", "patches")),
     (WIDE, 1, 18, BF16, True, ("own", "patches")), (WIDE, 1, 18, BF16, False, ("backend", "patches")),
     (WIDE, 32, 18, BF16, True, ("own", "own")), (WIDE, 1, 18, F32, False, ("backend", "patches")),
     (WIDE, 1, 18, F32, True, ("own", "patches")), (FEW, 8, 20, F32, True, ("own", "own")),
     (FEW, 8, 20, F32, False, None), (POINT, 64, 20, F32, True, None), (POINT, 64, 20, BF16, True, ("own", "own"))],
)  # fmt: skip
@pytest.mark.usefixtures("measured")
def test_which_way_is_taken(
    layer: tuple[int, int, int],
    batch: int,
    side: int,
    dtype: torch.dtype,
    own: bool,
    ways: tuple[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[Any] = []

    def convolved(x: Tensor, weight: Tensor, bias: Tensor, form: Form, ways: tuple[str, str], slope: float) -> Tensor:
        taken.append(ways)
        return x

    monkeypatch.setattr(convolution, "convolved", convolved)
    monkeypatch.setattr(convolution, "kernels_pay", lambda _: own)
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: taken.append(None))
    wide, narrow, kernel = layer
    ours = nn.utils.skip_init(Conv2d, wide, narrow, kernel)
    x = torch.empty(batch, wide, side, side)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == BF16):
        ours(x)
        with torch.no_grad():
            ours(x)
    # Where nothing is differentiated it matters who computes values alone.
    assert taken == [ways, None if ways is not None and ways[0] == "backend" else ways]


@pytest.mark.skipif(not dispatch.compiled("skinny_product", "cpu"), reason="no compiled CPU kernels")
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_few_rows_meet_the_weight_in_a_product_of_their_own(transposed: bool, batch: int, dtype: torch.dtype) -> None:
    """Places of two pictures are 32, of three 48: more than the op is faster for."""
    torch.manual_seed(4)
    theirs, ours = pair(transposed, 6, 10, 4, 2, 1)
    ours.float()
    x = torch.randn(batch, 6, *((4, 4) if transposed else (8, 8)))
    wide, taken = x.double().requires_grad_(), x.clone().requires_grad_()
    expected = theirs(wide)
    grad = torch.randn_like(expected)
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", BF16, enabled=dtype == BF16):
        made = ours(taken)
        made.backward(grad.to(made.dtype))
    expected.backward(grad)
    counted = {str(op).removeprefix("ganengine.") for op in counter.get_flop_counts()["Global"]}
    skinny = {"skinny_product", "skinny_product_backward", "skinny_product_weights"}
    assert (skinny <= counted, not skinny & counted) == (batch == 2, batch == 3)
    pairs = [(made.detach(), expected.detach()), (taken.grad, wide.grad)]
    pairs += [(own.grad, own_wide.grad) for own, own_wide in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for found, right in pairs:
        assert found is not None
        assert right is not None
        near = 1e-5 if dtype == F32 else 2e-2
        assert float((found.double() - right).abs().max()) <= near * float(right.abs().max())


@pytest.mark.parametrize("dtype", [BF16, torch.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_layers_kept_in_16_bits(transposed: bool, dtype: torch.dtype, way: str) -> None:
    """Such as a network to sample from: its bias is no float32 either."""
    layer = made((nn.ConvTranspose2d if transposed else nn.Conv2d)(3, 8, 3)).to(dtype)
    exact = copy.deepcopy(layer).double()
    y = in_bfloat16(layer, drawn(1, 3, 20, 20))
    assert_near(y, exact(drawn(1, 3, 20, 20).double()), rounding(way))
    y.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in layer.parameters())


# ----------------------------------------------------------------------------------------------------------------
# With an activation or a reflection in front


@pytest.mark.parametrize("name", FRONTED)
def test_what_stands_in_front_in_bfloat16(name: str, way: str) -> None:
    build, shape, more = FRONTED[name]
    layer = made(build())
    exact = in_float64(layer)
    leaves = drawn(*shape).bfloat16().requires_grad_(), drawn(*shape).double().requires_grad_()
    with torch.autocast("cpu", BF16):
        y = layer(leaves[0], **more)
    truth = exact(front(leaves[1], **more))
    assert y.dtype == BF16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_near(y, truth, rounding(way))
    grad = drawn(*y.shape, seed=2)
    found = torch.autograd.grad(y, (leaves[0], *layer.parameters()), grad.bfloat16())
    expected = torch.autograd.grad(truth, (leaves[1], *exact.parameters()), grad.double())
    assert [g.dtype for g in found] == [BF16, *(p.dtype for p in layer.parameters())]
    for mine, other in zip(found, expected, strict=True):
        assert_near(mine, other, rounding(way))


@pytest.mark.parametrize("name", FRONTED)
def test_a_penalty_through_what_stands_in_front_in_bfloat16(name: str, way: str) -> None:
    build, shape, more = FRONTED[name]
    layer = made(build())
    exact = in_float64(layer)
    leaves = drawn(*shape).requires_grad_(), drawn(*shape).double().requires_grad_()
    with torch.autocast("cpu", BF16):
        (slope,) = torch.autograd.grad(layer(leaves[0], **more).float().tanh().sum(), leaves[0], create_graph=True)
    (truth,) = torch.autograd.grad(exact(front(leaves[1], **more)).tanh().sum(), leaves[1], create_graph=True)
    assert_near(slope, truth, 0.03)
    slope.square().sum().backward()
    truth.square().sum().backward()
    assert_near(leaves[0].grad, leaves[1].grad, 0.05)
    for mine, other in zip(layer.parameters(), exact.parameters(), strict=True):
        assert_near(mine.grad, other.grad, 0.05)


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_second_order_behind_an_activation_and_a_reflection(transposed: bool) -> None:
    """By products of patches, which take along nothing."""
    theirs, ours = pair(transposed, 2, 2, 3, stride=2)
    more: dict[str, Any] = {"slope": 0.2} if transposed else {"slope": 0.2, "reflect": (1, 2)}
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def fn(x: Tensor, *_: Tensor) -> Tensor:
        y: Tensor = ours(x, **more)
        return y

    torch.testing.assert_close(fn(x), theirs(front(x, **more)), rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(fn, (x, *ours.parameters()))
    assert torch.autograd.gradgradcheck(fn, (x, *ours.parameters()))


PREACTS: dict[str, Any] = {"relu": 0.0, "leaky": 0.2, "none": 1.0}


@pytest.mark.parametrize("dtype", [torch.float64, F32])
@pytest.mark.parametrize("kind", ["adopted", "torch's", "heard"])
@pytest.mark.parametrize("slope", PREACTS.values(), ids=PREACTS)
@pytest.mark.usefixtures("measured")
def test_an_activation_before_a_layer(slope: float, kind: str, dtype: torch.dtype) -> None:
    theirs = nn.Conv2d(6, 8, 3, padding=1)
    ours = copy.deepcopy(theirs.to(dtype))
    heard: list[Tensor] = []
    if kind != "torch's":
        adopt(ours)
    if kind == "heard":
        ours.register_forward_hook(lambda _, __, y: heard.append(y))
    results = []
    for function in (lambda x: theirs(front(x, slope)), lambda x: preact_conv2d(ours, x, slope)):
        x = drawn(2, 6, 9, 8).to(dtype).requires_grad_()
        y = function(x)
        y.sin().sum().backward()
        results.append([y, x.grad])
    results[0] += [p.grad for p in theirs.parameters()]
    results[1] += [p.grad for p in ours.parameters()]
    allowed = 1e-12 if dtype == torch.float64 else 1e-4
    for expected, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=allowed, atol=allowed)
    assert len(heard) == (kind == "heard")


@pytest.mark.parametrize("slope", PREACTS.values(), ids=PREACTS)
def test_an_activation_before_a_normalised_layer_in_bfloat16(slope: float, way: str) -> None:
    network = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1))
    spectral_norm(network, torch.Generator().manual_seed(0))
    made(network)
    exact = copy.deepcopy(network).double()
    for seed in (1, 2, 3):  # the norm moves on once in each pass
        with torch.autocast("cpu", BF16):
            y = preact_conv2d(network[0], drawn(2, 8, 12, 12, seed=seed), slope)
        truth = exact(front(drawn(2, 8, 12, 12, seed=seed).double(), slope))
        assert_near(y, truth, 0.02)
    y.sum().backward()
    truth.sum().backward()
    for mine, other in zip(network.parameters(), exact.parameters(), strict=True):
        assert_near(mine.grad, other.grad, 0.03)
    for held, other in zip(network.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(held.double(), other, rtol=1e-4, atol=1e-4)


def test_tiles_take_along_what_stands_in_front(called: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("activated", "reflected"):
        monkeypatch.setattr(convolution, name, lambda *_: pytest.fail("a pass over memory of its own"))
    for build, shape, more in FRONTED.values():
        layer = made(build())
        x = drawn(*shape).requires_grad_()
        with torch.autocast("cpu", BF16):
            layer(x, **more).sum().backward()
    assert called.count("convolution_weights") == len(FRONTED)


@pytest.mark.parametrize(
    ("batch", "channels", "side", "kernel", "taken"),
    [
        (1, 64, 32, 3, True),
        (2, 64, 32, 3, True),
        (3, 64, 32, 3, True),
        (4, 64, 32, 3, False),  # more than 2^27 products
        (1, 64, 8, 3, True),
        (1, 64, 7, 3, False),  # lines that leave more than half of 16 places empty
        (1, 64, 32, 1, True),  # 4,096 weights
        (1, 63, 32, 1, False),
    ],
)
def test_where_products_of_pairs_pay(
    batch: int, channels: int, side: int, kernel: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda dtype: dtype == BF16)
    form = convolution.gathering((kernel,) * 2, (1, 1), (kernel // 2,) * 2, torch.empty(batch, channels, side, side))
    weights = channels * channels * kernel * kernel
    assert form.way(batch, weights, channels, BF16) == ("own" if taken else "backend")
    assert form.way(batch, weights, channels, F32) == "backend"


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("wide", "narrow", "kernel", "float32", "bfloat16"),
    [
        (256, 1, 4, True, True),  # the last layer of a PatchGAN's D
        (128, 4, 4, True, True),
        (128, 5, 4, False, False),
        (16, 3, 7, True, False),  # casts cost more than windows of so few numbers gain
        (127, 1, 4, True, False),
        (3, 64, 4, True, False),
        (2, 64, 4, True, False),
        (5, 64, 4, False, False),
        (1, 64, 4, False, False),  # a grey picture on the wide side
        (1, 1, 3, True, False),
        (4096, 1, 1, False, True),  # a product of matrices in float32
    ],
)
def test_where_few_channels_pay(
    wide: int,
    narrow: int,
    kernel: int,
    float32: bool,
    bfloat16: bool,
    transposed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolution, "kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: True)
    taken = narrow if transposed else wide
    square = ((kernel,) * 2, (1, 1), (0, 0))
    x = torch.empty(1, taken, 300, 300)
    form = convolution.scattering(*square, (0, 0), x) if transposed else convolution.gathering(*square, x)
    for dtype, few in ((F32, float32), (BF16, bfloat16)):
        assert form.way(1, wide * narrow * kernel * kernel, taken, dtype) == ("float32" if few else "backend")
    small = convolution.gathering((4, 4), (1, 1), (0, 0), torch.empty(1, 128, 14, 14))  # 121 places, 2,048 weights
    assert [small.way(batch, 2048, 128, F32) for batch in (1, 2)] == ["backend", "float32"]
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: False)
    assert form.way(1, wide * narrow * kernel * kernel, taken, F32) == "backend"


FEWS = {
    "one result": (lambda: nn.Conv2d(128, 1, 4, 1, 1), (2, 128, 9, 9), {}),
    "one result, behind an activation": (lambda: nn.Conv2d(128, 1, 4, 1, 1), (2, 128, 9, 9), {"slope": 0.2}),
    "three results, reflected": (lambda: nn.Conv2d(48, 3, 7), (1, 48, 12, 12), {"reflect": (3, 3), "slope": 0.0}),
    "from one channel": (lambda: nn.ConvTranspose2d(1, 128, 4, 2, 1), (2, 1, 9, 9), {}),
    "with products of patches": (lambda: nn.Conv2d(512, 1, 4), (64, 512, 4, 4), {}),
}


@pytest.mark.skipif(not dispatch.compiled("convolution", "cpu"), reason="no compiled CPU kernels")
@pytest.mark.parametrize("kept", [F32, BF16], ids=["kept in float32", "kept in bfloat16"])
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("name", FEWS)
def test_few_channels_go_by_kernels_in_float32(
    name: str, dtype: torch.dtype, kept: torch.dtype, called: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: True)
    monkeypatch.setattr(convolution, "FEW_LEAST_PRODUCTS", 0)
    if kept == BF16 and dtype == F32:
        pytest.skip("layers kept in bfloat16 compute in it")
    build, shape, more = FEWS[name]
    torch.manual_seed(8)
    theirs = build()
    ours = copy.deepcopy(theirs).to(kept)
    theirs.load_state_dict(ours.state_dict())
    theirs.double()
    assert adopt(ours) == 1
    x = drawn(*shape).to(dtype)
    wide, taken = x.double().requires_grad_(), x.clone().requires_grad_()
    seen = F.leaky_relu(wide, more["slope"]) if "slope" in more else wide
    if "reflect" in more:
        seen = F.pad(seen, (more["reflect"][1],) * 2 + (more["reflect"][0],) * 2, mode="reflect")
    expected = theirs(seen)
    grad = torch.randn_like(expected)
    with torch.autocast("cpu", BF16, enabled=dtype == BF16):
        made = ours(taken, **more)
        assert made.dtype == dtype
        made.backward(grad.to(dtype))
    expected.backward(grad)
    assert called[0] == ("convolution_backward" if isinstance(theirs, nn.ConvTranspose2d) else "convolution")
    pairs = [(made.detach(), expected.detach()), (taken.grad, wide.grad)]
    pairs += [(own.grad, own_wide.grad) for own, own_wide in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for found, right in pairs:
        assert found is not None
        assert right is not None
        # In float32 within: what is left are the roundings of the gradient that comes in and of the result.
        near = 1e-5 if dtype == F32 else 1e-2
        assert float((found.double() - right).abs().max()) <= near * float(right.abs().max())


@pytest.mark.skipif(not dispatch.compiled("convolution", "cpu"), reason="no compiled CPU kernels")
def test_a_gradient_penalty_through_few_channels(measured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: True)
    monkeypatch.setattr(convolution, "FEW_LEAST_PRODUCTS", 0)
    torch.manual_seed(9)
    theirs = nn.Sequential(nn.Conv2d(8, 128, 3), nn.Tanh(), nn.Conv2d(128, 1, 4))
    ours = copy.deepcopy(theirs)
    adopt(ours)
    theirs.double()
    x = drawn(2, 8, 9, 9)
    found = []
    for D, seen, cast in ((theirs, x.double(), False), (ours, x.clone(), True)):
        seen.requires_grad_()
        with torch.autocast("cpu", BF16, enabled=cast):
            y = D(seen).sum()
            (slope,) = torch.autograd.grad(y, seen, create_graph=True)
            slope.float().square().sum().backward() if cast else slope.square().sum().backward()
        found.append([p.grad.double() for p in D.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    for exact, mine in zip(*found, strict=True):
        assert float((mine - exact).abs().max()) <= 0.05 * float(exact.abs().max())
