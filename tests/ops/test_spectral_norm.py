"""Spectral norm against its definition in float64: values, gradients, the iteration, in every memory order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

from ganengine.ops import dispatch, iterated, over_next_sigma, over_sigma
from ganengine.ops.spectral_norm import (
    BACKWARD,
    FORWARD,
    ITERATE,
    NEXT,
    reference,
    reference_backward,
    reference_iterate,
    reference_next,
)

from .cases import ISAS, computing, lay_out

F32, F64 = torch.float32, torch.float64
EPS = 1e-12
TOLERANCE = {F32: 4e-6, F64: 1e-13}
"""Of the largest value. A sum of n summands of either sign loses about 2^-24 (2^-53) of its size at each of the steps
that one lane takes, and the norms, sigma and the gradient's pull follow one another. The table shows 4e-7 and 7e-16."""

needs_kernel = pytest.mark.skipif(not dispatch.compiled("spectral_norm", "cpu"), reason="no compiled CPU kernels")


@dataclass(frozen=True)
class Case:
    """A weight with its outputs along one axis, where it lies, and where its gradient does."""

    id: str
    shape: tuple[int, ...]
    axis: int = 0
    layout: str = "contiguous"
    grad_layout: str = "contiguous"
    """"stride0": the gradient of a sum."""

    def weight(self, dtype: torch.dtype = F64) -> Tensor:
        drawn = self._drawn(1, *self.shape).to(dtype)
        if self.layout == "gap":  # every other output of a larger weight in channels-last memory
            wide = torch.cat((drawn, drawn * torch.nan), self.axis).contiguous(memory_format=torch.channels_last)
            return wide.narrow(self.axis, 0, self.shape[self.axis])
        if self.layout == "expanded":  # as long as it has entries, and yet with gaps
            return drawn.flatten()[:4][::3].expand(self.shape)
        return lay_out(drawn, self.layout)

    def grad(self, dtype: torch.dtype = F64) -> Tensor:
        if self.grad_layout == "stride0":
            return torch.full((), 0.75, dtype=dtype).expand(self.shape)
        return lay_out(self._drawn(2, *self.shape).to(dtype), self.grad_layout)

    def vectors(self, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
        """Return u and v as one step leaves them: sigma is |W v|, well away from 0."""
        u, v = step(self.weight(), self._drawn(3, self.shape[self.axis]), self.axis)
        return u.to(dtype), v.to(dtype)

    def _drawn(self, seed: int, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


CASES = (
    Case("linear", (7, 5)),
    Case("linear-transposed", (7, 5), layout="transposed"),
    Case("linear-whole-vectors", (32, 64)),
    Case("conv", (5, 3, 3, 2)),
    Case("conv-channels-last", (5, 3, 3, 2), layout="channels_last"),
    Case("conv-1x1-channels-last", (19, 37, 1, 1), layout="channels_last"),
    Case("volume-channels-last", (5, 3, 2, 3, 2), layout="channels_last"),
    Case("conv-transpose", (3, 5, 3, 2), 1),
    Case("conv-transpose-channels-last", (3, 5, 3, 2), 1, "channels_last"),
    Case("conv-transpose-reversed", (3, 5, 3, 2), 1, "transposed"),
    Case("outputs-inside", (3, 4, 5, 2), 2),
    Case("embedding", (50, 17)),
    Case("vector", (37,)),
    Case("number", (1,)),
    Case("one-output", (1, 6, 3, 3)),
    Case("one-output-channels-last", (1, 6, 3, 3), layout="channels_last"),
    Case("one-output-transpose", (6, 1, 3, 3), 1, "channels_last"),
    Case("one-of-rest", (21, 1)),
    Case("large-linear", (160, 143)),
    Case("large-conv", (61, 45, 3, 3)),
    Case("large-conv-channels-last", (61, 45, 3, 3), layout="channels_last", grad_layout="channels_last"),
    Case("large-conv-transpose", (45, 61, 3, 3), 1),
    Case("large-conv-transpose-planes", (3, 70, 12, 12), 1),
    Case("large-conv-transpose-channels-last", (45, 61, 3, 3), 1, "channels_last"),
    Case("strided", (7, 5, 3, 3), layout="strided"),
    Case("strided-vector", (37,), layout="strided"),
    Case("gap", (6, 5, 3, 3), layout="gap"),
    Case("gap-transpose", (6, 5, 3, 3), 1, layout="gap"),
    Case("expanded", (2, 2), layout="expanded"),
    Case("grad-strided", (7, 5, 3, 3), grad_layout="strided"),
    Case("grad-transposed", (7, 5), grad_layout="transposed"),
    Case("grad-channels-last", (5, 3, 3, 2), grad_layout="channels_last"),
    Case("grad-of-a-sum", (5, 3, 3, 2), layout="channels_last", grad_layout="stride0"),
)


def named(case: Case) -> str:
    return case.id


def rows(weight: Tensor, axis: int) -> Tensor:
    """Return the weight as a matrix: a row per output, the other axes in their order."""
    return torch.stack([weight.select(axis, k).reshape(-1) for k in range(weight.shape[axis])])


def step(weight: Tensor, u: Tensor, axis: int, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Return u and v after a step of the power iteration, algorithm 1 of arXiv:1802.05957."""
    matrix = rows(weight, axis)
    v = torch.einsum("or,o->r", matrix, u)
    v = v / max(float(torch.linalg.norm(v)), eps)
    u = torch.einsum("or,r->o", matrix, v)
    return u / max(float(torch.linalg.norm(u)), eps), v


def divided(weight: Tensor, u: Tensor, v: Tensor, axis: int) -> Tensor:
    """Return the weight over the sum of its entries times those of u v^T, to be differentiated."""
    return weight / torch.einsum("or,o,r->", rows(weight, axis), u, v)


def truth(weight: Tensor, grad: Tensor, u: Tensor, v: Tensor, axis: int) -> tuple[Tensor, Tensor, float]:
    """Return the value and the gradient in float64, and the size of the gradient's first part, which may cancel."""
    wide = weight.detach().double().clone().requires_grad_()
    y = divided(wide, u.double(), v.double(), axis)
    (grad_weight,) = torch.autograd.grad(y, wide, grad.double())
    return y.detach(), grad_weight, float(grad.abs().max() * y.detach().abs().max() / weight.detach().abs().max())


def assert_close(name: str, found: Tensor, expected: Tensor, dtype: torch.dtype, least: float = 0.0) -> None:
    """Hold the error to so much of the largest value, or of `least` where that is more."""
    assert found.shape == expected.shape
    assert found.dtype == dtype
    error = float((found.detach().double() - expected).abs().max()) / max(float(expected.abs().max()), least)
    assert error <= TOLERANCE[dtype], f"{name}: {error:.3g}"


Ops = tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor]]]


