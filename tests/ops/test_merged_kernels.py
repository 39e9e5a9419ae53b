"""Kernels 3 x 3 made 4 x 4, and the adjoint of that, against sums written out: values, gradients, any strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from ganengine.errors import UserError
from ganengine.ops import dispatch, merged_kernels
from ganengine.ops.merged_kernels import BACKWARD, FORWARD, reference, reference_backward

from .cases import ISAS, computing, lay_out

F32, F64 = torch.float32, torch.float64
WAYS = pytest.mark.parametrize("repeats", [False, True], ids=["means", "repeats"])

needs_kernel = pytest.mark.skipif(not dispatch.compiled("merged_kernels", "cpu"), reason="no compiled CPU kernels")


def spread(weight: Tensor, repeats: bool) -> Tensor:
    """Return in float64 what each number of a kernel adds to the four places that it meets."""
    wide = weight.double()
    outputs, inputs = weight.shape[:2]
    merged = torch.zeros((inputs, outputs, 4, 4) if repeats else (outputs, inputs, 4, 4), dtype=F64)
    for r in range(3):
        for s in range(3):
            for y in range(2):
                for x in range(2):
                    if repeats:
                        merged[:, :, 3 - r - y, 3 - s - x] += wide[:, :, r, s].T
                    else:
                        merged[:, :, r + y, s + x] += wide[:, :, r, s] / 4
    return merged


def gathered(grad: Tensor, repeats: bool) -> Tensor:
    """Return in float64 what the four places of each number of a kernel say of it."""
    wide = grad.double()
    outer, inner = grad.shape[:2]
    weight = torch.zeros((inner, outer, 3, 3) if repeats else (outer, inner, 3, 3), dtype=F64)
    for r in range(3):
        for s in range(3):
            for y in range(2):
                for x in range(2):
                    if repeats:
                        weight[:, :, r, s] += wide[:, :, 3 - r - y, 3 - s - x].T
                    else:
                        weight[:, :, r, s] += wide[:, :, r + y, s + x] / 4
    return weight


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Three additions, each rounded once, of numbers that are at most four times the largest together."""
    assert found.dtype == dtype
    assert found.shape == expected.shape
    if expected.numel():
        assert found.is_contiguous(memory_format=torch.channels_last)
        largest = float(expected.abs().max())
        assert float((found.double() - expected).abs().max()) <= 2 * torch.finfo(dtype).eps * largest


@dataclass(frozen=True)
class Case:
    """Two axes of channels, and where the kernels lie."""

    id: str
    shape: tuple[int, int]
    layout: str = "channels_last"

    def kernels(self, side: int, dtype: torch.dtype = F64) -> Tensor:
        shape = (*self.shape, side, side)
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(side), dtype=F64).to(dtype)
        if self.layout == "expanded":  # all kernels of an output are one
            return drawn[:, :1].expand(shape)
        if self.layout == "overlapping":  # each output's kernels begin where the second of the one before does
            drawn = drawn.flatten(0, 1)
            return drawn.as_strided(shape, (side * side, side * side, side, 1))
        if self.layout == "exchanged":
            return drawn.transpose(0, 1).contiguous(memory_format=torch.channels_last).transpose(0, 1)
        if self.layout == "gap":
            wide = torch.cat((drawn, drawn * math.nan), 1).contiguous(memory_format=torch.channels_last)
            return wide[:, : self.shape[1]]
        return lay_out(drawn, self.layout)


CASES = (
    Case("whole-vectors", (32, 64)),
    Case("odd", (21, 35)),
    Case("odd-contiguous", (21, 35), "contiguous"),
    Case("a-tile-and-one", (17, 33)),
    Case("few", (3, 5)),
    Case("few-contiguous", (3, 5), "contiguous"),
    Case("exchanged", (6, 20), "exchanged"),
    Case("transposed", (6, 20), "transposed"),
    Case("strided", (6, 20), "strided"),
    Case("gap", (6, 20), "gap"),
    Case("expanded", (6, 20), "expanded"),
    Case("overlapping", (6, 20), "overlapping"),
    Case("one-output", (1, 20)),
    Case("one-input", (20, 1)),
    Case("one-input-contiguous", (20, 1), "contiguous"),
    Case("one", (1, 1), "contiguous"),
    Case("no-output", (0, 20)),
    Case("no-input", (20, 0), "contiguous"),
    Case("nothing", (0, 0), "contiguous"),
    Case("large", (150, 67)),
)


