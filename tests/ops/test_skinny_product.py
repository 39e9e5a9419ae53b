"""Products of a weight with few rows, against float64: values, gradients, any strides, threads, wrong arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ganengine.ops import dispatch, skinny_product, skinny_product_backward, skinny_product_weights
from ganengine.ops.skinny_product import BACKWARD, FORWARD, WEIGHTS, reference, reference_backward, reference_weights

from .cases import ISAS, computing

F32, F64 = torch.float32, torch.float64

needs_kernel = pytest.mark.skipif(not dispatch.compiled("skinny_product", "cpu"), reason="no compiled CPU kernels")

# Rows, outputs and inputs. Kernels take rows by 4 or 2, outputs by 4, inputs by vectors and, for the rows' gradient, by
# runs of 256 to 1,024.
SHAPES = {
    "one row": (1, 32, 64),
    "blocks": (8, 48, 128),
    "all over": (7, 19, 37),
    "two over": (6, 6, 34),
    "one of each": (1, 1, 1),
    "several runs": (3, 21, 2_307),
    "many rows": (33, 35, 300),
    "fewer than a vector": (5, 9, 3),
    "no row": (0, 8, 16),
    "no output": (4, 0, 16),
    "no input": (4, 8, 0),
}
EACH = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
Ops = tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., Tensor]]


def whole(*shape: int, seed: int = 0, dtype: torch.dtype = F32) -> Tensor:
    """Return whole numbers so small that sums of their products are exact in float32."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def exact(x: Tensor, w: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three products by their sums, in float64."""
    x, w, y = x.double(), w.double(), y.double()
    return (
        (x[:, None, :] * w[None, :, :]).sum(2),
        (y[:, :, None] * w[None, :, :]).sum(1),
        (y[:, :, None] * x[:, None, :]).sum(0),
    )


def all_three(ops: Ops, x: Tensor, w: Tensor, y: Tensor) -> list[Tensor]:
    return [ops[0](x, w), ops[1](y, w), ops[2](x, y)]


@pytest.fixture(params=[*(pytest.param(isa, marks=needs_kernel) for isa in ISAS), "reference"])
def ops(request: pytest.FixtureRequest) -> Iterator[Ops]:
    """The three products: the kernels by each instruction set, and the formulas."""
    if request.param == "reference":
        yield reference, reference_backward, reference_weights
    else:
        with computing(request.param):
            yield FORWARD, BACKWARD, WEIGHTS


# ----------------------------------------------------------------------------------------------------------------
# Values


@pytest.mark.parametrize("dtype", [F32, F64])
@EACH
def test_whole_numbers_are_exact(ops: Ops, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    m, n, k = shape
    x, w, y = whole(m, k, seed=1, dtype=dtype), whole(n, k, seed=2, dtype=dtype), whole(m, n, seed=3, dtype=dtype)
    kept = x.clone(), w.clone(), y.clone()
    for found, expected in zip(all_three(ops, x, w, y), exact(x, w, y), strict=True):
        assert found.dtype == dtype
        assert found.is_contiguous()
        assert torch.equal(found.double(), expected)
    assert all(torch.equal(now, before) for now, before in zip((x, w, y), kept, strict=True))


def test_by_hand(ops: Ops) -> None:
    x, w, y = (
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]),
        torch.tensor([[1.0, 0, 2]]),
    )
    assert ops[0](x, w).tolist() == [[11, 17, 23]]
    assert ops[1](y, w).tolist() == [[17, 20]]
    assert ops[2](x, y).tolist() == [[1, 2], [0, 0], [2, 4]]