@pytest.fixture(params=[*(pytest.param(isa, marks=needs_kernel) for isa in ISAS), "reference"])
def ops(request: pytest.FixtureRequest) -> Iterator[Ops]:
    """Value, gradient and step: the kernels by each instruction set, and the formulas."""
    if request.param == "reference":
        yield reference, reference_backward, reference_iterate
    else:
        with computing(request.param):
            yield FORWARD, BACKWARD, ITERATE


# ----------------------------------------------------------------------------------------------------------------
# Values


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_values_gradients_and_steps(ops: Ops, case: Case, dtype: torch.dtype) -> None:
    forward, backward, iterate = ops
    weight, grad, (u, v) = case.weight(dtype), case.grad(dtype), case.vectors(dtype)
    y, grad_weight, part = truth(weight, grad, u, v, case.axis)
    assert_close("y", forward(weight, u, v, case.axis), y, dtype)
    assert_close("grad_weight", backward(grad, weight, u, v, case.axis), grad_weight, dtype, part)
    start = u.flip(0)
    for name, found, expected in zip(
        "uv", iterate(weight, start, case.axis, EPS), step(weight.double(), start.double(), case.axis), strict=True
    ):
        assert_close(name, found, expected, dtype)


@needs_kernel
@pytest.mark.parametrize("case", CASES, ids=named)
def test_results_lie_as_the_weight_does_and_fakes_too(case: Case) -> None:
    weight, grad, (u, v) = case.weight(F32), case.grad(F32), case.vectors(F32)
    gapless = case.layout not in ("strided", "gap", "expanded")
    strides = weight.stride() if gapless else torch.empty_like(weight).stride()
    given = (weight, grad, u, v)
    mode = FakeTensorMode()
    with mode:
        faked = tuple(mode.from_tensor(t) for t in given)
    for (w, g, a, b), context in ((given, torch.no_grad()), (faked, mode)):
        with context:
            assert FORWARD(w, a, b, case.axis).stride() == strides
            assert BACKWARD(g, w, a, b, case.axis).stride() == strides
            assert NEXT(w, a, case.axis, EPS)[0].stride() == strides
            found = ITERATE(w, a, case.axis, EPS)
            assert [t.stride() for t in NEXT(w, a, case.axis, EPS)[1:]] == [t.stride() for t in found]
        assert [t.stride() for t in found] == [(1,), (1,)]
        assert [t.shape for t in found] == [u.shape, v.shape]


