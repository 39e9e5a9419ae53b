"""Convolutions: between a wide side, which windows look at, and a narrow one.

With strides s, padding p, a weight w [K, C, R, S] and an activation act(v) = v where v > 0, else slope v:

    convolution           y[n, k, a, b] = bias_k + sum over c, r, t of w[k, c, r, t] act(x)[n, c, a s-p+r, b s-p+t]
    convolution_backward  its adjoint from y's side to x's, plus a bias: what a transposed convolution computes
    convolution_weights   w[k, c, r, t] = sum over n, a, b of act(y)[n, k, a, b] act(x)[n, c, a s-p+r, b s-p+t]
    convolution_bias      b[k] = sum over n, a, b of y[n, k, a, b]

Each of the first three is linear in both of its tensors, and its gradients are the two others. There are kernels in
float32 and, as products of tiles (AMX) or of pairs (AVX512_BF16), in bfloat16, which take weights in float32, as they
are kept, and give their gradient so: no cast stands beside them. Nor does an activation in front: it acts as the kernel
reads, and its derivative, by a gate, as the kernel writes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.errors import UserError
from ganengine.ops.checks import accumulation_dtype, check_float, describe, widened
from ganengine.ops.dispatch import compiled
from ganengine.ops.registration import define, set_gradient, traced, wanted


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    reflect: bool = False,
    slope: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """Return the convolution of act(x), or the data gradient of a transposed one.

    Args:
        x: [N, C, H, W], float32 or bfloat16.
        weight: [K, C, R, S], float32, or bfloat16 beside such x, for which it is rounded.
        bias: [K], float32, or None.
        stride, padding: pairs, down and across.
        reflect: what lies outside of x is its reflection, not 0; then x is larger than the padding.
        slope: of the activation below 0: 0 ReLU, 1 none.
        gate: like the result. Then x is taken as it is, and the result is multiplied by act'(gate), `slope` at 0.

    Returns:
        [N, K, (H + 2 p - R) // s + 1, ...], as x, channels-last; sums are float32 inside, rounded once.

    Gradients: any order; none to the gate.
    """
    y: Tensor = call_forward(x, weight, bias, list(stride), list(padding), reflect, slope, gate)
    return y


def convolution_backward(
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    sides: Sequence[int],
    reflect: bool = False,
    slope: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """Return the data gradient of a convolution, or a transposed convolution of act(y).

    Args:
        y: [N, K, A, B], float32 or bfloat16.
        weight: [K, C, R, S], float32, or bfloat16 beside such y.
        bias: [C], float32, or None.
        stride, padding: of the convolution whose adjoint this is.
        sides: height and width of the result; a convolution of it has y's.
        reflect, slope, gate: as in `convolution`; beside a reflection there are neither bias nor gate.

    Returns:
        [N, C, *sides], as y, channels-last.

    Gradients: any order; none to the gate.
    """
    x: Tensor = call_backward(y, weight, bias, list(stride), list(padding), list(sides), reflect, slope, gate)
    return x


def convolution_weights(
    x: Tensor,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    kernel: Sequence[int],
    reflect: bool = False,
    x_slope: float = 1.0,
    y_slope: float = 1.0,
) -> Tensor:
    """Return the weight gradient of a convolution of act(x) whose result has the gradient act(y).

    Args:
        x: [N, C, H, W], float32 or bfloat16; of a transposed convolution the gradient of the result.
        y: [N, K, A, B], as x; of a transposed convolution what it takes.
        stride, padding: of the convolution.
        kernel: R and S.
        reflect: as in `convolution`.
        x_slope, y_slope: of the activations; 1 none.

    Returns:
        [K, C, R, S], float32, channels-last.

    Gradients: any order.
    """
    weight: Tensor = call_weights(x, y, list(stride), list(padding), list(kernel), reflect, x_slope, y_slope)
    return weight


def convolution_bias(y: Tensor) -> Tensor:
    """Return the gradient of a convolution's bias.

    Args:
        y: [N, K, A, B], the gradient of its result; float32, bfloat16, float16 or float64.

    Returns:
        [K], float32 (float64 for float64), in which the sums are taken.

    Raises:
        UserError: y has another number of axes, or no float dtype.

    Gradients: any order.
    """
    check_float("convolution_bias", "y", y)
    if y.dim() != 4:
        raise UserError(
            f"convolution_bias: expected y [N, K, A, B], got {describe(y)}. Give it two axes of "
            "pixels, for example with y.flatten(2).unsqueeze(3)."
        )
    # The kernel reads rows of channels; a single channel is one row, for which torch's sum is made.
    if not traced() and y.shape[1] > 1 and y.is_contiguous(memory_format=torch.channels_last):
        bias: Tensor = call_bias(y)
        return bias
    return reference_bias(y)


def kernels_pay(dtype: torch.dtype) -> bool:
    """Return whether there are kernels for it that are faster than torch's convolutions.

    In bfloat16 they are where the processor multiplies tiles (AMX), in float32 where it has AVX2 and no AVX-512.
    """
    return dtype in _FASTER and compiled("convolution", "cpu") and _faster(dtype)


def small_kernels_pay(dtype: torch.dtype) -> bool:
    """Return whether they are faster for layers of few products alone, by what stands around torch's convolutions.

    In bfloat16 they are where the processor multiplies pairs (AVX512_BF16) and no tiles.
    """
    return dtype == torch.bfloat16 and compiled("convolution", "cpu") and _bf16_products() == _PAIRS


def few_kernels_pay(dtype: torch.dtype) -> bool:
    """Return whether those in float32 are faster for layers with few channels on one side, where others are not.

    They are where the processor has AVX-512; for bfloat16 data, casts included, if it multiplies no tiles.
    """
    return dtype in _FASTER and compiled("convolution", "cpu") and _few_faster(dtype)


_FASTER = (torch.bfloat16, torch.float32)
_AVX2, _AVX512 = 1, 2
"""As `best_isa` counts instruction sets."""
_PAIRS, _TILES = 1, 2
"""As `best_bf16_products` counts products."""


@functools.cache
def _faster(dtype: torch.dtype) -> bool:
    return _bf16_products() == _TILES if dtype == torch.bfloat16 else torch.ops.ganengine.best_isa() == _AVX2


@functools.cache
def _few_faster(dtype: torch.dtype) -> bool:
    tiles = dtype == torch.bfloat16 and _bf16_products() == _TILES
    return not tiles and torch.ops.ganengine.best_isa() == _AVX512


@functools.cache
def _bf16_products() -> int:
    return int(torch.ops.ganengine.best_bf16_products())


# ----------------------------------------------------------------------------------------------------------------
# References


def activated(x: Tensor, slope: float) -> Tensor:
    """Return act(x)."""
    if slope == 1:
        return x
    return F.leaky_relu(x, slope) if slope else F.relu(x)


def through_gate(grad: Tensor, gate: Tensor | None, slope: float) -> Tensor:
    """Return grad act'(gate)."""
    if gate is None or slope == 1:
        return grad
    if slope == 0:
        closed: Tensor = torch.ops.aten.threshold_backward(grad, gate, 0)
        return closed
    sloped: Tensor = torch.ops.aten.leaky_relu_backward(grad, gate, slope, False)
    return sloped


def reflected(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Return x [N, C, H, W] with its reflection around it, `padding` rows and columns of it."""
    down, across = padding
    with torch.autocast(x.device.type, enabled=False):  # it would pad in float32
        made: Tensor = torch.ops.aten.reflection_pad2d(x, [across, across, down, down])
    return made


def folded(padded: Tensor, padding: Sequence[int]) -> Tensor:
    """Return the adjoint of `reflected`, [N, C, H, W]."""
    down, across = padding
    high, wide = padded.shape[2:]
    like = padded.new_empty(()).expand(*padded.shape[:2], high - 2 * down, wide - 2 * across)
    made: Tensor = torch.ops.aten.reflection_pad2d_backward(padded, like, [across, across, down, down])
    return made


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    reflect: bool = False,
    slope: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """Return the convolution by torch."""
    taken = x if gate is not None else activated(x, slope)
    shift = None if bias is None else bias.to(x.dtype)
    if reflect:
        taken, padding = reflected(taken, padding), [0, 0]
    made = torch.ops.aten.convolution(taken, weight.to(x.dtype), shift, stride, padding, *_PLAIN)
    return _channels_last(through_gate(made, gate, slope))


def reference_backward(
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    sides: Sequence[int],
    reflect: bool = False,
    slope: float = 1.0,
    gate: Tensor | None = None,
) -> Tensor:
    """Return the adjoint by torch's transposed convolution."""
    if reflect:
        if bias is not None or gate is not None:
            raise RuntimeError("convolution_backward: expected neither gate nor bias beside a reflection")
        around = [side + 2 * pad for side, pad in zip(sides, padding, strict=True)]
        padded = reference_backward(y, weight, None, stride, [0, 0], around, False, slope)
        return _channels_last(folded(padded, padding))
    beyond = [
        sides[axis] - (stride[axis] * (y.shape[2 + axis] - 1) + weight.shape[2 + axis] - 2 * padding[axis])
        for axis in (0, 1)
    ]
    taken = y if gate is not None else activated(y, slope)
    shift = None if bias is None else bias.to(y.dtype)
    made = torch.ops.aten.convolution(taken, weight.to(y.dtype), shift, stride, padding, [1, 1], True, beyond, 1)
    return _channels_last(through_gate(made, gate, slope))


def reference_weights(
    x: Tensor,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    kernel: Sequence[int],
    reflect: bool = False,
    x_slope: float = 1.0,
    y_slope: float = 1.0,
) -> Tensor:
    """Return the weight gradient by torch."""
    like = x.new_empty(y.shape[1], x.shape[1], *kernel)
    if reflect:
        x, padding = reflected(x, padding), [0, 0]
    both = activated(y, y_slope), activated(x, x_slope)
    made: Tensor = torch.ops.aten.convolution_backward(
        *both, like, None, stride, padding, *_PLAIN, (False, True, False)
    )[1]
    return _channels_last(made.to(torch.promote_types(x.dtype, torch.float32)))


def reference_bias(y: Tensor) -> Tensor:
    """Return the sums by torch."""
    return y.sum((0, 2, 3), dtype=accumulation_dtype(y.dtype))


_PLAIN = ([1, 1], False, [0, 0], 1)
"""No dilation, not transposed, no output padding, one group."""


def _channels_last(made: Tensor) -> Tensor:
    """Return it with the strides that the fake kernels tell, also where a side of one number leaves them open."""
    return _empty(made, made.shape, made.dtype).copy_(made)


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _empty(like: Tensor, shape: Sequence[Any], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=like.device, memory_format=torch.channels_last)


def _fake(x: Tensor, weight: Tensor, _: Any, stride: Sequence[int], padding: Sequence[int], *__: Any) -> Tensor:
    places = [(x.shape[2 + axis] + 2 * padding[axis] - weight.shape[2 + axis]) // stride[axis] + 1 for axis in (0, 1)]
    return _empty(x, (x.shape[0], weight.shape[0], *places), x.dtype)


def _fake_backward(y: Tensor, weight: Tensor, _: Any, __: Any, ___: Any, sides: Sequence[int], *____: Any) -> Tensor:
    return _empty(y, (y.shape[0], weight.shape[1], *sides), y.dtype)


def _fake_weights(x: Tensor, y: Tensor, _: Any, __: Any, kernel: Sequence[int], *___: Any) -> Tensor:
    return _empty(x, (y.shape[1], x.shape[1], *kernel), torch.promote_types(x.dtype, torch.float32))


def _fake_bias(y: Tensor) -> Tensor:
    return y.new_empty(y.shape[1], dtype=accumulation_dtype(y.dtype))


def _arithmetic(narrow: Sequence[int], weight: Sequence[int]) -> int:
    """At each place of the narrow side each weight multiplies and adds once."""
    return 2 * narrow[0] * narrow[2] * narrow[3] * math.prod(weight)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    taken, weight, ctx.bias, ctx.stride, ctx.padding, *_, ctx.reflect, ctx.slope, gate = inputs
    ctx.save_for_backward(taken, weight, gate)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, weight, gate), slope, reflect = ctx.saved_tensors, ctx.slope, ctx.reflect
    form, kernel = (ctx.stride, ctx.padding), weight.shape[2:]
    (to_x, to_weight, to_bias), grad = wanted(ctx)[:3], through_gate(grad, gate, slope)
    before = slope if gate is None else 1.0
    return (
        _to_wide(grad, weight, *form, x, reflect, before) if to_x else None,
        widened(convolution_weights(x, grad, *form, kernel, reflect, before), weight.dtype) if to_weight else None,
        widened(convolution_bias(grad), ctx.bias.dtype) if to_bias else None,
        *[None] * 5,
    )


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (y, weight, gate), slope, reflect = ctx.saved_tensors, ctx.slope, ctx.reflect
    form, kernel = (ctx.stride, ctx.padding), weight.shape[2:]
    (to_y, to_weight, to_bias), grad = wanted(ctx)[:3], through_gate(grad, gate, slope)
    before = slope if gate is None else 1.0
    return (
        convolution(grad, weight, None, *form, reflect, before, None if before == 1 else y) if to_y else None,
        widened(convolution_weights(grad, y, *form, kernel, reflect, 1.0, before), weight.dtype) if to_weight else None,
        widened(convolution_bias(grad), ctx.bias.dtype) if to_bias else None,
        *[None] * 6,
    )


def _save_weights(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, y, ctx.stride, ctx.padding, _, ctx.reflect, ctx.x_slope, ctx.y_slope = inputs
    ctx.save_for_backward(x, y)


def _gradient_weights(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, y), form = ctx.saved_tensors, (ctx.stride, ctx.padding)
    to_x, to_y, *_ = wanted(ctx)
    seen_x, seen_y, gate = activated(x, ctx.x_slope), activated(y, ctx.y_slope), None if ctx.y_slope == 1 else y
    return (
        _to_wide(seen_y, grad, *form, x, ctx.reflect, ctx.x_slope) if to_x else None,
        convolution(seen_x, grad, None, *form, ctx.reflect, ctx.y_slope, gate) if to_y else None,
        *[None] * 6,
    )


def _save_bias(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.shape, ctx.dtype = inputs[0].shape, inputs[0].dtype


def _gradient_bias(ctx: Any, grad: Tensor) -> Tensor:
    return grad.to(ctx.dtype).view(1, -1, 1, 1).expand(ctx.shape)


def _to_wide(
    y: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], x: Tensor, reflect: bool, slope: float
) -> Tensor:
    """Return the gradient at x, which went through an activation to the wide side."""
    if reflect or slope == 1:
        made = convolution_backward(y, weight, None, stride, padding, x.shape[2:], reflect)
        return through_gate(made, x, slope)
    return convolution_backward(y, weight, None, stride, padding, x.shape[2:], False, slope, x)


FORWARD = define(
    "convolution(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, bool reflect, float slope,"
    " Tensor? gate) -> Tensor",
    reference=reference,
    fake=_fake,
    arithmetic=lambda x, weight, *_, out_shape: _arithmetic(out_shape, weight),
)
BACKWARD = define(
    "convolution_backward(Tensor y, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] sides,"
    " bool reflect, float slope, Tensor? gate) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
    arithmetic=lambda y, weight, *_, out_shape: _arithmetic(y, weight),
)
WEIGHTS = define(
    "convolution_weights(Tensor x, Tensor y, int[] stride, int[] padding, int[] kernel, bool reflect, float x_slope,"
    " float y_slope) -> Tensor",
    reference=reference_weights,
    fake=_fake_weights,
    arithmetic=lambda x, y, *_, out_shape: _arithmetic(y, out_shape),
)
BIAS = define("convolution_bias(Tensor y) -> Tensor", reference=reference_bias, fake=_fake_bias)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save, gradient=_gradient_backward)
call_weights = set_gradient(WEIGHTS, save=_save_weights, gradient=_gradient_weights)
call_bias = set_gradient(BIAS, save=_save_bias, gradient=_gradient_bias)
