from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from ganengine import ops
from ganengine.errors import UserError
from ganengine.nn import ConditionalBatchNorm2d
from ganengine.ops import conditional_batch_norm
from ganengine.ops.conditional_batch_norm import input_by_backward, reference_input, reference_sums, sums_by_backward
from ganengine.ops.dispatch import compiled

from .cases import (
    CBN_CASES,
    DTYPES,
    CbnCase,
    as_float64,
    assert_as_good_as_eager,
    eager_conditional_batch_norm,
    lay_out,
    ops_mode,
)

OP = torch.ops.ganengine.conditional_batch_norm.default
BACKWARD = torch.ops.ganengine.conditional_batch_norm_backward.default
STATISTICS = torch.ops.ganengine.conditional_batch_norm_statistics.default
POOLED = torch.ops.ganengine.conditional_batch_norm_pooled.default
SUMS = torch.ops.ganengine.conditional_batch_norm_sums.default
INPUT = torch.ops.ganengine.conditional_batch_norm_input.default
case = pytest.mark.parametrize("case", CBN_CASES, ids=lambda c: c.id)
WEIGHTS = ("x", "gamma", "beta")


def by_id(name: str) -> CbnCase:
    return next(c for c in CBN_CASES if c.id == name)


def run(function: Any, arguments: dict[str, Any], grad: Tensor) -> list[Tensor]:
    """Return [y, grad_x, grad_gamma, grad_beta, running_mean, running_var]."""
    y = function(**arguments)
    grads = torch.autograd.grad(y, [arguments[w] for w in WEIGHTS], grad)
    return [y.detach(), *grads, arguments["running_mean"], arguments["running_var"]]


def test_by_hand() -> None:
    # One channel, values 1 3 5 7: mean 4, variance 5; eps 4 makes the divisor 3.
    # Sample 0 has class 1, sample 1 class 0.
    x = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]], requires_grad=True)
    gamma = torch.tensor([[3.0], [6.0]], requires_grad=True)
    beta = torch.tensor([[1.0], [2.0]], requires_grad=True)
    running_mean, running_var = torch.zeros(1), torch.ones(1)
    y = conditional_batch_norm(
        x, gamma, beta, torch.tensor([1, 0]), running_mean=running_mean, running_var=running_var, eps=4.0
    )
    # xn = -1, -1/3, 1/3, 1; z = 6 xn + 2 and 3 xn + 1.
    torch.testing.assert_close(y, torch.tensor([[[-4.0, 0.0]], [[2.0, 4.0]]]))
    torch.testing.assert_close(running_mean, torch.tensor([0.4]))
    torch.testing.assert_close(running_var, torch.tensor([0.9 + 0.1 * 20 / 3]))
    grads = torch.autograd.grad(y, (x, gamma, beta), torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]))
    # gamma gz = 6 at the first element; its mean 6/4, its mean with xn -6/4; times rstd = 1/3.
    expected = [(6 - 1.5 - 1.5) / 3, (-1.5 - 0.5) / 3, (-1.5 + 0.5) / 3, (-1.5 + 1.5) / 3]
    torch.testing.assert_close(grads[0].flatten(), torch.tensor(expected))
    torch.testing.assert_close(grads[1], torch.tensor([[0.0], [-1.0]]))
    torch.testing.assert_close(grads[2], torch.tensor([[0.0], [1.0]]))


def test_activations_by_hand() -> None:
    arguments = (torch.tensor([[-1.0], [1.0]]), torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([0, 0]))
    for activation, expected in ((None, -1.0), ("relu", 0.0), ("leaky_relu", -0.2)):
        y = conditional_batch_norm(*arguments, eps=0.0, activation=activation)
        torch.testing.assert_close(y, torch.tensor([[expected], [1.0]]))