@st.composite
def weights(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Weights of up to four axes, in any order of memory, with or without gaps; and an axis."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    gaps = draw(st.lists(st.integers(1, 2), min_size=len(shape), max_size=len(shape)))
    drawn = torch.randn(
        [shape[k] * gaps[k] for k in order], generator=torch.Generator().manual_seed(sum(shape)), dtype=F64
    )
    weight = drawn.permute([order.index(k) for k in range(len(shape))])
    return weight[tuple(slice(None, None, gap) for gap in gaps)], draw(st.integers(0, len(shape) - 1))


@settings(deadline=None, max_examples=150)
@given(drawn=weights())
def test_any_shape_axis_and_memory_order(drawn: tuple[Tensor, int]) -> None:
    weight, axis = drawn
    start = torch.linspace(0.5, 1.5, weight.shape[axis], dtype=F64)
    u, v = iterated(weight, start, axis)
    for name, found, expected in zip("uv", (u, v), step(weight, start, axis), strict=True):
        assert_close(name, found, expected, F64)
    leaf = weight.detach().requires_grad_()
    y = over_sigma(leaf, u, v, axis)
    expected, slope, part = truth(weight, weight.cos(), u, v, axis)
    assert_close("y", y, expected, F64)
    assert_close("grad_weight", torch.autograd.grad(y, leaf, weight.cos())[0], slope, F64, part)


@pytest.mark.parametrize("case", [case for case in CASES if case.id in ("linear", "conv-transpose-channels-last")])
def test_many_steps_find_the_largest_singular_value(case: Case) -> None:
    weight = case.weight()
    u, _ = case.vectors()
    for _ in range(300):
        u, v = iterated(weight, u, case.axis)
    y = over_sigma(weight, u, v, case.axis)
    assert float(torch.linalg.svdvals(rows(y, case.axis))[0]) == pytest.approx(1.0, abs=1e-9)


@needs_kernel
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", [case for case in CASES if case.id.startswith("large")], ids=named)
def test_the_same_bits_with_any_number_of_threads(isa: str, case: Case) -> None:
    weight, grad, (u, v) = case.weight(F32), case.grad(F32), case.vectors(F32)
    found = []
    with computing(isa):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append([
                FORWARD(weight, u, v, case.axis),
                BACKWARD(grad, weight, u, v, case.axis),
                *ITERATE(weight, u, case.axis, EPS),
            ])  # fmt: skip
    assert weight.numel() > 20_000
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_step_and_the_weight_over_its_sigma_in_one(ops: Ops, case: Case, dtype: torch.dtype) -> None:
    forward, _, iterate = ops
    both = reference_next if forward is reference else NEXT
    weight, start = case.weight(dtype), case.vectors(dtype)[0].flip(0)
    u, v = iterate(weight, start, case.axis, EPS)
    for found, expected in zip(
        both(weight, start, case.axis, EPS), (forward(weight, u, v, case.axis), u, v), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_go_by_the_formulas(dtype: torch.dtype) -> None:
    case = CASES[3]
    weight, grad, (u, v) = case.weight(dtype), case.grad(dtype), case.vectors(dtype)
    leaf = weight.clone().requires_grad_()
    y = over_sigma(leaf, u, v, case.axis)
    (slope,) = torch.autograd.grad(y, leaf, grad)
    u_next, v_next = iterated(weight, u, case.axis)
    found = (y.detach(), slope, u_next, v_next)
    for one, other in zip(
        over_next_sigma(weight, u, case.axis),
        (reference(weight, u_next, v_next, case.axis), u_next, v_next),
        strict=True,
    ):
        assert torch.equal(one, other)
    assert torch.equal(found[0], reference(weight, u, v, case.axis))
    expected = (*truth(weight, grad, u, v, case.axis)[:2], *step(weight.double(), u.double(), case.axis))
    for mine, right in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        # A few roundings of values and of sigma.
        assert float((mine.double() - right).abs().max()) <= 8 * torch.finfo(dtype).eps * float(right.abs().max())


# ----------------------------------------------------------------------------------------------------------------
# Edges


@pytest.mark.parametrize("factor", [0.0, 1e-3])
def test_norms_below_eps_are_eps(ops: Ops, factor: float) -> None:
    weight, start = CASES[0].weight() * factor, CASES[0].vectors()[0]
    u, v = ops[2](weight, start, 0, 0.5)
    expected = step(weight, start, 0, 0.5)
    assert float(torch.linalg.norm(v)) < 0.1
    torch.testing.assert_close((u, v), expected, rtol=1e-12, atol=1e-18)
    assert factor or not (u.any() or v.any())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("case", [case for case in CASES if "conv" in case.id], ids=named)
def test_a_value_that_is_no_number_stays_none(ops: Ops, case: Case, bad: float) -> None:
    forward, backward, iterate = ops
    weight, grad, (u, v) = case.weight(F32), case.grad(F32), case.vectors(F32)
    spoiled = weight.clone()
    spoiled[(-1,) * weight.dim()] = bad
    for vector in iterate(spoiled, u, case.axis, EPS):
        assert vector.isnan().any()
        assert bad == math.inf or vector.isnan().all()
    y = forward(spoiled, u, v, case.axis)
    assert y[(-1,) * weight.dim()].isnan()
    assert bad == math.inf or y.isnan().all()
    steep = grad.clone()
    steep[(0,) * weight.dim()] = math.nan
    assert backward(steep, weight, u, v, case.axis).isnan().all()


@pytest.mark.parametrize("shape", [(3, 0), (3, 0, 3, 3)])
def test_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    weight = torch.zeros(shape, requires_grad=True)
    u, v = iterated(weight, torch.ones(3))
    assert torch.equal(u, torch.zeros(3))
    y = over_sigma(weight, u, v)
    assert y.shape == shape
    y.sum().backward()
    assert weight.grad is not None


# ----------------------------------------------------------------------------------------------------------------
# Gradients

DIFFERENTIATED = [case for case in CASES if case.weight().numel() < 100]


@pytest.mark.parametrize("case", DIFFERENTIATED, ids=named)
def test_gradients_of_any_order(case: Case) -> None:
    weight, (u, v) = case.weight().detach(), case.vectors()
    if case.layout == "expanded":  # a leaf of gradcheck's must have a place for each entry
        weight = weight.clone()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: over_sigma(w, u, v, case.axis).sin(), (weight,))
    assert torch.autograd.gradgradcheck(lambda w: over_sigma(w, u, v, case.axis).sin(), (weight,))


def test_the_vectors_may_move_before_the_gradients_are_taken() -> None:
    case = CASES[4]

    def orders(moved: bool) -> list[Tensor]:
        weight, (u, v) = case.weight().requires_grad_(), case.vectors()
        y = over_sigma(weight, u, v, case.axis)
        if moved:
            u.zero_()
            v.fill_(7.0)
        (first,) = torch.autograd.grad(y.sin().sum(), weight, create_graph=True)
        return [first.detach(), *torch.autograd.grad(first.square().sum(), weight)]

    assert all(torch.equal(a, b) for a, b in zip(orders(True), orders(False), strict=True))


@pytest.mark.parametrize("case", DIFFERENTIATED, ids=named)
def test_the_vectors_of_a_step_are_constants_of_its_gradients(case: Case) -> None:
    start, found = case.vectors()[0].flip(0), []
    u, v = iterated(case.weight(), start, case.axis)
    for normalised in (
        lambda w: over_next_sigma(w, start, case.axis)[0],
        lambda w: over_sigma(w, u, v, case.axis),
    ):
        weight = case.weight().clone().requires_grad_()
        (first,) = torch.autograd.grad(normalised(weight).sin().sum(), weight, create_graph=True)
        found.append([first.detach(), *torch.autograd.grad(first.square().sum(), weight)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not any(
        vector.requires_grad for vector in over_next_sigma(case.weight().requires_grad_(), start, case.axis)[1:]
    )


def test_a_step_records_nothing_and_leaves_what_it_takes() -> None:
    weight, u = CASES[0].weight().requires_grad_(), CASES[0].vectors()[0]
    before = u.clone()
    assert not any(t.requires_grad for t in iterated(weight, u))
    assert torch.equal(u, before)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize("name", ["linear", "conv-transpose-channels-last", "vector", "gap"])
def test_opcheck(name: str) -> None:
    case = next(case for case in CASES if case.id == name)
    weight, grad, (u, v) = case.weight().detach().requires_grad_(), case.grad().requires_grad_(), case.vectors()
    torch.library.opcheck(FORWARD, (weight, u, v, case.axis))
    torch.library.opcheck(BACKWARD, (grad, weight, u, v, case.axis))
    torch.library.opcheck(ITERATE, (weight.detach(), u, case.axis, EPS))
    torch.library.opcheck(NEXT, (weight, u, case.axis, EPS))


# ----------------------------------------------------------------------------------------------------------------
# Wrong arguments


@needs_kernel
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.ones(4)}, r"expected u \[3\], got \[4\]"),
        ({"u": torch.ones(3, 1)}, r"expected u \[3\], got \[3, 1\]"),
        ({"u": torch.ones(3, dtype=F64)}, "expected u of another dtype"),
        ({"axis": 1}, r"expected u \[2\], got \[3\]"),
        ({"axis": 4}, r"expected an axis of weight \[3, 2, 2, 2\], got 4"),
        ({"axis": -1}, r"expected an axis of weight \[3, 2, 2, 2\], got -1"),
        ({"weight": torch.ones(()), "axis": 0}, r"expected an axis of weight \[\], got 0"),
        ({"weight": torch.ones(3, 2, 2, 2, dtype=torch.bfloat16)}, "expected weight to be float32 or float64"),
    ],
)
def test_wrong_arguments_stop_before_memory_is_touched(change: dict[str, Any], message: str) -> None:
    given = {"weight": torch.ones(3, 2, 2, 2), "u": torch.ones(3), "v": torch.ones(8), "axis": 0, **change}
    weight, u, v, axis = given.values()
    with pytest.raises(RuntimeError, match=f"^spectral_norm: {message}"):
        FORWARD(weight, u, v, axis)
    with pytest.raises(RuntimeError, match=f"^spectral_norm_backward: {message}"):
        BACKWARD(torch.ones_like(weight), weight, u, v, axis)
    with pytest.raises(RuntimeError, match=f"^spectral_norm_iterate: {message}"):
        ITERATE(weight, u, axis, EPS)
    with pytest.raises(RuntimeError, match=f"^spectral_norm_next: {message}"):
        NEXT(weight, u, axis, EPS)


