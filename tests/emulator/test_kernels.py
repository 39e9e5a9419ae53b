"""The CUDA kernels' own source, run by the emulator, against eager PyTorch and the references; no GPU is involved."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.ops.activation import SLOPES
from ganengine.ops.maxout import reference as maxout_reference
from ganengine.ops.maxout import reference_backward as maxout_reference_backward
from ganengine.ops.patchgan_loss import NUMBERS

from ..ops.cases import (
    CBN_CASES,
    DTYPES,
    MAXOUT_CASES,
    PATCH_CASES,
    CbnCase,
    MaxoutCase,
    PatchCase,
    as_float64,
    assert_as_good_as_eager,
    eager_conditional_batch_norm,
    eager_maxout,
    eager_patchgan_loss,
)
from .emulated import Emulated

EPS = 1e-5
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(scope="module")
def emulated(module: ModuleType) -> Emulated:
    """The ops as they are launched."""
    return Emulated(module)


@pytest.fixture(scope="module")
def cut_small(module: ModuleType) -> Emulated:
    """The ops cut into many small tiles and few blocks, as large tensors are: nothing resident, blocks that walk on."""
    return Emulated(module, conditional_batch_norm=(0, 8, 3, 2), patchgan_loss=(8, 4, 3), maxout=(2, 3, 2))


@pytest.fixture(params=["emulated", "cut_small"])
def ops(request: pytest.FixtureRequest) -> Emulated:
    """Both."""
    found: Emulated = request.getfixturevalue(request.param)
    return found


# Conditional batch norm

# Beyond the ops' own table: packs of 16 bytes in each layout and dtype, and more than one block or tile of everything.
MORE_CBN_CASES = (
    CbnCase("packs", (3, 5, 8, 8), activation="relu"),
    CbnCase("packs-channels-last", (3, 16, 5, 3), layout="channels_last", activation="leaky_relu"),
    CbnCase("packs-channels-last-eval", (3, 16, 5, 3), layout="channels_last", training=False),
    CbnCase("packs-per-sample-eval", (3, 5, 8, 8), classes=None, training=False, activation="relu"),
    CbnCase("wide", (2, 150, 2, 2), layout="channels_last", classes=3),
    CbnCase("wide-matrix", (9, 70), classes=4),
    CbnCase("long-planes", (1, 2, 40, 64), classes=2, activation="relu"),
    CbnCase("many-samples", (70, 3, 2, 2), classes=2),
)
ALL_CBN_CASES = CBN_CASES + MORE_CBN_CASES
cbn_cases = pytest.mark.parametrize("case", ALL_CBN_CASES, ids=lambda c: c.id)


def run_cbn(ops: Emulated, case: CbnCase, dtype: torch.dtype) -> list[Tensor]:
    """Return [y, grad_x, grad_gamma, grad_beta, running_mean, running_var], as the public function would."""
    a = case.inputs(dtype)
    tensors = (a["x"], a["gamma"].detach(), a["beta"].detach(), a["labels"])
    slope = SLOPES[case.activation]
    given = (None, None) if case.training else (a["running_mean"], a["running_var"])
    y, mean, var = ops.conditional_batch_norm(*tensors, *given, EPS, slope)
    grads = ops.conditional_batch_norm_backward(case.grad(dtype), *tensors, mean, var, case.training, EPS, slope)
    if case.training:
        count = a["x"].numel() // a["x"].shape[1]
        a["running_mean"].lerp_(mean, 0.1)
        a["running_var"].lerp_(var * (count / (count - 1)), 0.1)
    return [y, *grads, a["running_mean"], a["running_var"]]


def eager_cbn(arguments: dict[str, Any], grad: Tensor) -> list[Tensor]:
    """Return the same by eager PyTorch."""
    y = eager_conditional_batch_norm(**arguments, eps=EPS)
    grads = torch.autograd.grad(y, [arguments[w] for w in ("x", "gamma", "beta")], grad)
    return [y.detach(), *grads, arguments["running_mean"], arguments["running_var"]]


@cbn_cases
@dtypes
def test_conditional_batch_norm(ops: Emulated, case: CbnCase, dtype: torch.dtype) -> None:
    names = ("y", "grad_x", "grad_gamma", "grad_beta", "running_mean", "running_var")
    ours = run_cbn(ops, case, dtype)
    eager = eager_cbn(case.inputs(dtype), case.grad(dtype))
    truth = eager_cbn(as_float64(case.inputs(dtype)), case.grad(dtype).double())
    for name, o, e, t in zip(names, ours, eager, truth, strict=True):
        assert_as_good_as_eager(name, o, e, t)


def test_conditional_batch_norm_repeats_bit_by_bit_in_any_order(module: ModuleType, ops: Emulated) -> None:
    case = next(c for c in CBN_CASES if c.id == "odd")
    runs = []
    for seed in (1, 2):
        module.set_seed(seed)
        runs.append(run_cbn(ops, case, torch.float32))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("label", [-1, 5, 2**40])
def test_labels_out_of_range_stop_the_launch(ops: Emulated, layout: str, label: int) -> None:
    a = CbnCase("", (4, 3, 5, 6), layout=layout).inputs(torch.float32)
    a["labels"][1] = label
    with pytest.raises(RuntimeError, match=r"device-side assertion: .*a label is out of range"):
        ops.conditional_batch_norm(a["x"], a["gamma"], a["beta"], a["labels"], None, None, EPS, 1.0)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_bad_values_spoil_their_channel_only(ops: Emulated, bad: float) -> None:
    case = CbnCase("", (4, 3, 5, 6), activation="relu")
    a = case.inputs(torch.float32)
    good = run_cbn(ops, case, torch.float32)[0]
    with torch.no_grad():
        a["x"][1, 2, 0, 0] = bad
    y, _, _ = ops.conditional_batch_norm(a["x"], a["gamma"], a["beta"], a["labels"], None, None, EPS, 0.0)
    assert y[:, 2].isnan().all()
    assert torch.equal(y[:, :2], good[:, :2])


def test_one_element_per_channel(ops: Emulated) -> None:
    x, gamma, beta = torch.tensor([[3.0, -4.0]]), torch.ones(1, 2), torch.tensor([[0.5, -0.5]])
    y, mean, var = ops.conditional_batch_norm(x, gamma, beta, None, None, None, EPS, 1.0)
    assert torch.equal(y, beta)
    assert torch.equal(mean, x[0])
    assert not var.any()
    grad_x, grad_gamma, grad_beta = ops.conditional_batch_norm_backward(
        torch.ones(1, 2), x, gamma, beta, None, mean, var, True, EPS, 1.0
    )
    assert not grad_x.any()
    assert not grad_gamma.any()
    assert torch.equal(grad_beta, torch.ones(1, 2))


SIZES = st.integers(1, 2**20)


@given(samples=SIZES, channels=SIZES, positions=SIZES, rows=st.booleans(), vector=st.sampled_from((1, 4, 8)))
@settings(deadline=None)
def test_tiles_cover_tensors_of_any_size(
    module: ModuleType, samples: int, channels: int, positions: int, rows: bool, vector: int
) -> None:
    if rows:
        channels *= vector
    else:
        positions *= vector
    geometry = module.conditional_batch_norm_geometry([samples, channels, positions], rows, vector)
    for name, merged in (("statistics", rows), ("sums", False)):
        cut = geometry[name]
        assert cut["samples"] * cut["positions"] == samples * positions
        assert cut["samples"] == (1 if merged else samples)
        assert cut["tile"] * (cut["tiles"] - 1) < cut["positions"] <= cut["tile"] * cut["tiles"]
        assert cut["tiles"] <= (16 * samples if merged else 16)
        covered = cut["columns"] * (cut["width"] * vector if rows else 1)
        assert channels <= covered < channels + (cut["width"] * vector if rows else 1)
        assert cut["threads"] <= 256
        assert rows or cut["tile"] % vector == 0  # packs never straddle tiles
        assert rows or cut["threads"] % cut["width"] == 0
    # Never O(elements): 16 parts and a sum of each sample and channel, twice, forward and backward.
    assert geometry["scratch"] <= 2 * (16 + 16 + 1 + 1) * samples * channels


# PatchGAN loss

MORE_PATCH_CASES = (
    PatchCase("bce-packs", "bce", 1.0, ((4, 1, 8, 8),)),
    PatchCase("hinge-packs-none", "hinge", -1.0, ((3, 1, 8, 8),), reduction="none"),
    PatchCase("ls-ten-maps", "ls", 1.0, tuple((2, 1, 2, k + 1) for k in range(10))),
    PatchCase("bce-ten-maps-none", "bce", 0.0, tuple((2, 1, 2, k + 1) for k in range(10)), reduction="none"),
    PatchCase("linear-big", "linear", [1.0, -1.0], ((2, 1, 60, 61), (2, 1, 30, 31))),
)
patch_cases = pytest.mark.parametrize("case", PATCH_CASES + MORE_PATCH_CASES, ids=lambda c: c.id)


def run_patch(ops: Emulated, case: PatchCase, maps: list[Tensor]) -> list[Tensor]:
    """Return [loss, gradient of each map]; a loss per sample is weighted 1, 2, 3 ..."""
    target, mean = case.targets(), case.reduction == "mean"
    wide = torch.float64 if maps[0].dtype == torch.float64 else torch.float32
    smooth = [t - case.smoothing * max(t, 0.0) for t in target] if isinstance(target, list) else None
    samples = target.to(wide) if isinstance(target, Tensor) else None
    numbers = [] if samples is not None else smooth or [float(target)] * len(maps)
    arguments = ([m.detach() for m in maps], numbers, samples, NUMBERS[case.mode], mean)
    loss = ops.patchgan_loss(*arguments)
    weights = torch.arange(1.0, loss.numel() + 1).reshape(loss.shape).to(loss.dtype)
    return [loss, *ops.patchgan_loss_backward(weights, *arguments)]


def eager_patch(case: PatchCase, maps: list[Tensor]) -> list[Tensor]:
    """Return the same by eager PyTorch."""
    loss = eager_patchgan_loss(maps, case.targets(), case.mode, case.reduction, case.smoothing)
    weights = torch.arange(1.0, loss.numel() + 1).reshape(loss.shape).to(loss.dtype)
    return [loss.detach(), *torch.autograd.grad(loss, maps, weights)]


@patch_cases
@dtypes
def test_patchgan_loss(ops: Emulated, case: PatchCase, dtype: torch.dtype) -> None:
    ours = run_patch(ops, case, case.maps(dtype))
    eager = eager_patch(case, case.maps(dtype))
    truth = eager_patch(case, [m.detach().double().requires_grad_() for m in case.maps(dtype)])
    for k, (o, e, t) in enumerate(zip(ours, eager, truth, strict=True)):
        assert_as_good_as_eager(f"grad of map {k - 1}" if k else "loss", o, e, t)


@pytest.mark.parametrize("mode", list(NUMBERS))
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, 1e4, -1e4])
def test_patchgan_loss_of_bad_values_is_eagers(emulated: Emulated, mode: str, bad: float) -> None:
    maps = [torch.tensor([[bad], [0.5]], requires_grad=True)]
    for target in (1.0, -1.0 if mode in ("hinge", "linear") else 0.0):
        case = PatchCase("", mode, target, reduction="none")
        ours, eager = run_patch(emulated, case, maps), eager_patch(case, maps)
        torch.testing.assert_close(ours[0], eager[0], equal_nan=True)
        if not math.isnan(bad):
            torch.testing.assert_close(ours[1], eager[1])


def test_patchgan_loss_of_nothing(emulated: Emulated) -> None:
    loss = emulated.patchgan_loss([torch.zeros(0, 1, 3)], [1.0], None, 0, True)
    assert loss.isnan()
    loss = emulated.patchgan_loss([torch.zeros(2, 1, 0), torch.zeros(2, 1)], [1.0, 1.0], None, 0, False)
    assert loss.isnan().tolist() == [True, True]


# Maxout

MORE_MAXOUT_CASES = (
    MaxoutCase("packs", 5, 3, 16, activation="relu", dropout=0.5),
    MaxoutCase("packs-odd-offset", 5, 3, 16, dropout=0.5, offset=7),
    MaxoutCase("packs-no-bias", 5, 3, 16, bias=False, dropout=0.25),
    MaxoutCase("wide", 3, 5, 240, activation="relu"),
    MaxoutCase("many-samples", 600, 2, 3),
)
FULL_MAXOUT_CASES = tuple(c for c in MAXOUT_CASES + MORE_MAXOUT_CASES if c.n)


def run_maxout(ops: Emulated, case: MaxoutCase, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Return ([y, grad_h, grad_bias], winner)."""
    a = case.inputs(dtype)
    bias = None if a["bias"] is None else a["bias"].detach()
    arguments = (a["pieces"], case.activation == "relu", case.dropout, a["seed"] - 2**64, case.offset)
    y, winner = ops.maxout(a["h"].detach(), bias, *arguments)
    grads = ops.maxout_backward(_maxout_grad(y), winner, case.pieces, case.dropout)
    return [y, *grads], winner