@case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_good_as_eager(case: CbnCase, dtype: torch.dtype) -> None:
    names = ("y", "grad_x", "grad_gamma", "grad_beta", "running_mean", "running_var")
    ours = run(conditional_batch_norm, case.inputs(dtype), case.grad(dtype))
    eager = run(eager_conditional_batch_norm, case.inputs(dtype), case.grad(dtype))
    truth = run(eager_conditional_batch_norm, as_float64(case.inputs(dtype)), case.grad(dtype).double())
    for name, o, e, t in zip(names, ours, eager, truth, strict=True):
        assert_as_good_as_eager(name, o, e, t)
    assert ours[0].dtype == ours[1].dtype == dtype


@case
def test_reference_mode_agrees(case: CbnCase) -> None:
    ours = run(conditional_batch_norm, case.inputs(torch.float64), case.grad(torch.float64))
    with ops_mode("reference"):
        plain = run(conditional_batch_norm, case.inputs(torch.float64), case.grad(torch.float64))
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [("contiguous", "contiguous"), ("channels_last", "channels_last"), ("strided", "contiguous")],
)
@pytest.mark.parametrize("grad_layout", ["contiguous", "channels_last", "stride0"])
def test_layout_of_results_is_that_of_x(layout: str, expected: str, grad_layout: str) -> None:
    arguments = CbnCase("", (4, 3, 5, 6), layout=layout).inputs(torch.float32)
    y = conditional_batch_norm(**arguments)
    (grad_x,) = torch.autograd.grad(y, arguments["x"], CbnCase("", (4, 3, 5, 6), grad_layout=grad_layout).grad(y.dtype))
    strides = lay_out(torch.empty(4, 3, 5, 6), expected).stride()
    assert y.stride() == strides
    # By the reference alone, autograd lays the gradient out as the one that came in.
    assert ops.mode() == "reference" or grad_x.stride() == strides