@needs_kernel
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(1, 256, 4096), (4, 512, 4096), (16, 512, 4096), (32, 512, 2048)])
def test_errors_are_at_most_twice_those_of_eager_pytorch(isa: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    x, w, y = normal(m, k, seed=1).float(), normal(n, k, seed=2).float(), normal(m, n, seed=3).float()
    wide = x.double(), w.double(), y.double()
    right = wide[0] @ wide[1].T, wide[2] @ wide[1], wide[2].T @ wide[0]
    with computing(isa):
        made = all_three((FORWARD, BACKWARD, WEIGHTS), x, w, y)
    for found, eager, expected in zip(made, (x @ w.T, y @ w, y.T @ x), right, strict=True):
        largest = float(expected.abs().max())
        allowed = 2 * float((eager.double() - expected).abs().max()) + torch.finfo(F32).eps * largest
        assert float((found.double() - expected).abs().max()) <= allowed


@settings(deadline=None, max_examples=80)
@given(
    m=st.integers(0, 40),
    n=st.integers(0, 40),
    k=st.integers(0, 80),
    turned=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    gaps=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dtype=st.sampled_from([F32, F64]),
)
def test_any_shape_and_strides(
    m: int, n: int, k: int, turned: tuple[bool, bool, bool], gaps: tuple[int, int], dtype: torch.dtype
) -> None:
    def lying(rows: int, columns: int, seed: int, turn: bool) -> Tensor:
        drawn = whole(rows * gaps[0], columns * gaps[1], seed=seed, dtype=dtype)[:: gaps[0], :: gaps[1]]
        return drawn.T.contiguous().T if turn else drawn

    x, w, y = lying(m, k, 1, turned[0]), lying(n, k, 2, turned[1]), lying(m, n, 3, turned[2])
    for found, expected in zip(all_three((FORWARD, BACKWARD, WEIGHTS), x, w, y), exact(x, w, y), strict=True):
        assert torch.equal(found.double(), expected)


@needs_kernel
@pytest.mark.parametrize("isa", ISAS)
def test_the_same_bits_with_any_number_of_threads(isa: str) -> None:
    x, w, y = normal(6, 1_541, seed=1).float(), normal(333, 1_541, seed=2).float(), normal(6, 333, seed=3).float()
    before, found = torch.get_num_threads(), []
    try:
        with computing(isa):
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append(all_three((FORWARD, BACKWARD, WEIGHTS), x, w, y))
    finally:
        torch.set_num_threads(before)
    assert w.numel() > 3 * 16_384
    assert all(torch.equal(one, other) for made in found[1:] for one, other in zip(found[0], made, strict=True))


@needs_kernel
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_gets_the_same_bits_whatever_rows_stand_beside_it(isa: str) -> None:
    x, w, y = normal(7, 2_600, seed=1).float(), normal(21, 2_600, seed=2).float(), normal(7, 21, seed=3).float()
    with computing(isa):
        made, back = FORWARD(x, w), BACKWARD(y, w)
        for row in range(7):
            assert torch.equal(FORWARD(x[row : row + 1], w)[0], made[row])
            assert torch.equal(BACKWARD(y[row : row + 1], w)[0], back[row])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_no_number_stays_with_its_sums(ops: Ops, bad: float) -> None:
    x, w, y = normal(5, 37, seed=1).float(), normal(9, 37, seed=2).float(), normal(5, 9, seed=3).float()
    x[4, 36] = y[3, 8] = bad
    broken = [(~found.isfinite()).nonzero().tolist() for found in all_three(ops, x, w, y)]
    assert broken[0] == [[4, n] for n in range(9)]
    assert broken[1] == [[3, k] for k in range(37)]
    assert broken[2] == [*([n, 36] for n in range(8)), *([8, k] for k in range(37))]


@EACH
def test_fakes_are_like_results(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    given = whole(m, k), whole(n, k), whole(m, n)
    mode = FakeTensorMode()
    with mode:
        faked = all_three((FORWARD, BACKWARD, WEIGHTS), *(mode.from_tensor(t) for t in given))
    for fake, real in zip(faked, all_three((FORWARD, BACKWARD, WEIGHTS), *given), strict=True):
        assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


def test_torch_counts_their_arithmetic() -> None:
    x, w, y = whole(3, 20), whole(7, 20), whole(3, 7)
    for op, pair in ((FORWARD, (x, w)), (BACKWARD, (y, w)), (WEIGHTS, (x, y))):
        with FlopCounterMode(display=False) as counter:
            op(*pair)
        assert counter.get_total_flops() == 2 * 3 * 7 * 20


# ----------------------------------------------------------------------------------------------------------------
# Gradients

PUBLIC = {
    "forward": (skinny_product, FORWARD, (3, 6), (5, 6)),
    "backward": (skinny_product_backward, BACKWARD, (3, 5), (5, 6)),
    "weights": (skinny_product_weights, WEIGHTS, (3, 6), (3, 5)),
}


@pytest.mark.parametrize("which", PUBLIC)
def test_gradients_of_any_order(which: str) -> None:
    function, _, *sizes = PUBLIC[which]
    given = [normal(*size, seed=seed).requires_grad_() for seed, size in enumerate(sizes)]
    assert torch.autograd.gradcheck(lambda a, b: function(a, b).sin(), given)
    assert torch.autograd.gradgradcheck(lambda a, b: function(a, b).sin(), given)


@pytest.mark.parametrize("which", PUBLIC)
def test_only_gradients_that_are_wanted(which: str) -> None:
    function, _, *sizes = PUBLIC[which]
    for wanted in (0, 1):
        given = [normal(*size, seed=seed).requires_grad_(seed == wanted) for seed, size in enumerate(sizes)]
        function(*given).sum().backward()
        assert (given[wanted].grad is not None, given[1 - wanted].grad) == (True, None)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize("which", PUBLIC)
def test_opcheck(which: str) -> None:
    _, op, *sizes = PUBLIC[which]
    torch.library.opcheck(op, tuple(normal(*size, seed=seed).requires_grad_() for seed, size in enumerate(sizes)))


@pytest.mark.parametrize("which", PUBLIC)
def test_transforms_and_compilers(which: str) -> None:
    function, _, *sizes = PUBLIC[which]
    one, other = (normal(*size, seed=seed) for seed, size in enumerate(sizes))

    def loss(one: Tensor) -> Tensor:
        return function(one, other).sin().sum()

    wanted = one.clone().requires_grad_()
    loss(wanted).backward()
    torch.testing.assert_close(torch.func.grad(loss)(one), wanted.grad)
    several = torch.func.vmap(torch.func.grad(loss))(torch.stack((one, 2 * one)))
    torch.testing.assert_close(several[0], wanted.grad)
    compiled = one.clone().requires_grad_()
    torch.compile(loss, backend="aot_eager", fullgraph=True)(compiled).backward()
    torch.testing.assert_close(compiled.grad, wanted.grad)


# ----------------------------------------------------------------------------------------------------------------
# Wrong arguments


@needs_kernel
@pytest.mark.parametrize(
    ("op", "one", "other", "message"),
    [
        (
            FORWARD,
            (3, 6),
            (5, 7),
            r"^skinny_product: expected rows \[M, K\] and weight \[N, K\], got \[3, 6\] and \[5, 7\]",
        ),
        (FORWARD, (3,), (5, 3), r"^skinny_product: expected rows \[M, K\] .*, got \[3\] and \[5, 3\]"),
        (FORWARD, (3, 6), (5, 6, 1), r"^skinny_product: expected rows \[M, K\] .*, got \[3, 6\] and \[5, 6, 1\]"),
        (BACKWARD, (3, 6), (5, 6), r"^skinny_product_backward: expected grad \[M, N\] and weight \[N, K\], got"),
        (WEIGHTS, (3, 6), (5, 6), r"^skinny_product_weights: expected rows \[M, K\] and grad \[M, N\], got"),
    ],
)
def test_wrong_shapes_stop_before_memory_is_touched(
    op: Callable[..., Tensor], one: tuple[int, ...], other: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        op(torch.ones(one), torch.ones(other))


@needs_kernel
@pytest.mark.parametrize("dtypes", [(torch.bfloat16,) * 2, (torch.int32,) * 2, (F32, F64), (F64, F32)])
@pytest.mark.parametrize("op", [FORWARD, BACKWARD, WEIGHTS], ids=PUBLIC)
def test_other_dtypes_stop_before_memory_is_touched(
    op: Callable[..., Tensor], dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    with pytest.raises(RuntimeError, match=r"expected (float32 or float64|two matrices of one dtype)"):
        op(*(torch.ones(4, 4, dtype=dtype) for dtype in dtypes))