def _maxout_grad(y: Tensor) -> Tensor:
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(11)).to(y.dtype)


def eager_maxout_run(arguments: dict[str, Any]) -> list[Tensor]:
    """Return [y, grad_h, grad_bias where there is one] by eager PyTorch."""
    y = eager_maxout(**arguments)
    leaves = [t for t in (arguments["h"], arguments["bias"]) if t is not None]
    return [y.detach(), *torch.autograd.grad(y, leaves, _maxout_grad(y))]


@pytest.mark.parametrize("case", FULL_MAXOUT_CASES, ids=lambda c: c.id)
@dtypes
def test_maxout(ops: Emulated, case: MaxoutCase, dtype: torch.dtype) -> None:
    ours, winner = run_maxout(ops, case, dtype)
    eager = eager_maxout_run(case.inputs(dtype))
    truth = eager_maxout_run(as_float64(case.inputs(dtype)))
    for name, o, e, t in zip(("y", "grad_h", "grad_bias"), ours, eager, truth, strict=False):
        assert_as_good_as_eager(name, o, e, t)
    a = case.inputs(dtype)
    arguments = (case.pieces, case.activation == "relu", case.dropout, a["seed"], case.offset)
    y, expected = maxout_reference(a["h"], a["bias"], *arguments)
    assert torch.equal(winner, expected)
    grad_h, _ = maxout_reference_backward(_maxout_grad(y), expected, case.pieces, case.dropout)
    assert torch.equal(ours[1], grad_h)


def test_maxout_takes_the_first_nan(ops: Emulated) -> None:
    h = torch.tensor([[1.0, math.nan, 7.0, math.nan]])
    y, winner = ops.maxout(h, None, 4, False, 0.0, 0, 0)
    assert y.isnan().all()
    assert winner.tolist() == [[1]]


# The template


@dtypes
@pytest.mark.parametrize("shape", [(1,), (5, 3), (16, 64), (1000, 333)])
def test_null(emulated: Emulated, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape).to(dtype)
    assert torch.equal(emulated.null(x), x)