@case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_statistics_alone(case: CbnCase, dtype: torch.dtype) -> None:
    x = case.inputs(dtype)["x"]
    values = x.detach().double().transpose(0, 1).flatten(1)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.no_grad():
        mean, var, count = STATISTICS(x)
        _, together_mean, together_var = OP(
            x, torch.ones(1, x.shape[1], dtype=wide), torch.zeros(1, x.shape[1], dtype=wide),
            torch.zeros(len(x), dtype=torch.int64), None, None, 1e-5, 1.0,
        )  # fmt: skip
    torch.testing.assert_close(mean, values.mean(1).to(wide), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(var, values.var(1, correction=0).to(wide), rtol=2e-5, atol=2e-6)
    assert count.tolist() == [values.shape[1]] * values.shape[0]
    # What the op finds by itself, bit for bit: ranks of one sample each are no worse than one rank.
    assert torch.equal(mean, together_mean)
    assert torch.equal(var, together_var)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
def test_statistics_have_gradients_of_any_order() -> None:
    for shape in ((3, 2), (2, 2, 2, 2)):
        x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        assert torch.autograd.gradcheck(STATISTICS, x)
        assert torch.autograd.gradgradcheck(STATISTICS, x)
        opcheck(STATISTICS, (x,))
    empty = torch.empty(0, 3, 2)
    assert STATISTICS(empty).tolist() == [[0, 0, 0]] * 3


def test_pooled_by_hand() -> None:
    # 1 on one rank; 3, 5, 7 (mean 5, variance 8/3) on another; nothing on a third: mean 4, variance 5, of 4 values.
    # In the second channel one value alone, 9.
    shares = [[[1.0, 9.0], [0.0, 0.0], [1.0, 1.0]], [[5.0, 0.0], [8 / 3, 0.0], [3.0, 0.0]], [[0.0, 0.0]] * 3]
    for dtype in (torch.float32, torch.float64):
        found = POOLED(torch.tensor(shares, dtype=dtype))
        expected = ([4.0, 9.0], [5.0, 0.0], [20 / 3, 0.0], 4.0)
        torch.testing.assert_close(found, tuple(torch.tensor(part, dtype=dtype) for part in expected))
        nothing = POOLED(torch.zeros(2, 3, 2, dtype=dtype))
        assert not any(part.any() for part in nothing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooled_of_one_rank_is_its_own(dtype: torch.dtype) -> None:
    own = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)).to(dtype) + 2
    own[2] = 7
    mean, var, unbiased, count = POOLED(own.unsqueeze(0))
    assert torch.equal(torch.stack((mean, var)), own[:2])
    torch.testing.assert_close(unbiased, own[1] * 7 / 6)
    assert count.shape == ()
    assert count.item() == 7


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
def test_pooled_has_gradients_of_any_order() -> None:
    everywhere = torch.rand(3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    everywhere.requires_grad_()
    assert torch.autograd.gradcheck(POOLED, everywhere)
    assert torch.autograd.gradgradcheck(POOLED, everywhere)
    opcheck(POOLED, (everywhere,))
    opcheck(POOLED, (torch.ones(2, 3, 4).transpose(0, 1).contiguous().transpose(0, 1),))


TRAINED = [c for c in CBN_CASES if c.training]
SLOPE = {None: 1.0, "relu": 0.0, "leaky_relu": 0.2}


@pytest.mark.parametrize("case", TRAINED, ids=lambda c: c.id)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shares_of_a_batch_make_the_whole(case: CbnCase, dtype: torch.dtype) -> None:
    """What two ranks do with the halves of a batch, or one with all and one with nothing."""
    arguments, grad = case.inputs(dtype), case.grad(dtype)
    count, slope = len(arguments["x"]), SLOPE[case.activation]
    labels, tables = arguments["labels"], (arguments["gamma"].detach(), arguments["beta"].detach())
    ends = slice(0, count // 2), slice(count // 2, count)

    def of_share(part: slice) -> tuple[Any, ...]:
        rows = tables if labels is not None else tuple(t[part] for t in tables)
        return grad[part], arguments["x"].detach()[part], *rows, None if labels is None else labels[part]

    shares = [of_share(part) for part in ends]
    everywhere = torch.stack([STATISTICS(x) for _, x, *_ in shares])
    mean, var, unbiased, total = POOLED(everywhere)
    y = torch.cat([OP(*share[1:], mean, var, 1e-5, slope)[0] for share in shares])
    grads_gamma, grads_beta, sums = zip(*(SUMS(*share, mean, var, 1e-5, slope) for share in shares), strict=True)
    grad_x = torch.cat([INPUT(*share, mean, var, sum(sums), total, 1e-5, slope) for share in shares])
    merge = torch.cat if labels is None else sum
    ours = [y, grad_x, merge(grads_gamma), merge(grads_beta)]
    ours += [arguments["running_mean"].lerp(mean, 0.1), arguments["running_var"].lerp(unbiased, 0.1)]
    eager = run(eager_conditional_batch_norm, case.inputs(dtype), grad)
    truth = run(eager_conditional_batch_norm, as_float64(case.inputs(dtype)), grad.double())
    names = ("y", "grad_x", "grad_gamma", "grad_beta", "running_mean", "running_var")
    for name, o, e, t in zip(names, ours, eager, truth, strict=True):
        assert_as_good_as_eager(name, o, e, t)
    assert grad_x.dtype == dtype
    assert total.item() == grad[:, 0].numel()


@pytest.mark.parametrize("case", TRAINED, ids=lambda c: c.id)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_passes_are_the_gradient(case: CbnCase, dtype: torch.dtype) -> None:
    arguments, slope = case.inputs(dtype), SLOPE[case.activation]
    given = [arguments[name] for name in ("x", "gamma", "beta", "labels")]
    with torch.no_grad():
        _, mean, var = OP(*given, None, None, 1e-5, slope)
        given = [case.grad(dtype), *given, mean, var]
        grad_x, grad_gamma, grad_beta = BACKWARD(*given, True, 1e-5, slope)
        *found, sums = SUMS(*given, 1e-5, slope)
        found.insert(0, INPUT(*given, sums, mean.new_tensor(grad_x[:, 0].numel()), 1e-5, slope))
    exact = {} if not compiled("conditional_batch_norm", "cpu") else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(tuple(found), (grad_x, grad_gamma, grad_beta), **exact)
    assert found[0].stride() == grad_x.stride()


def passes(case: CbnCase, dtype: torch.dtype) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return arguments of the two passes, leaves that require gradients."""
    arguments = case.inputs(dtype)
    grad = case.grad(dtype).requires_grad_()
    mean, var = (s.detach().requires_grad_() for s in (arguments["running_mean"], arguments["running_var"]))
    sums = torch.randn(2, case.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    count = mean.new_tensor(50.0).requires_grad_()
    common = (grad, arguments["x"], arguments["gamma"], arguments["beta"], arguments["labels"], mean, var)
    slope = SLOPE[case.activation]
    return (*common, 1e-5, slope), (*common, sums.requires_grad_(), count, 1e-5, slope)


@pytest.mark.parametrize("case", TRAINED, ids=lambda c: c.id)
def test_a_gpu_makes_the_passes_of_the_whole_gradient(case: CbnCase) -> None:
    with torch.no_grad():
        of_sums, of_input = passes(case, torch.float64)
        torch.testing.assert_close(sums_by_backward(*of_sums), reference_sums(*of_sums))
        found = input_by_backward(*of_input)
        torch.testing.assert_close(found, reference_input(*of_input))
        assert found.stride() == reference_input(*of_input).stride()


@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 2, 2)])
def test_the_passes_have_gradients_of_any_order(shape: tuple[int, ...], classes: int | None) -> None:
    case = CbnCase("", shape, classes, "leaky_relu")
    for op, arguments in zip((SUMS, INPUT), passes(case, torch.float64), strict=True):
        assert torch.autograd.gradcheck(op, arguments)
        assert torch.autograd.gradgradcheck(op, arguments)


@pytest.mark.parametrize("case", TRAINED, ids=lambda c: c.id)
def test_opcheck_of_the_passes(case: CbnCase) -> None:
    for op, arguments in zip((SUMS, INPUT), passes(case, torch.float32), strict=True):
        opcheck(op, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize("name", ["channels-last", "per-sample"])
def test_opcheck_of_the_passes_through_aot(name: str) -> None:
    for op, arguments in zip((SUMS, INPUT), passes(by_id(name), torch.float32), strict=True):
        opcheck(op, arguments, test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 3, 0, 4), (2, 0, 3, 3)])
def test_the_passes_of_nothing(shape: tuple[int, ...]) -> None:
    of_sums, of_input = passes(CbnCase("", shape, classes=4), torch.float32)
    grad_gamma, grad_beta, sums = SUMS(*of_sums)
    assert grad_gamma.shape == grad_beta.shape == (4, shape[1])
    assert sums.shape == (2, shape[1])
    assert not any(part.any() for part in (grad_gamma, grad_beta, sums))
    assert INPUT(*of_input).shape == shape


GRADCHECKED = [by_id(name) for name in ("per-sample", "nchw-leaky", "eval", "matrix", "one-sample")]


@pytest.mark.parametrize("case", GRADCHECKED, ids=lambda c: c.id)
def test_gradients_of_first_and_second_order(case: CbnCase) -> None:
    small = CbnCase("", (2, 2, *[2] * (len(case.shape) - 2)), case.classes, case.activation, case.training)
    arguments = small.inputs(torch.float64)

    def function(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_batch_norm(**{**arguments, "x": x, "gamma": gamma, "beta": beta})

    leaves = [arguments[w] for w in WEIGHTS]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("classes", [5, None])
def test_third_order_agrees_with_plain_autograd(training: bool, classes: int | None) -> None:
    """Gradients of a gradient penalty's own squared gradient: three backward passes through the op."""

    def third(mode: str) -> tuple[Tensor, ...]:
        case = CbnCase("", (4, 3, 2, 2), classes=classes, training=training, activation="leaky_relu")
        arguments = case.inputs(torch.float64)
        leaves = [arguments[w] for w in WEIGHTS]
        with ops_mode(mode):
            loss = conditional_batch_norm(**arguments).pow(3).sum()
            for _ in range(2):
                grads = torch.autograd.grad(loss, leaves, create_graph=True)
                loss = torch.stack([g.square().sum() for g in grads]).sum()
            return torch.autograd.grad(loss, leaves)

    torch.testing.assert_close(third("auto"), third("reference"))


@pytest.mark.parametrize("case", [c for c in CBN_CASES if c.id not in ("odd", "far-mean")], ids=lambda c: c.id)
def test_opcheck(case: CbnCase) -> None:
    a = case.inputs(torch.float32)
    given = (None, None) if case.training else (a["running_mean"], a["running_var"])
    forward = (a["x"], a["gamma"], a["beta"], a["labels"], *given, 1e-5, 0.0)
    opcheck(OP, forward, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))
    _, mean, var = OP(*forward)
    grad = case.grad(torch.float32).requires_grad_()
    backward = (grad, a["x"], a["gamma"], a["beta"], a["labels"], mean, var, case.training, 1e-5, 0.0)
    opcheck(BACKWARD, backward, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize("name", ["channels-last", "eval", "stride0-grad"])
def test_opcheck_through_aot(name: str) -> None:
    case = by_id(name)
    a = case.inputs(torch.float32)
    given = (None, None) if case.training else (a["running_mean"], a["running_var"])
    forward = (a["x"], a["gamma"], a["beta"], a["labels"], *given, 1e-5, 0.0)
    opcheck(OP, forward, test_utils="test_aot_dispatch_dynamic")
    _, mean, var = OP(*forward)
    backward = (
        case.grad(torch.float32),
        a["x"],
        a["gamma"],
        a["beta"],
        a["labels"],
        mean,
        var,
        case.training,
        1e-5,
        0.0,
    )
    opcheck(BACKWARD, backward, test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_compiles_in_one_graph(mode: str) -> None:
    case = by_id("channels-last")
    with ops_mode(mode):
        torch.compiler.reset()
        compiled = torch.compile(conditional_batch_norm, fullgraph=True, backend="aot_eager")
        ours = run(compiled, case.inputs(torch.float32), case.grad(torch.float32))
        plain = run(conditional_batch_norm, case.inputs(torch.float32), case.grad(torch.float32))
    torch.testing.assert_close(ours, plain)


def test_autocast_keeps_statistics_in_float32() -> None:
    arguments = by_id("nchw-relu").inputs(torch.bfloat16)
    outside = conditional_batch_norm(**arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = conditional_batch_norm(**arguments)
        _, mean, var = OP(
            arguments["x"], arguments["gamma"], arguments["beta"], arguments["labels"], None, None, 1e-5, 0.0
        )
    assert inside.dtype == torch.bfloat16
    assert mean.dtype == var.dtype == torch.float32
    again = conditional_batch_norm(**by_id("nchw-relu").inputs(torch.bfloat16))
    assert torch.equal(outside, again)
    assert torch.equal(inside, again)


def test_statistics_are_of_the_batch_not_of_the_class() -> None:
    # Two classes far apart: by class both would become 0; by batch they become -1 and 1.
    x = torch.tensor([[-5.0], [-5.0], [5.0], [5.0]])
    y = conditional_batch_norm(x, torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([0, 0, 1, 1]), eps=0.0)
    torch.testing.assert_close(y, torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]))


def test_one_element_per_channel_gives_beta() -> None:
    x = torch.tensor([[3.0, -4.0]], requires_grad=True)
    beta = torch.tensor([[0.5, -0.5]], requires_grad=True)
    running_mean, running_var = torch.zeros(2), torch.ones(2)
    y = conditional_batch_norm(x, torch.ones(1, 2), beta, running_mean=running_mean, running_var=running_var)
    assert torch.equal(y, beta)
    grad_x, grad_beta = torch.autograd.grad(y.sum(), (x, beta))
    assert torch.equal(grad_x, torch.zeros(1, 2))
    assert torch.equal(grad_beta, torch.ones(1, 2))
    torch.testing.assert_close((running_mean, running_var), (torch.tensor([0.3, -0.4]), torch.tensor([0.9, 0.9])))


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 3, 0, 4), (2, 0, 3, 3)])
def test_empty(shape: tuple[int, ...]) -> None:
    arguments = CbnCase("", shape, classes=4).inputs(torch.float32)
    before = arguments["running_mean"].clone(), arguments["running_var"].clone()
    y, grad_x, grad_gamma, grad_beta, *running = run(conditional_batch_norm, arguments, torch.empty(shape))
    assert y.shape == grad_x.shape == shape
    assert not grad_gamma.any()
    assert not grad_beta.any()
    torch.testing.assert_close(running, list(before))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_bad_values_spoil_their_channel_only(bad: float) -> None:
    arguments = by_id("nchw-relu").inputs(torch.float32)
    good = conditional_batch_norm(**arguments)
    with torch.no_grad():
        arguments["x"][1, 2, 0, 0] = bad
    y = conditional_batch_norm(**arguments)
    assert y[:, 2].isnan().all()
    assert torch.equal(y[:, :2], good[:, :2])


