"""The compiled CUDA kernels on a GPU, over the case table of the ops; docs/cuda.md tells how to run this."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from ganengine import ops
from ganengine.ops import conditional_batch_norm, maxout, patchgan_loss

from .cases import (
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
    ops_mode,
)

DEVICE = "cuda"


def missing() -> str | None:
    """Return why the kernels cannot run here."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    reasons = [reason for kernel in ops.kernels() if kernel.device == "cuda" for reason in kernel.reasons]
    return "; ".join(dict.fromkeys(reasons)) or None


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(missing() is not None, reason=str(missing()))]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

BIG_CBN_CASES = (
    CbnCase("resident", (16, 32, 8, 8), activation="relu"),
    CbnCase("planes", (16, 24, 32, 32), activation="relu"),
    CbnCase("planes-odd", (16, 24, 31, 33), activation="leaky_relu"),
    CbnCase("rows", (16, 64, 32, 32), layout="channels_last", activation="relu"),
    CbnCase("rows-odd", (5, 67, 31, 33), layout="channels_last"),
    CbnCase("one-image", (1, 8, 256, 256), classes=2),
    CbnCase("matrix-of-many", (4096, 96), classes=11),
    CbnCase("many-classes", (64, 128, 4, 4), classes=1000),
)
BIG_MAXOUT_CASES = (
    MaxoutCase("mnist", 256, 5, 240, activation="relu", dropout=0.5),
    MaxoutCase("many-samples", 70000, 2, 6, dropout=0.5),
)
BIG_PATCH_CASES = (
    PatchCase("big", "bce", [1.0, 0.0], ((64, 1, 30, 30), (64, 1, 30, 30))),
    PatchCase("big-none", "hinge", 1.0, ((64, 1, 30, 30), (64, 1, 15, 15)), reduction="none"),
    PatchCase("ten-maps", "ls", 1.0, tuple((2, 1, 2, k + 1) for k in range(10))),
)


def moved(x: Tensor) -> Tensor:
    """Return the tensor on the GPU, strides and all, as a leaf."""
    if x.numel() and not any(x.stride()):
        return x[(0,) * x.dim()].to(DEVICE).expand(x.shape)
    y = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=DEVICE)
    y.copy_(x.detach())
    return y.requires_grad_(x.requires_grad)


def on_gpu(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with every tensor on the GPU."""
    return {name: moved(value) if isinstance(value, Tensor) else value for name, value in arguments.items()}


def compare(
    names: tuple[str, ...],
    run: Callable[..., list[Tensor]],
    ours: Callable[..., Any],
    eager: Callable[..., Any],
    inputs: Callable[[], dict[str, Any]],
) -> None:
    """Hold the kernels to twice the error of eager PyTorch on the same GPU."""
    with ops_mode("fused"):
        found = run(ours, on_gpu(inputs()))
    plain = run(eager, on_gpu(inputs()))
    truth = run(eager, on_gpu(as_float64(inputs())))
    for name, o, e, t in zip(names, found, plain, truth, strict=True):
        assert_as_good_as_eager(name, o, e, t)


def run_cbn(case: CbnCase, dtype: torch.dtype) -> Callable[..., list[Tensor]]:
    """Return what runs the case: to [y, grad_x, grad_gamma, grad_beta, running_mean, running_var]."""

    def run(function: Any, arguments: dict[str, Any]) -> list[Tensor]:
        y = function(**arguments)
        grad = moved(case.grad(dtype)).to(y.dtype)
        grads = torch.autograd.grad(y, [arguments[w] for w in ("x", "gamma", "beta")], grad)
        return [y.detach(), *grads, arguments["running_mean"], arguments["running_var"]]

    return run


@pytest.mark.parametrize("case", CBN_CASES + BIG_CBN_CASES, ids=lambda c: c.id)
@dtypes
def test_conditional_batch_norm(case: CbnCase, dtype: torch.dtype) -> None:
    names = ("y", "grad_x", "grad_gamma", "grad_beta", "running_mean", "running_var")
    compare(
        names,
        run_cbn(case, dtype),
        conditional_batch_norm,
        eager_conditional_batch_norm,
        lambda: case.inputs(dtype),
    )


def run_patch(case: PatchCase) -> Callable[..., list[Tensor]]:
    """Return what runs the case: to [loss, gradient of each map]."""

    def run(function: Any, arguments: dict[str, Any]) -> list[Tensor]:
        maps = list(arguments.values())
        target = case.targets()
        target = target.to(DEVICE) if isinstance(target, Tensor) else target
        loss = function(maps, target, case.mode, case.reduction, case.smoothing)
        weights = torch.arange(1.0, loss.numel() + 1, device=DEVICE).reshape(loss.shape).to(loss.dtype)
        return [loss.detach(), *torch.autograd.grad(loss, maps, weights)]

    return run


def eager_patch(maps: list[Tensor], *arguments: Any) -> Tensor:
    """Return eager PyTorch's loss, which the case table writes for the CPU, on the GPU."""
    with torch.device(DEVICE):
        return eager_patchgan_loss(maps, *arguments)


@pytest.mark.parametrize("case", PATCH_CASES + BIG_PATCH_CASES, ids=lambda c: c.id)
@dtypes
def test_patchgan_loss(case: PatchCase, dtype: torch.dtype) -> None:
    names = ("loss", *(f"grad of map {k}" for k in range(len(case.shapes))))
    compare(
        names,
        run_patch(case),
        patchgan_loss,
        eager_patch,
        lambda: {str(k): m for k, m in enumerate(case.maps(dtype))},
    )


def run_maxout(function: Any, arguments: dict[str, Any]) -> list[Tensor]:
    """Return [y, grad_h, grad_bias where there is one]."""
    with torch.device(DEVICE):
        y = function(**arguments)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(11)).to(y)
    leaves = [t for t in (arguments["h"], arguments["bias"]) if t is not None]
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


