"""Instance norm against torch's own, in float64 and float32: values, gradients of every order, both memory formats."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.ops import dispatch
from ganengine.ops.instance_norm import BACKWARD, FORWARD, instance_norm, reference, reference_backward

SHAPES = [(1, 5, 4, 6), (3, 16, 4, 4), (2, 17, 3, 5), (4, 3, 7), (2, 64, 8, 8)]
SLOPES = [1.0, 0.0, 0.2]


def given(shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=draw, dtype=torch.float64) * 2 + 3
    gamma, beta = (torch.randn(shape[1], generator=draw, dtype=torch.float64) for _ in range(2))
    if last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return x.to(dtype), gamma.to(wide), beta.to(wide)


def torchs(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, slope: float) -> Tensor:
    y = F.instance_norm(x, None, None, gamma, beta, True, 0.0, eps)
    return F.leaky_relu(y, slope) if slope != 1 else y


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_values_and_gradients(
    shape: tuple[int, ...], slope: float, last: bool, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = given(shape, dtype, last)
    weight = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    mine = [t.clone().requires_grad_() for t in inputs]
    y = instance_norm(*mine, 1e-3, slope)
    found = [y, *torch.autograd.grad(y, mine, weight.to(dtype))]
    truth = [t.double().requires_grad_() for t in inputs]
    expected = torchs(*truth, 1e-3, slope)
    wanted = [expected, *torch.autograd.grad(expected, truth, weight.to(dtype).double())]
    for got, right in zip(found, wanted, strict=True):
        assert float((got.detach().double() - right.detach()).abs().max() / right.detach().abs().max()) <= tolerance
    assert y.dtype == dtype
    assert y.stride() == inputs[0].stride()


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("last", [False, True])
def test_gradients_of_second_order(slope: float, last: bool) -> None:
    inputs = tuple(t.requires_grad_() for t in given((2, 3, 2, 3), torch.float64, last))

    def fn(*tensors: Tensor) -> Tensor:
        return instance_norm(*tensors, 1e-2, slope)

    assert torch.autograd.gradcheck(fn, inputs)
    assert torch.autograd.gradgradcheck(fn, inputs)


@pytest.mark.skipif(not dispatch.compiled("instance_norm", "cpu"), reason="no compiled CPU kernels")
@pytest.mark.parametrize("last", [False, True])
def test_the_kernel_is_its_reference(last: bool) -> None:
    x, gamma, beta = given((3, 7, 4, 5), torch.float64, last)
    kernel, formula = FORWARD(x, gamma, beta, 1e-5, 0.2), reference(x, gamma, beta, 1e-5, 0.2)
    grad = x.sin()
    kernel_back = BACKWARD(grad, x, gamma, beta, *kernel[1:], 1e-5, 0.2)
    formula_back = reference_backward(grad, x, gamma, beta, *formula[1:], 1e-5, 0.2)
    for mine, expected in zip((*kernel, *kernel_back), (*formula, *formula_back), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-11)


def test_a_sample_does_not_see_its_mates() -> None:
    x, gamma, beta = given((3, 4, 5, 5), torch.float32, True)
    whole = instance_norm(x, gamma, beta)
    for number in range(3):
        assert torch.equal(instance_norm(x[number : number + 1], gamma, beta), whole[number : number + 1])


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, requires_grad=True)
    y = instance_norm(x, torch.ones(3), torch.zeros(3))
    assert y.shape == shape
    y.sum().backward()
    assert x.grad is not None


def test_only_what_is_asked_for_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [t.requires_grad_() for t in given((2, 3, 4, 4), torch.float32, True)]
    y = instance_norm(*inputs)
    y.sum().backward(inputs=[inputs[0]])
    assert inputs[0].grad is not None
    assert inputs[1].grad is None


@pytest.mark.skipif(not dispatch.compiled("instance_norm", "cpu"), reason="no compiled CPU kernels")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": torch.ones(4)}, r"instance_norm: expected gamma \[3\]"),
        ({"x": torch.zeros(2, 3, 4, 4, dtype=torch.int32)}, "instance_norm: expected x to be float32"),
        ({"beta": torch.zeros(3, dtype=torch.float64)}, "instance_norm: expected beta of another dtype"),
    ],
)
def test_wrong_tensors_stop_before_memory_is_touched(change: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.zeros(2, 3, 4, 4), "gamma": torch.ones(3), "beta": torch.zeros(3), **change}
    with pytest.raises(RuntimeError, match=message):
        FORWARD(*arguments.values(), 1e-5, 1.0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
def test_opcheck() -> None:
    x, gamma, beta = (t.requires_grad_() for t in given((2, 3, 2, 3), torch.float64, True))
    torch.library.opcheck(FORWARD, (x, gamma, beta, 1e-5, 0.2))