def named(case: Case) -> str:
    return case.id


Ops = tuple[Callable[..., Tensor], Callable[..., Tensor]]


@pytest.fixture(params=[*(pytest.param(isa, marks=needs_kernel) for isa in ISAS), "reference"])
def ops(request: pytest.FixtureRequest) -> Iterator[Ops]:
    """Both directions: the kernels by each instruction set, and the formulas."""
    if request.param == "reference":
        yield reference, reference_backward
    else:
        with computing(request.param):
            yield FORWARD, BACKWARD


# ----------------------------------------------------------------------------------------------------------------
# Values


@WAYS
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_values_both_ways(ops: Ops, case: Case, dtype: torch.dtype, repeats: bool) -> None:
    forward, backward = ops
    weight, grad = case.kernels(3, dtype), case.kernels(4, dtype)
    kept = weight.clone(), grad.clone()
    assert_close(forward(weight, repeats), spread(weight, repeats), dtype)
    assert_close(backward(grad, repeats), gathered(grad, repeats), dtype)
    assert torch.equal(weight, kept[0])
    assert torch.equal(grad, kept[1])


@WAYS
def test_by_hand(ops: Ops, repeats: bool) -> None:
    """A kernel whose numbers are 4, 8, ... 36 has as means those sums by hand; sums are four times that, turned."""
    weight = torch.arange(4.0, 40.0, 4.0).view(1, 1, 3, 3)
    means = torch.tensor([[1.0, 3, 5, 3], [5, 12, 16, 9], [11, 24, 28, 15], [7, 15, 17, 9]])
    expected = 4 * means.flip(0, 1) if repeats else means
    assert torch.equal(ops[0](weight, repeats)[0, 0], expected)


@WAYS
def test_one_number_goes_to_four_places_of_its_own_kernel(ops: Ops, repeats: bool) -> None:
    weight = torch.zeros(18, 20, 3, 3)
    weight[17, 2, 0, 1] = 4.0
    merged = ops[0](weight, repeats)
    places = {tuple(place) for place in merged.nonzero().tolist()}
    rows, columns = ((2, 3), (1, 2)) if repeats else ((0, 1), (1, 2))
    first = (2, 17) if repeats else (17, 2)
    assert places == {(*first, r, c) for r in rows for c in columns}
    assert set(merged[merged != 0].tolist()) == {4.0 if repeats else 1.0}


@WAYS
@pytest.mark.parametrize("case", CASES, ids=named)
def test_each_is_the_others_adjoint(ops: Ops, case: Case, repeats: bool) -> None:
    """<A w, g> = <w, A^T g>."""
    forward, backward = ops
    weight = case.kernels(3)
    merged = forward(weight, repeats)
    grad = torch.randn(merged.shape, generator=torch.Generator().manual_seed(7), dtype=F64)
    pulled = backward(grad, repeats)
    torch.testing.assert_close((merged * grad).sum(), (weight * pulled).sum(), rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    order=st.permutations(range(4)),
    gaps=st.tuples(*[st.integers(1, 2)] * 4),
    dtype=st.sampled_from([F32, F64]),
    repeats=st.booleans(),
)
def test_any_shape_and_strides(
    shape: tuple[int, int], order: list[int], gaps: tuple[int, ...], dtype: torch.dtype, repeats: bool
) -> None:
    for side, op, expected in ((3, FORWARD, spread), (4, BACKWARD, gathered)):
        sizes = (*shape, side, side)
        drawn = torch.randn(
            [sizes[k] * gaps[k] for k in order], generator=torch.Generator().manual_seed(1), dtype=F64
        ).to(dtype)
        given = drawn.permute([order.index(k) for k in range(4)])[tuple(slice(None, None, gap) for gap in gaps)]
        assert_close(op(given, repeats), expected(given, repeats), dtype)


@WAYS
@pytest.mark.parametrize("case", CASES, ids=named)
def test_results_are_channels_last_and_fakes_too(case: Case, repeats: bool) -> None:
    mode = FakeTensorMode()
    for side, made, op in ((3, 4, FORWARD), (4, 3, BACKWARD)):
        given = case.kernels(side, F32)
        outer, inner = case.shape[::-1] if repeats else case.shape
        strides = torch.empty(outer, made, made, inner).permute(0, 3, 1, 2).stride()
        with mode:
            faked = mode.from_tensor(given)
            assert op(faked, repeats).shape == (outer, inner, made, made)
            assert op(faked, repeats).stride() == strides
        if dispatch.compiled("merged_kernels", "cpu"):
            assert op(given, repeats).stride() == strides