@pytest.mark.parametrize("case", MAXOUT_CASES + BIG_MAXOUT_CASES, ids=lambda c: c.id)
@dtypes
def test_maxout(case: MaxoutCase, dtype: torch.dtype) -> None:
    names = ("y", "grad_h", "grad_bias")[: 3 if case.bias else 2]
    compare(names, run_maxout, maxout, eager_maxout, lambda: case.inputs(dtype))


def test_masks_and_winners_are_those_of_the_cpu() -> None:
    case = BIG_MAXOUT_CASES[0]
    arguments = case.inputs(torch.float32)
    raw = (case.pieces, True, case.dropout, 11 - 2**63, 7)
    with torch.no_grad():
        _, expected = torch.ops.ganengine.maxout(arguments["h"], arguments["bias"], *raw)
        there = on_gpu(arguments)
        _, winner = torch.ops.ganengine.maxout(there["h"], there["bias"], *raw)
    assert torch.equal(winner.cpu(), expected)


@pytest.mark.parametrize("case", BIG_CBN_CASES, ids=lambda c: c.id)
def test_same_bits_each_time(case: CbnCase) -> None:
    run = run_cbn(case, torch.float32)
    first, second = (run(conditional_batch_norm, on_gpu(case.inputs(torch.float32))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_of_first_and_second_order() -> None:
    case = CbnCase("", (2, 2, 2, 2), activation="leaky_relu")
    arguments = on_gpu(case.inputs(torch.float64))
    leaves = [arguments[w] for w in ("x", "gamma", "beta")]

    def function(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_batch_norm(**{**arguments, "x": x, "gamma": gamma, "beta": beta})

    # Second order goes through the reference, whose sum over labels uses atomics.
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves, nondet_tol=1e-10)


def test_opcheck() -> None:
    a = on_gpu(CbnCase("", (4, 3, 5, 6), layout="channels_last").inputs(torch.float32))
    opcheck(
        torch.ops.ganengine.conditional_batch_norm.default,
        (a["x"], a["gamma"], a["beta"], a["labels"], None, None, 1e-5, 0.0),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    m = on_gpu(MaxoutCase("", 4, 3, 5, dropout=0.5).inputs(torch.float32))
    opcheck(
        torch.ops.ganengine.maxout.default,
        (m["h"], m["bias"], 3, True, 0.5, 3, 5),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_runs_on_the_current_stream() -> None:
    # The side stream is busy for a while; a kernel on any other stream would read x before it is written.
    x, side = torch.zeros(64, 32, 16, 16, device=DEVICE), torch.cuda.Stream()
    gamma, beta = torch.ones(64, 32, device=DEVICE), torch.full((64, 32), 5.0, device=DEVICE)
    noise = torch.randn_like(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        x.copy_(noise)
        y = conditional_batch_norm(x, gamma, beta)
    side.synchronize()
    torch.testing.assert_close(y, conditional_batch_norm(noise, gamma, beta))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_runs_where_the_tensors_are() -> None:
    x = torch.randn(8, 6, 4, 4)
    with torch.cuda.device(0):
        y = conditional_batch_norm(
            x.to("cuda:1"), torch.ones(8, 6, device="cuda:1"), torch.zeros(8, 6, device="cuda:1")
        )
        assert torch.cuda.current_device() == 0
    assert y.device.index == 1
    torch.testing.assert_close(y.cpu(), conditional_batch_norm(x, torch.ones(8, 6), torch.zeros(8, 6)))


def test_a_label_out_of_range_stops_the_process() -> None:
    # An assertion spoils the CUDA context, hence a process of its own.
    script = (
        "import torch; from ganengine.ops import conditional_batch_norm as op; "
        "x, t = torch.zeros(2, 3, 4, 4, device='cuda'), torch.ones(5, 3, device='cuda'); "
        "op(x, t, t, torch.tensor([1, 5], device='cuda')); torch.cuda.synchronize()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "a label is out of range" in done.stderr


def test_captured_in_a_graph() -> None:
    x = torch.randn(8, 16, 8, 8, device=DEVICE)
    gamma, beta = torch.ones(8, 16, device=DEVICE), torch.zeros(8, 16, device=DEVICE)
    expected = conditional_batch_norm(x, gamma, beta)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = conditional_batch_norm(x, gamma, beta)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(y, expected)
