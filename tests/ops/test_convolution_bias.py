"""A bias's gradient: sums over pixels against those in float64, by every instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.errors import UserError
from ganengine.ops import dispatch
from ganengine.ops.convolution import BIAS, convolution_bias, reference_bias

RAW = torch.ops.ganengine
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
STEP = {torch.float64: 1e-13}
"""Rounding of a sum beside the sum of magnitudes; float32's unless stated."""

needs_kernel = pytest.mark.skipif(not dispatch.compiled("convolution", "cpu"), reason="no compiled CPU kernels")


@pytest.fixture(params=[0, 1, 2], ids=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each instruction set that there is."""
    if dispatch.compiled("convolution", "cpu"):
        if RAW.set_isa(request.param) != request.param:
            RAW.set_isa(2)
            pytest.skip("this machine does not have it")
        yield
        RAW.set_isa(2)
    elif request.param == 0:
        yield
    else:
        pytest.skip("no compiled CPU kernels")


def pixels(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(sum(shape))
    y = torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)
    return y.contiguous(memory_format=torch.channels_last)


def assert_sums(y: Tensor) -> None:
    found, wide = convolution_bias(y), y.double()
    assert found.dtype == (torch.float64 if y.dtype == torch.float64 else torch.float32)
    exact = wide.sum((0, 2, 3))
    room = STEP.get(y.dtype, 1e-6) * wide.abs().sum((0, 2, 3)) + 1e-30
    assert found.shape == exact.shape
    assert bool(((found.double() - exact).abs() <= room).all())


SHAPES = [(1, 2, 1, 1), (3, 17, 5, 4), (2, 64, 9, 9), (2, 200, 3, 7), (1, 130, 60, 60), (5, 1, 6, 6), (4, 3, 1, 33)]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_over_all_pixels(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_sums(pixels(shape, dtype))


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(DTYPES),
)
def test_any_shape(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_sums(pixels(shape, dtype))


@pytest.mark.parametrize("layout", ["contiguous", "expanded", "strided", "no pixels"])
def test_other_memory_goes_torchs_way(layout: str) -> None:
    y = pixels((2, 6, 4, 4), torch.bfloat16)
    y = {
        "contiguous": y.contiguous(),
        "expanded": y[:, :, :1, :1].expand(2, 6, 4, 4),
        "strided": y[:, :, ::2, ::2],
        "no pixels": y[:0],
    }[layout]
    assert_sums(y)


@needs_kernel
def test_one_thread_or_two_give_the_same_bits() -> None:
    y, found, threads = pixels((4, 48, 40, 40)), [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(convolution_bias(y))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_the_reference_is_as_documented() -> None:
    y = pixels((2, 5, 3, 3), torch.bfloat16)
    torch.testing.assert_close(reference_bias(y), torch.einsum("nkab->k", y.float()))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
def test_gradients_of_any_order_and_the_op_as_torch_checks_it() -> None:
    y = pixels((2, 3, 2, 2), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(convolution_bias, y)
    assert torch.autograd.gradgradcheck(lambda y: convolution_bias(y.square()), y)
    torch.library.opcheck(BIAS, (pixels((2, 3, 2, 2), torch.float32).requires_grad_(),))


def test_what_is_no_number_stays_in_its_channel() -> None:
    y = pixels((2, 20, 3, 3), torch.bfloat16)
    y[1, 7, 2, 0] = torch.nan
    y[0, 18, 0, 0] = torch.inf
    found = convolution_bias(y)
    assert found.isnan().nonzero().tolist() == [[7]]
    assert found.isinf().nonzero().tolist() == [[18]]


@needs_kernel
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(2, 3, 4), r"convolution_bias: expected y \[N, K, A, B\], got \[2, 3, 4\]"),
        (torch.zeros(2, 3, 4, 4), "convolution_bias: expected y in channels-last memory"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int32), "convolution_bias: expected y to be float32"),
    ],
)
def test_the_kernel_refuses_what_it_would_read_wrongly(y: Tensor, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        BIAS(y)


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(3), r"expected y \[N, K, A, B\], got float32 \[3\]. Give it two axes of pixels"),
        (torch.zeros(2, 3, 4), r"expected y \[N, K, A, B\], got float32 \[2, 3, 4\]"),
        (torch.zeros(2, 1, 4, 4, 4), r"expected y \[N, K, A, B\], got float32 \[2, 1, 4, 4, 4\]"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int32), r"expected y to be float32.*, got int32 \[2, 3, 4, 4\]"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.complex64), "expected y to be float32.*, got complex64"),
    ],
)
def test_the_function_refuses_by_any_way(y: Tensor, message: str, mode: str) -> None:
    dispatch.set_mode(mode)
    with pytest.raises(UserError, match=f"^convolution_bias: {message}"):
        convolution_bias(y)


def test_transforms_see_torchs_sum() -> None:
    y = pixels((2, 4, 2, 2), torch.float64)
    found = torch.func.grad(lambda y: convolution_bias(y.square()).sum())(y)
    torch.testing.assert_close(found, 2 * y)
