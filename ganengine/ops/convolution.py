"""Convolutions in bfloat16 as products of tiles: between a wide side, which windows look at, and a narrow one.

With strides s, padding p and a weight w [K, C, R, S]:

    convolution           y[n, k, a, b] = bias_k + sum over c, r, t of x[n, c, a s - p + r, b s - p + t] w[k, c, r, t]
    convolution_backward  its adjoint from y's side to x's, plus a bias: what a transposed convolution computes
    convolution_weights   w[k, c, r, t] = sum over n, a, b of y[n, k, a, b] x[n, c, a s - p + r, b s - p + t]

Each of the three is linear in both of its tensors, and its gradients are the two others. The kernel (AMX) takes weights
in float32, as they are kept, and gives their gradient so: no cast stands beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganengine.ops.dispatch import compiled
from ganengine.ops.registration import define, set_gradient


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return the convolution of x, or the data gradient of a transposed one.

    Args:
        x: [N, C, H, W], bfloat16.
        weight: [K, C, R, S], float32 or bfloat16; it is rounded to bfloat16.
        bias: [K], float32, or None.
        stride, padding: pairs, down and across.

    Returns:
        [N, K, (H + 2 p - R) // s + 1, ...], bfloat16, channels-last; sums are float32 inside, rounded once.

    Gradients: any order.
    """
    y: Tensor = call_forward(x, weight, bias, list(stride), list(padding))
    return y


def convolution_backward(
    y: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], sides: Sequence[int]
) -> Tensor:
    """Return the data gradient of a convolution, or a transposed convolution of y.

    Args:
        y: [N, K, A, B], bfloat16.
        weight: [K, C, R, S], float32 or bfloat16.
        bias: [C], float32, or None.
        stride, padding: of the convolution whose adjoint this is.
        sides: height and width of the result; a convolution of it has y's.

    Returns:
        [N, C, *sides], bfloat16, channels-last.

    Gradients: any order.
    """
    x: Tensor = call_backward(y, weight, bias, list(stride), list(padding), list(sides))
    return x


def convolution_weights(
    x: Tensor, y: Tensor, stride: Sequence[int], padding: Sequence[int], kernel: Sequence[int]
) -> Tensor:
    """Return the weight gradient of a convolution of x whose result has the gradient y.

    Args:
        x: [N, C, H, W], bfloat16; of a transposed convolution the gradient of the result.
        y: [N, K, A, B], bfloat16; of a transposed convolution what it takes.
        stride, padding: of the convolution.
        kernel: R and S.

    Returns:
        [K, C, R, S], float32, channels-last.

    Gradients: any order.
    """
    weight: Tensor = call_weights(x, y, list(stride), list(padding), list(kernel))
    return weight


def tiles_pay() -> bool:
    """Return whether the kernel is there and multiplies tiles: everywhere else torch's convolutions are faster."""
    return compiled("convolution", "cpu") and _tiles()


@functools.cache
def _tiles() -> bool:
    return bool(torch.ops.ganengine.has_amx())


# ----------------------------------------------------------------------------------------------------------------
# References


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Return the convolution of x by torch."""
    shift = None if bias is None else bias.to(x.dtype)
    return _channels_last(torch.ops.aten.convolution(x, weight.to(x.dtype), shift, stride, padding, *_PLAIN))


def reference_backward(
    y: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], sides: Sequence[int]
) -> Tensor:
    """Return the adjoint by torch's transposed convolution."""
    beyond = [
        sides[axis] - (stride[axis] * (y.shape[2 + axis] - 1) + weight.shape[2 + axis] - 2 * padding[axis])
        for axis in (0, 1)
    ]
    shift = None if bias is None else bias.to(y.dtype)
    made = torch.ops.aten.convolution(y, weight.to(y.dtype), shift, stride, padding, [1, 1], True, beyond, 1)
    return _channels_last(made)


def reference_weights(
    x: Tensor, y: Tensor, stride: Sequence[int], padding: Sequence[int], kernel: Sequence[int]
) -> Tensor:
    """Return the weight gradient by torch."""
    like = x.new_empty(y.shape[1], x.shape[1], *kernel)
    arguments = (None, stride, padding, *_PLAIN, (False, True, False))
    made: Tensor = torch.ops.aten.convolution_backward(y, x, like, *arguments)[1]
    return _channels_last(made.to(torch.promote_types(x.dtype, torch.float32)))


_PLAIN = ([1, 1], False, [0, 0], 1)
"""No dilation, not transposed, no output padding, one group."""


def _channels_last(made: Tensor) -> Tensor:
    return made.contiguous(memory_format=torch.channels_last)


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _empty(like: Tensor, shape: Sequence[Any], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=like.device, memory_format=torch.channels_last)


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    places = [(x.shape[2 + axis] + 2 * padding[axis] - weight.shape[2 + axis]) // stride[axis] + 1 for axis in (0, 1)]
    return _empty(x, (x.shape[0], weight.shape[0], *places), x.dtype)


def _fake_backward(
    y: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], sides: Sequence[int]
) -> Tensor:
    return _empty(y, (y.shape[0], weight.shape[1], *sides), y.dtype)


def _fake_weights(x: Tensor, y: Tensor, stride: Sequence[int], padding: Sequence[int], kernel: Sequence[int]) -> Tensor:
    return _empty(x, (y.shape[1], x.shape[1], *kernel), torch.promote_types(x.dtype, torch.float32))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    taken, weight, ctx.bias, *ctx.form = inputs
    ctx.save_for_backward(taken, weight)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, weight), (stride, padding) = ctx.saved_tensors, ctx.form
    to_x, to_weight, to_bias, *_ = ctx.needs_input_grad
    return (
        convolution_backward(grad, weight, None, stride, padding, x.shape[2:]) if to_x else None,
        _as(convolution_weights(x, grad, stride, padding, weight.shape[2:]), weight) if to_weight else None,
        _as(grad.sum((0, 2, 3)), ctx.bias) if to_bias else None,
        None,
        None,
    )


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (y, weight), (stride, padding, _) = ctx.saved_tensors, ctx.form
    to_y, to_weight, to_bias, *_ = ctx.needs_input_grad
    return (
        convolution(grad, weight, None, stride, padding) if to_y else None,
        _as(convolution_weights(grad, y, stride, padding, weight.shape[2:]), weight) if to_weight else None,
        _as(grad.sum((0, 2, 3)), ctx.bias) if to_bias else None,
        None,
        None,
        None,
    )


def _save_weights(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, *ctx.form = inputs
    ctx.save_for_backward(x, y)


def _gradient_weights(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, y), (stride, padding, _) = ctx.saved_tensors, ctx.form
    to_x, to_y, *_ = ctx.needs_input_grad
    return (
        convolution_backward(y, grad, None, stride, padding, x.shape[2:]) if to_x else None,
        convolution(x, grad, None, stride, padding) if to_y else None,
        None,
        None,
        None,
    )


def _as(found: Tensor, like: Tensor) -> Tensor:
    return found.to(like.dtype)


FORWARD = define(
    "convolution(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor",
    reference=reference,
    fake=_fake,
)
BACKWARD = define(
    "convolution_backward(Tensor y, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] sides) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
)
WEIGHTS = define(
    "convolution_weights(Tensor x, Tensor y, int[] stride, int[] padding, int[] kernel) -> Tensor",
    reference=reference_weights,
    fake=_fake_weights,
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save, gradient=_gradient_backward)
call_weights = set_gradient(WEIGHTS, save=_save_weights, gradient=_gradient_weights)