@needs_kernel
@pytest.mark.parametrize("isa", ISAS)
@WAYS
def test_the_same_bits_with_any_number_of_threads(isa: str, repeats: bool) -> None:
    case = Case("for-two-threads", (190, 181))
    before, found = torch.get_num_threads(), []
    try:
        with computing(isa):
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append([FORWARD(case.kernels(3, F32), repeats), BACKWARD(case.kernels(4, F32), repeats)])
    finally:
        torch.set_num_threads(before)
    assert found[0][0].numel() > 2 * 16 * 16_384
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@needs_kernel
@WAYS
def test_kernels_and_formulas_give_the_same_bits(repeats: bool) -> None:
    case = CASES[1]
    assert torch.equal(FORWARD(case.kernels(3, F32), repeats), reference(case.kernels(3, F32), repeats))
    assert torch.equal(BACKWARD(case.kernels(4, F32), repeats), reference_backward(case.kernels(4, F32), repeats))


@WAYS
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_no_number_stays_with_its_four_places(ops: Ops, bad: float, repeats: bool) -> None:
    weight, grad = CASES[1].kernels(3, F32), CASES[1].kernels(4, F32)
    weight[20, 34, 1, 1] = bad
    grad[20, 34, 1, 1] = bad
    assert int((~ops[0](weight, repeats).isfinite()).sum()) == 4
    assert int((~ops[1](grad, repeats).isfinite()).sum()) == 4


@WAYS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_go_by_the_formula_rounded_once(dtype: torch.dtype, repeats: bool) -> None:
    weight = CASES[1].kernels(3, dtype).requires_grad_()
    merged = merged_kernels(weight, repeats)
    exact = spread(weight.detach(), repeats)
    assert merged.dtype == dtype
    assert bool(
        ((merged.detach().double() - exact).abs() <= 0.5001 * torch.finfo(dtype).eps * exact.abs() + 1e-6).all()
    )
    grad = torch.randn(merged.shape, generator=torch.Generator().manual_seed(7)).to(dtype)
    (slope,) = torch.autograd.grad(merged, weight, grad)
    assert slope.dtype == dtype
    exact = gathered(grad, repeats)
    assert float((slope.double() - exact).abs().max()) <= 2 * torch.finfo(dtype).eps * float(exact.abs().max())


@WAYS
def test_autocast_changes_nothing(repeats: bool) -> None:
    for form in (merged_kernels, reference):
        weight = CASES[1].kernels(3, F32).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            merged = form(weight, repeats)
        assert_close(merged.detach(), spread(weight.detach(), repeats), F32)
        (slope,) = torch.autograd.grad(merged, weight, torch.ones_like(merged))
        assert slope.dtype == F32


# ----------------------------------------------------------------------------------------------------------------
# What they are for


@pytest.mark.parametrize("shape", [(3, 5), (17, 4)])
def test_a_convolution_and_the_mean_of_its_results(shape: tuple[int, int]) -> None:
    weight = Case("", shape).kernels(3)
    x = torch.randn(2, shape[1], 6, 8, generator=torch.Generator().manual_seed(2), dtype=F64)
    expected = F.avg_pool2d(F.conv2d(x, weight, padding=1), 2)
    torch.testing.assert_close(F.conv2d(x, merged_kernels(weight, False), stride=2, padding=1), expected)


@pytest.mark.parametrize("shape", [(3, 5), (17, 4)])
def test_a_convolution_of_repeated_pixels(shape: tuple[int, int]) -> None:
    weight = Case("", shape).kernels(3)
    x = torch.randn(2, shape[1], 3, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
    expected = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, padding=1)
    torch.testing.assert_close(F.conv_transpose2d(x, merged_kernels(weight, True), stride=2, padding=1), expected)


# ----------------------------------------------------------------------------------------------------------------
# Gradients


