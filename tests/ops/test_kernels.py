"""The compiled CPU kernels, by each instruction set of this machine: the case table, and what only they can get wrong.

The other tests of this folder run over them too, by the best set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ganengine import ops
from ganengine.ops import conditional_batch_norm, maxout, patchgan_loss

from .cases import (
    CBN_CASES,
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

pytestmark = pytest.mark.skipif(
    not all(k.compiled for k in ops.kernels() if k.device == "cpu"),
    reason="; ".join({r for k in ops.kernels() if k.device == "cpu" for r in k.reasons}),
)
RAW = torch.ops.ganengine
NARROW = (torch.float32, torch.bfloat16, torch.float16)  # float64 has the baseline only, which the other tests run
EPS = 1e-5


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """An instruction set, in force for the test."""
    wanted = ["baseline", "avx2", "avx512"].index(request.param)
    try:
        if RAW.set_isa(wanted) != wanted:
            pytest.skip(f"this machine has no {request.param}")
        yield request.param
    finally:
        RAW.set_isa(2)


def named(case: Any) -> str:
    name: str = case.id
    return name


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("case", CBN_CASES, ids=named)
def test_conditional_batch_norm(isa: str, case: CbnCase, dtype: torch.dtype) -> None:
    def run(function: Callable[..., Tensor], arguments: dict[str, Any]) -> list[Tensor]:
        leaves = [arguments[name] for name in ("x", "gamma", "beta")]
        y = function(**arguments)
        return [y.detach(), *torch.autograd.grad(y, leaves, case.grad(dtype).to(y.dtype))]

    ours = run(conditional_batch_norm, case.inputs(dtype))
    eager = run(eager_conditional_batch_norm, case.inputs(dtype))
    truth = run(eager_conditional_batch_norm, as_float64(case.inputs(dtype)))
    for name, o, e, t in zip(("y", "grad_x", "grad_gamma", "grad_beta"), ours, eager, truth, strict=True):
        assert_as_good_as_eager(name, o, e, t)


# More logits than one product, than one tile and than one thread takes.
LARGE_PATCH_CASES = (
    *(PatchCase(f"{m}-large", m, 1.0, ((3, 1, 50, 50), (3, 1, 70, 71))) for m in ("bce", "ls", "hinge", "linear")),
    PatchCase("bce-large-none", "bce", 0.0, ((2, 1, 70, 71),), reduction="none"),
    PatchCase("bce-large-samples", "bce", "samples", ((3, 1, 70, 71), (3, 1, 30, 30))),
)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("case", PATCH_CASES + LARGE_PATCH_CASES, ids=named)
def test_patchgan_loss(isa: str, case: PatchCase, dtype: torch.dtype) -> None:
    def run(function: Callable[..., Tensor], maps: list[Tensor]) -> list[Tensor]:
        loss = function(maps, case.targets(), case.mode, case.reduction, case.smoothing)
        return [loss.detach(), *torch.autograd.grad(loss.sum(), maps)]

    maps = case.maps(dtype)
    wide = [m.detach().double().requires_grad_() for m in maps]
    with ops_mode("fused"):  # auto leaves small losses to PyTorch
        ours = run(patchgan_loss, maps)
    parts = zip(ours, run(eager_patchgan_loss, maps), run(eager_patchgan_loss, wide), strict=True)
    for k, (o, e, t) in enumerate(parts):
        assert_as_good_as_eager(f"grad of map {k - 1}" if k else "loss", o, e, t)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("case", MAXOUT_CASES, ids=named)
def test_maxout(isa: str, case: MaxoutCase, dtype: torch.dtype) -> None:
    def run(function: Callable[..., Tensor], arguments: dict[str, Any]) -> list[Tensor]:
        leaves = [arguments["h"], *([arguments["bias"]] if case.bias else [])]
        y = function(**arguments)
        weights = torch.arange(1.0, y.numel() + 1).reshape(y.shape).to(y.dtype)
        return [y.detach(), *torch.autograd.grad(y, leaves, weights)]

    ours, truth = run(maxout, case.inputs(dtype)), run(eager_maxout, as_float64(case.inputs(dtype)))
    eager = run(eager_maxout, case.inputs(dtype))
    for name, o, e, t in zip(("y", "grad_h", "grad_bias"), ours, eager, truth, strict=False):
        assert_as_good_as_eager(name, o, e, t)


# Large enough for several blocks of channels, several threads and stores past the cache; odd sizes have tails.
LARGE = {
    "planes": ((9, 70, 61, 64), torch.contiguous_format),
    "small-planes": ((33, 130, 4, 4), torch.contiguous_format),
    "odd-planes": ((5, 67, 7, 9), torch.contiguous_format),
    "rows": ((9, 64, 61, 64), torch.channels_last),
    "odd-rows": ((5, 67, 19, 23), torch.channels_last),
}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", LARGE)
def test_large_conditional_batch_norm(isa: str, name: str, dtype: torch.dtype) -> None:
    shape, layout = LARGE[name]
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=draw).mul_(2).add_(3).to(dtype).contiguous(memory_format=layout)
    grad = torch.randn(shape, generator=draw).to(dtype).contiguous(memory_format=layout)
    tables = torch.randn(2, 7, shape[1], generator=draw)
    labels = torch.randint(7, shape[:1], generator=draw)
    ours = RAW.conditional_batch_norm(x, *tables, labels, None, None, EPS, 0.2)
    ours += RAW.conditional_batch_norm_backward(grad, x, *tables, labels, *ours[1:], True, EPS, 0.2)
    truth = _reference(grad.double(), x.double(), tables.double(), labels)
    for part, o, t in zip(("y", "mean", "var", "grad_x", "grad_gamma", "grad_beta"), ours, truth, strict=True):
        # The mean error, as rounding may decide on which side of the activation's edge one z in a million lies. Two
        # ulp: gradients of gamma and beta are sums of thousands of numbers of either sign. Eight of float32 where
        # 16-bit data, a thousand times coarser, is summed in float over short runs.
        error = (o.double() - t).abs().mean() / t.abs().mean()
        ulps = 8 if o.dtype == torch.float32 and dtype != torch.float32 else 2
        assert error < ulps * torch.finfo(o.dtype).eps, f"{part}: {error:.3g}"
    if name == "planes" and dtype == torch.float32:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            runs = [RAW.conditional_batch_norm(x, *tables, labels, None, None, EPS, 0.2) for _ in range(2)]
            runs = [
                (*run, *RAW.conditional_batch_norm_backward(grad, x, *tables, labels, *run[1:], True, EPS, 0.2))
                for run in runs
            ]
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", LARGE)
def test_the_passes_of_a_large_gradient_are_the_gradient(isa: str, name: str, dtype: torch.dtype) -> None:
    shape, layout = LARGE[name]
    draw = torch.Generator().manual_seed(5)
    grad, x = (torch.randn(shape, generator=draw).to(dtype).contiguous(memory_format=layout) for _ in range(2))
    labels = torch.randint(7, shape[:1], generator=draw)
    mean, var = torch.rand(2, shape[1], generator=draw) + 0.5
    given = (grad, x, *torch.randn(2, 7, shape[1], generator=draw), labels, mean, var)
    count = torch.tensor(float(x[:, 0].numel()))
    whole = RAW.conditional_batch_norm_backward(*given, True, EPS, 0.2)

    def by_passes() -> list[Tensor]:
        grad_gamma, grad_beta, sums = RAW.conditional_batch_norm_sums(*given, EPS, 0.2)
        return [RAW.conditional_batch_norm_input(*given, sums, count, EPS, 0.2), grad_gamma, grad_beta, sums]

    found = by_passes()
    assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=False))
    if name == "small-planes":  # are summed by as many as a vector holds, and a thread's channels may be no multiple
        return
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(by_passes(), found, strict=True)), threads
    finally:
        torch.set_num_threads(before)


def _reference(grad: Tensor, x: Tensor, tables: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    # By name, as `ganengine.ops` gives the function of that name.
    from ganengine.ops.conditional_batch_norm import reference, reference_backward

    forward = reference(x, *tables, labels, None, None, EPS, 0.2)
    return forward + reference_backward(grad, x, *tables, labels, *forward[1:], True, EPS, 0.2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_variance_does_not_cancel(isa: str, layout: torch.memory_format) -> None:
    # The first sample, from which the sums are taken, is far from the others, and those are far from 0.
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.01 + 1000
    x[0] = -1000
    x = x.contiguous(memory_format=layout)
    _, mean, var = RAW.conditional_batch_norm(x, *torch.ones(2, 16, 3), None, None, None, EPS, 1.0)
    torch.testing.assert_close(mean.double(), x.double().mean((0, 2, 3)), rtol=1e-7, atol=0)
    torch.testing.assert_close(var.double(), x.double().var((0, 2, 3), correction=0), rtol=1e-7, atol=0)


def test_exp_and_log1p(isa: str) -> None:
    # A map of one logit per sample shows softplus and sigmoid: what is built of e^-|l| and log(1 + e^-|l|).
    logits = torch.cat([torch.linspace(-90, 20, 200_001), torch.linspace(-0.01, 0.01, 1001)])
    arguments = ([logits.view(-1, 1)], [0.0], None, 0, False)
    loss = RAW.patchgan_loss(*arguments)
    (slopes,) = RAW.patchgan_loss_backward(torch.ones_like(loss), *arguments)
    wide = logits.double()
    for name, ours, truth in (
        ("softplus", loss, torch.nn.functional.softplus(wide, threshold=800)),
        ("sigmoid", slopes.view(-1), torch.sigmoid(wide)),
    ):
        tiny = torch.finfo(torch.float32).tiny  # below, an ulp no longer shrinks with the number
        exponent = torch.floor(torch.log2(truth.clamp_min(tiny)))
        ulps = ((ours.double() - truth) / torch.exp2(exponent - 23)).abs()
        # e^x is good to 2 ulp, and one or two roundings follow.
        assert ulps.max() < 3.5, f"{name}: {ulps.max():.2f} ulp at {logits[ulps.argmax()]:.6g}"


def test_sums_do_not_lose_digits(isa: str) -> None:
    logits = torch.full((2, 1, 1000, 1000), 0.1)
    loss = RAW.patchgan_loss([logits], [1.0], None, 3, True)
    assert loss.item() == -logits[0, 0, 0, 0].item()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_bad_value_spoils_its_channel_only(isa: str, bad: float, layout: torch.memory_format) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(3, 20, 5, 5, generator=draw).contiguous(memory_format=layout)
    tables = torch.rand(2, 3, 20, generator=draw) + 0.5
    clean = RAW.conditional_batch_norm(x, *tables, None, None, None, EPS, 0.0)
    x[1, 18, 2, 2] = bad
    ours = RAW.conditional_batch_norm(x, *tables, None, None, None, EPS, 0.0)
    grads = RAW.conditional_batch_norm_backward(torch.ones_like(x), x, *tables, None, *ours[1:], True, EPS, 0.0)
    others = [c for c in range(20) if c != 18]
    assert torch.equal(ours[0][:, others], clean[0][:, others])
    assert ours[0][:, 18].isnan().all()
    assert grads[0][:, 18].isnan().all()
    assert not grads[0][:, others].isnan().any()


RAW_FAULTS: list[tuple[str, Callable[[], Any]]] = [
    (
        r"conditional_batch_norm: expected labels in \[0, 5\), as gamma has 5 rows; got 5",
        lambda: RAW.conditional_batch_norm(_x(), *_tables(5), torch.tensor([0, 5]), None, None, EPS, 1.0),
    ),
    (
        r"conditional_batch_norm: expected labels in \[0, 5\), as gamma has 5 rows; got -1",
        lambda: RAW.conditional_batch_norm_backward(
            _x(), _x(), *_tables(5), torch.tensor([-1, 0], dtype=torch.int32), *torch.ones(2, 3), True, EPS, 1.0
        ),
    ),
    (
        r"conditional_batch_norm: expected gamma \[2, 3\], got \[4, 3\]",
        lambda: RAW.conditional_batch_norm(_x(), *_tables(4), None, None, None, EPS, 1.0),
    ),
    (
        r"conditional_batch_norm: expected grad_y \[2, 3, 4, 4\]",
        lambda: RAW.conditional_batch_norm_backward(
            _x()[:1], _x(), *_tables(2), None, *torch.ones(2, 3), True, EPS, 1.0
        ),
    ),
    (
        r"conditional_batch_norm: expected everywhere \[ranks, 3, C\], got \[2, 2, 3\]",
        lambda: RAW.conditional_batch_norm_pooled(torch.ones(2, 2, 3)),
    ),
    (
        "conditional_batch_norm: expected everywhere to be float32 or float64",
        lambda: RAW.conditional_batch_norm_pooled(torch.ones(2, 3, 3).half()),
    ),
    (
        r"conditional_batch_norm: expected labels in \[0, 5\), as gamma has 5 rows; got 7",
        lambda: RAW.conditional_batch_norm_sums(
            _x(), _x(), *_tables(5), torch.tensor([7, 0]), *torch.ones(2, 3), EPS, 1.0
        ),
    ),
    (
        r"conditional_batch_norm: expected mean \[3\], got \[2\]",
        lambda: RAW.conditional_batch_norm_sums(_x(), _x(), *_tables(2), None, *torch.ones(2, 2), EPS, 1.0),
    ),
    (
        "conditional_batch_norm: expected grad_y in the dtype of x",
        lambda: _input(grad=_x().double()),
    ),
    (r"conditional_batch_norm: expected sums \[2, 3\], got \[3\]", lambda: _input(sums=torch.ones(3).double())),
    ("conditional_batch_norm: expected sums to be float64", lambda: _input(sums=torch.ones(2, 3))),
    (r"conditional_batch_norm: expected count \[\], got \[1\]", lambda: _input(count=torch.ones(1))),
    (
        r"conditional_batch_norm: expected x to be float32",
        lambda: RAW.conditional_batch_norm(_x().int(), *_tables(2), None, None, None, EPS, 1.0),
    ),
    (
        r"patchgan_loss: expected maps \[N, ...\] of one N, got \[2, 3, 4, 4\] and \[1, 3, 4, 4\]",
        lambda: RAW.patchgan_loss([_x(), _x()[:1]], [1.0, 1.0], None, 0, True),
    ),
    (
        "patchgan_loss: expected a mode from 0 to 3, got 4",
        lambda: RAW.patchgan_loss([_x()], [1.0], None, 4, True),
    ),
    (
        r"patchgan_loss: expected grad_loss \[2\], got \[\]",
        lambda: RAW.patchgan_loss_backward(torch.ones(()), [_x()], [1.0], None, 0, False),
    ),
    (
        "patchgan_loss: expected a target per map, or none and samples; got 1 targets for 2 maps",
        lambda: RAW.patchgan_loss_backward(torch.ones(()), [_x(), _x()], [1.0], None, 0, True),
    ),
    (
        r"maxout: expected h \[N, pieces \* units\] with pieces = 4, got \[2, 6\]",
        lambda: RAW.maxout(torch.ones(2, 6), None, 4, False, 0.0, 0, 0),
    ),
    (
        r"maxout: expected winner \[2, 3\], got \[2, 2\]",
        lambda: RAW.maxout_backward(torch.ones(2, 3), torch.zeros(2, 2, dtype=torch.uint8), 2, 0.0),
    ),
]


def _x() -> Tensor:
    return torch.ones(2, 3, 4, 4)


def _tables(rows: int) -> Tensor:
    return torch.ones(2, rows, 3)


def _input(grad: Tensor | None = None, sums: Tensor | None = None, count: Tensor | None = None) -> Any:
    """The second pass of a gradient, with one argument that does not fit."""
    sums = torch.ones(2, 3).double() if sums is None else sums
    given = (_x() if grad is None else grad, _x(), *_tables(2), None, *torch.ones(2, 3), sums)
    return RAW.conditional_batch_norm_input(*given, torch.ones(()) if count is None else count, EPS, 1.0)


@pytest.mark.parametrize(("message", "call"), RAW_FAULTS, ids=[m[:40] for m, _ in RAW_FAULTS])
def test_an_op_called_without_its_wrapper_checks(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()


def test_tables_and_labels_of_any_strides(isa: str) -> None:
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(4, 6, 5, 5, generator=draw)
    gamma, beta = torch.randn(2, 6, 8, generator=draw).transpose(1, 2)[:, ::2]
    labels = torch.tensor([0, 9, 3, 9, 1, 9, 2, 9])[::2]
    ours = RAW.conditional_batch_norm(x, gamma, beta, labels, None, None, EPS, 0.0)
    dense = RAW.conditional_batch_norm(x, gamma.contiguous(), beta.contiguous(), labels.clone(), None, None, EPS, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(ours, dense, strict=True))


def test_set_isa_refuses_other_numbers() -> None:
    with pytest.raises(RuntimeError, match="set_isa: expected 0, 1 or 2, got 3"):
        RAW.set_isa(3)
