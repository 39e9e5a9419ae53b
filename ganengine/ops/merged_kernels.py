"""A convolution's kernels 3 x 3 as those 4 x 4 of one with stride 2, which does a halving or doubling along with it.

With w [K, C, 3, 3], and 0 for what lies outside a window:

    means:    merged[k, c, r, t] = 1/4 sum over y, x in {0, 1} of w[k, c, r - y, t - x]
    repeats:  merged[c, k, r, t] = sum over y, x in {0, 1} of w[k, c, 3 - r - y, 3 - t - x]

Means halve: the mean of 2 x 2 results of a convolution is one convolution of stride 2. Repeats double: a convolution of
pixels repeated 2 x 2 is a transposed one, which reads its kernel backwards. Both maps are linear.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.errors import UserError
from ganengine.ops.checks import accumulation_dtype, check_float, describe
from ganengine.ops.registration import define, set_gradient, traced

OP = "merged_kernels"
DTYPES = (torch.float32, torch.float64)
"""Of weights that the op takes; those of 16 bits (a network that was converted whole) go by the formula."""


def merged_kernels(weight: Tensor, repeats: bool) -> Tensor:
    """Return kernels 4 x 4 of a convolution of stride 2 with padding 1.

    Args:
        weight: [K, C, 3, 3], of a convolution; float32 or float64, or bfloat16 or float16 by the formula in plain
            PyTorch.
        repeats: of a transposed convolution, in place of one over an upsampled picture; else of one in place of a
            convolution and the mean of 2 x 2 results.

    Returns:
        [K, C, 4, 4], with repeats [C, K, 4, 4], in channels-last memory; dtype of weight. Sums of 16-bit weights are
        float32 inside.

    Raises:
        UserError: weight is of another shape, or neither of a float dtype.

    Gradients: any order.
    """
    check_float(OP, "weight", weight)
    if weight.dim() != 4 or weight.shape[2:] != (3, 3):
        raise UserError(
            f"{OP}: expected weight [K, C, 3, 3], got {describe(weight)}. Other kernels cannot be merged: leave the "
            "convolution and the mean or repetition beside it apart."
        )
    if weight.dtype not in DTYPES or traced():
        return reference(weight, repeats)
    merged: Tensor = call_forward(weight, repeats)
    return merged


def reference(weight: Tensor, repeats: bool) -> Tensor:
    """Return the merged kernels."""
    if repeats:
        weight = _channels_last(weight.transpose(0, 1))  # while it is small
    sums = _sums(F.pad(weight.to(accumulation_dtype(weight.dtype)), (1, 1, 1, 1)))
    merged = sums.flip(2, 3) if repeats else sums / 4
    return _channels_last(merged.to(weight.dtype))


def reference_backward(grad: Tensor, repeats: bool) -> Tensor:
    """Return the gradient of the weight, [K, C, 3, 3]."""
    sums = _sums(grad.to(accumulation_dtype(grad.dtype)))
    weight = sums.flip(2, 3).transpose(0, 1) if repeats else sums / 4
    return _channels_last(weight.to(grad.dtype))


def _sums(window: Tensor) -> Tensor:
    """Return the sum of each place and its neighbours to the right and below."""
    above, below = window[..., :-1, :], window[..., 1:, :]
    return above[..., :-1] + above[..., 1:] + below[..., :-1] + below[..., 1:]


def _channels_last(kernels: Tensor) -> Tensor:
    # By permutations, as vmap knows no memory formats.
    return kernels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(weight: Tensor, repeats: bool) -> Tensor:
    return _empty(weight, repeats, 4)


def _fake_backward(grad: Tensor, repeats: bool) -> Tensor:
    return _empty(grad, repeats, 3)


def _empty(like: Tensor, repeats: bool, side: int) -> Tensor:
    outer, inner = like.shape[:2]
    if repeats:
        outer, inner = inner, outer
    return like.new_empty(outer, side, side, inner).permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.repeats = inputs


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return call_backward(grad, ctx.repeats), None


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return call_forward(grad, ctx.repeats), None


FORWARD = define("merged_kernels(Tensor weight, bool repeats) -> Tensor", reference=reference, fake=_fake)
BACKWARD = define(
    "merged_kernels_backward(Tensor grad, bool repeats) -> Tensor", reference=reference_backward, fake=_fake_backward
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save, gradient=_gradient_backward)