@needs_kernel
def test_a_wrong_v_or_gradient_stops_before_memory_is_touched() -> None:
    weight, u, v = torch.ones(3, 2, 2, 2), torch.ones(3), torch.ones(8)
    with pytest.raises(RuntimeError, match=r"^spectral_norm: expected v \[8\], got \[7\]"):
        FORWARD(weight, u, v[1:], 0)
    with pytest.raises(RuntimeError, match=r"^spectral_norm_backward: expected v \[8\], got \[7\]"):
        BACKWARD(weight, weight, u, v[1:], 0)
    for grad in (weight[1:], weight.double()):
        with pytest.raises(RuntimeError, match=r"^spectral_norm_backward: expected grad like weight \[3, 2, 2, 2\]"):
            BACKWARD(grad, weight, u, v, 0)


def test_an_axis_is_counted_from_the_end_too() -> None:
    case = next(case for case in CASES if case.id == "conv-channels-last")
    weight, (u, _) = case.weight().detach(), case.vectors()
    behind = case.axis - weight.dim()
    for found, expected in zip(iterated(weight, u, behind), iterated(weight, u, case.axis), strict=True):
        assert torch.equal(found, expected)
    _, v = iterated(weight, u, case.axis)
    assert torch.equal(over_sigma(weight, u, v, behind), over_sigma(weight, u, v, case.axis))


@pytest.mark.parametrize("one", [False, True])
def test_transforms_and_compilers_see_the_formula(one: bool) -> None:
    case = next(case for case in CASES if case.id == "conv-channels-last")
    weight, grad, (u, _) = case.weight().detach(), case.grad(), case.vectors()

    def apart(weight: Tensor) -> Tensor:
        u_next, v_next = iterated(weight, u, case.axis)
        return (over_sigma(weight, u_next, v_next, case.axis) * grad).sum()

    def in_one(weight: Tensor) -> Tensor:
        return (over_next_sigma(weight, u, case.axis)[0] * grad).sum()

    loss = in_one if one else apart
    wanted = weight.clone().requires_grad_()
    loss(wanted).backward()
    torch.testing.assert_close(torch.func.grad(loss)(weight), wanted.grad)
    compiled = weight.clone().requires_grad_()
    torch.compile(loss, backend="aot_eager")(compiled).backward()
    torch.testing.assert_close(compiled.grad, wanted.grad)