def test_relu_stops_infinite_gradients() -> None:
    arguments = {**by_id("eval").inputs(torch.float32), "beta": torch.full((5, 3), -100.0)}
    y = conditional_batch_norm(**arguments)
    (grad_x,) = torch.autograd.grad(y, arguments["x"], torch.full(y.shape, math.inf))
    assert not grad_x.any()


def test_same_bits_each_time() -> None:
    case = by_id("odd")
    first, second = (
        run(conditional_batch_norm, case.inputs(torch.float32), case.grad(torch.float32)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_running_values_without_statistics_are_left_out() -> None:
    arguments = {**by_id("nchw").inputs(torch.float32), "running_mean": None, "running_var": None}
    torch.testing.assert_close(
        conditional_batch_norm(**arguments), conditional_batch_norm(**by_id("nchw").inputs(torch.float32))
    )


def _labels(*values: int, dtype: torch.dtype = torch.int64) -> dict[str, Any]:
    return {"labels": torch.tensor(values, dtype=dtype)}


WRONG: list[tuple[dict[str, Any], str]] = [
    (_labels(0, 1, 5, 2), r"expected labels in \[0, 5\), as gamma has 5 rows; got values from 0 to 5"),
    (_labels(0, -1, 3, 2, dtype=torch.int32), r"expected labels in \[0, 5\).*got values from -1 to 3"),
    (_labels(0, 1), r"expected labels \[N\] = \[4\], int32 or int64, as x is float32 \[4, 3, 5, 6\]; got int64 \[2\]"),
    ({"labels": torch.zeros(4)}, r"expected labels .* got float32 \[4\]"),
    (
        {"labels": None},
        r"expected gamma \[N, C\] = \[4, 3\], a row per sample, as labels is None; got float32 \[5, 3\]",
    ),
    (
        {"gamma": torch.ones(5, 2)},
        r"expected gamma \[K, C\] with C = 3 as in x float32 \[4, 3, 5, 6\], got float32 \[5, 2\]",
    ),
    ({"beta": torch.ones(3)}, r"expected beta \[K, C\]"),
    ({"beta": torch.ones(6, 3)}, r"expected gamma and beta of one shape, got float32 \[5, 3\] and float32 \[6, 3\]"),
    ({"x": torch.zeros(4, 3, 5, 6, dtype=torch.int32)}, r"expected x to be float32, .* got int32 \[4, 3, 5, 6\]"),
    ({"x": torch.zeros(4)}, r"expected x \[N, C, \.\.\.\], got float32 \[4\]"),
    ({"x": torch.zeros(4, 3, 5, 6, device="meta")}, r"expected gamma on meta, where x is, got float32 \[5, 3\] on cpu"),
    ({"running_mean": None}, r"expected both running_mean and running_var, or neither"),
    ({"running_mean": None, "running_var": None, "training": False}, r"with training=False, got none"),
    ({"running_var": torch.ones(4)}, r"expected running_var \[C\] = \[3\], got float32 \[4\]"),
    ({"momentum": 1.5}, r"expected momentum in \[0, 1\], got 1.5"),
    ({"activation": "rleu"}, r"expected activation to be one of None, relu, leaky_relu, got 'rleu'. Did you mean relu"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_wrong_inputs(wrong: dict[str, Any], message: str, mode: str) -> None:
    with ops_mode(mode), pytest.raises(UserError, match=message):
        conditional_batch_norm(**{**by_id("nchw").inputs(torch.float32), **wrong})


# The module


def test_module_trains_and_evaluates() -> None:
    module = ConditionalBatchNorm2d(3, 5, activation="relu")
    x, y = torch.randn(4, 3, 5, 6) * 2 + 1, torch.tensor([0, 4, 4, 2])
    torch.nn.init.normal_(module.gamma)
    torch.nn.init.normal_(module.beta)
    eager = {"gamma": module.gamma, "beta": module.beta, "labels": y, "activation": "relu"}
    mean, var = torch.zeros(3), torch.ones(3)
    expected = eager_conditional_batch_norm(x, **eager, running_mean=mean, running_var=var, training=True)
    torch.testing.assert_close(module(x, y), expected)
    torch.testing.assert_close((module.running_mean, module.running_var), (mean, var))
    expected = eager_conditional_batch_norm(x, **eager, running_mean=mean, running_var=var, training=False)
    torch.testing.assert_close(module.eval()(x, y), expected)
    assert int(module.num_batches_tracked) == 1


def test_module_without_momentum_averages_all_batches() -> None:
    module, eager = ConditionalBatchNorm2d(3, 2, momentum=None), torch.nn.BatchNorm2d(3, momentum=None)
    for k in range(3):
        x = torch.randn(4, 3, 2, 2) + k
        module(x, torch.zeros(4, dtype=torch.int64))
        eager(x)
    torch.testing.assert_close((module.running_mean, module.running_var), (eager.running_mean, eager.running_var))


class _Eager(torch.nn.Module):
    """The field's usual eager layer, in its two forms."""

    def __init__(self, one_embedding: bool) -> None:
        super().__init__()
        self.bn = torch.nn.BatchNorm2d(3, affine=False)
        if one_embedding:
            self.embed = torch.nn.Embedding(5, 6)
        else:
            self.gamma, self.beta = torch.nn.Embedding(5, 3), torch.nn.Embedding(5, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.embed(y).chunk(2, 1) if hasattr(self, "embed") else (self.gamma(y), self.beta(y))
        result: Tensor = gamma[..., None, None] * self.bn(x) + beta[..., None, None]
        return result


@pytest.mark.parametrize("one_embedding", [True, False])
def test_module_loads_eager_states(one_embedding: bool) -> None:
    eager, ours = _Eager(one_embedding), torch.nn.Sequential(ConditionalBatchNorm2d(3, 5))
    x, y = torch.randn(4, 3, 5, 6), torch.tensor([0, 4, 4, 2])
    eager(x, y)
    ours.load_state_dict({f"0.{name}": value for name, value in eager.state_dict().items()})
    torch.testing.assert_close(ours.eval()[0](x, y), eager.eval()(x, y))
    assert set(ours[0].state_dict()) == {"gamma", "beta", "running_mean", "running_var", "num_batches_tracked"}


def test_module_refuses_other_shapes() -> None:
    with pytest.raises(UserError, match=r"expected x \[N, 3, H, W\], got \[4, 2, 5, 6\]"):
        ConditionalBatchNorm2d(3, 5)(torch.randn(4, 2, 5, 6), torch.zeros(4, dtype=torch.int64))