@WAYS
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
def test_gradients_of_any_order(layout: str, repeats: bool) -> None:
    case = Case("", (2, 3), layout)
    weight, grad = (case.kernels(side).detach().requires_grad_() for side in (3, 4))
    assert torch.autograd.gradcheck(lambda w: merged_kernels(w, repeats).sin(), (weight,))
    assert torch.autograd.gradgradcheck(lambda w: merged_kernels(w, repeats).sin(), (weight,))
    assert torch.autograd.gradcheck(lambda g: BACKWARD(g, repeats).sin(), (grad,))
    assert torch.autograd.gradgradcheck(lambda g: BACKWARD(g, repeats).sin(), (grad,))


@WAYS
def test_the_gradient_of_a_sum(repeats: bool) -> None:
    """Its gradient is one number, expanded: each number of a kernel goes to four places."""
    weight = CASES[1].kernels(3, F32).requires_grad_()
    merged_kernels(weight, repeats).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.full_like(weight, 4.0 if repeats else 1.0))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@WAYS
@pytest.mark.parametrize("name", ["few", "few-contiguous", "strided", "one-input", "no-input"])
def test_opcheck(name: str, repeats: bool) -> None:
    case = next(case for case in CASES if case.id == name)
    torch.library.opcheck(FORWARD, (case.kernels(3).detach().requires_grad_(), repeats))
    torch.library.opcheck(BACKWARD, (case.kernels(4).detach().requires_grad_(), repeats))


@WAYS
def test_transforms_and_compilers_see_the_formula(repeats: bool) -> None:
    weight = CASES[4].kernels(3)

    def loss(weight: Tensor) -> Tensor:
        return merged_kernels(weight, repeats).sin().sum()

    wanted = weight.clone().requires_grad_()
    loss(wanted).backward()
    torch.testing.assert_close(torch.func.grad(loss)(weight), wanted.grad)
    several = torch.func.vmap(torch.func.grad(loss))(torch.stack((weight, 2 * weight)))
    torch.testing.assert_close(several[0], wanted.grad)
    compiled = weight.clone().requires_grad_()
    torch.compile(loss, backend="aot_eager", fullgraph=True)(compiled).backward()
    torch.testing.assert_close(compiled.grad, wanted.grad)


# ----------------------------------------------------------------------------------------------------------------
# Wrong arguments


@needs_kernel
@WAYS
@pytest.mark.parametrize("shape", [(5, 4, 2, 3), (5, 4, 3, 5), (5, 4, 9), (5, 4, 3, 3, 1), (3, 3), ()])
def test_wrong_shapes_stop_before_memory_is_touched(shape: tuple[int, ...], repeats: bool) -> None:
    told = r"\[" + ", ".join(map(str, shape)) + r"\]"
    with pytest.raises(RuntimeError, match=rf"^merged_kernels: expected weight \[K, C, 3, 3\], got {told}"):
        FORWARD(torch.ones(shape), repeats)
    with pytest.raises(RuntimeError, match=rf"^merged_kernels_backward: expected grad \[., ., 4, 4\], got {told}"):
        BACKWARD(torch.ones(shape), repeats)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int32])
def test_other_dtypes_stop_before_memory_is_touched(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match=r"^merged_kernels: expected weight to be float32 or float64"):
        FORWARD(torch.ones(2, 3, 3, 3).to(dtype), False)
    with pytest.raises(RuntimeError, match=r"^merged_kernels_backward: expected grad to be float32 or float64"):
        BACKWARD(torch.ones(2, 3, 4, 4).to(dtype), True)


@WAYS
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(2, 3, 3, 3, dtype=torch.int64), r"expected weight to be float32.*, got int64 \[2, 3, 3, 3\]"),
        (torch.ones(2, 3, 3, 3, dtype=torch.bool), "expected weight to be float32.*, got bool"),
        (torch.ones(2, 3, 3, 3, dtype=torch.complex64), "expected weight to be float32.*, got complex64"),
        (torch.ones(2, 3, 5, 5), r"expected weight \[K, C, 3, 3\], got float32 \[2, 3, 5, 5\]"),
        (torch.ones(2, 3, 3, 3, 1, dtype=torch.float16), r"expected weight \[K, C, 3, 3\], got float16 \["),
    ],
)
def test_the_function_refuses_by_any_way(weight: Tensor, message: str, repeats: bool) -> None:
    with pytest.raises(UserError, match=f"^merged_kernels: {message}"):
        merged_kernels(weight, repeats)
