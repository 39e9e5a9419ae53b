"""Patches of pictures as rows of a matrix, and the sum of such patches back into pictures: adjoint linear maps.

With windows of R x S pixels at places (a, b), top left corners at (a stride - padding):

    patches[n a b, r s c] = x[n, a stride - padding + r, b stride - padding + s, c],   0 outside the picture
    x[n, i, j, c]         = sum of patches[n a b, r s c] over all (a, r) and (b, s) that meet in pixel (i, j)

A convolution is a matrix product with patches, its gradients are two more: fast where the backend's convolutions over
small maps are not. Pictures are [N, H, W, C] here, the memory of channels-last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ganengine.ops.checks import accumulation_dtype
from ganengine.ops.registration import define, set_gradient


def im2col(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], places: Sequence[int]
) -> Tensor:
    """Return what a window sees at each place, one row per place.

    Args:
        x: [N, H, W, C], float32, bfloat16, float16 or float64.
        kernel: rows and columns of the window.
        stride: from place to place.
        padding: how far the first place lies outside.
        places: how many there are, down and across. Those that lie outside see zeros.

    Returns:
        [N * places, kernel * C], contiguous.

    Gradients: any order.
    """
    patches: Tensor = call_forward(x, list(kernel), list(stride), list(padding), list(places))
    return patches


def col2im(
    patches: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    places: Sequence[int],
) -> Tensor:
    """Return pictures [N, H, W, C], each pixel the sum of what all windows that hold it say of it.

    Args:
        patches: [N * places, kernel * C].
        size: N, H, W, C.
        kernel, stride, padding, places: as in `im2col`, whose adjoint this is. Sums are float32 inside (float64 for
            float64).

    Gradients: any order.
    """
    x: Tensor = call_backward(patches, list(size), list(kernel), list(stride), list(padding), list(places))
    return x


def reference(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], places: Sequence[int]
) -> Tensor:
    """Return the patches [N * places, kernel * C] of x [N, H, W, C]."""
    # As far as the last place reaches: a stride may leave the rest over, places may lie beyond.
    reach = [stride[axis] * (places[axis] - 1) + kernel[axis] for axis in (0, 1)]
    after = [reach[axis] - padding[axis] - x.shape[axis + 1] for axis in (0, 1)]
    whole = F.pad(x, (0, 0, padding[1], after[1], padding[0], after[0]))
    n, down, across, channel = whole.stride()
    seen = whole.as_strided(
        (len(x), *places, *kernel, x.shape[3]), (n, stride[0] * down, stride[1] * across, down, across, channel)
    )
    return seen.reshape(len(x) * places[0] * places[1], -1)


def reference_backward(
    patches: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    places: Sequence[int],
) -> Tensor:
    """Return the sums [N, H, W, C] of patches [N * places, kernel * C]."""
    n, height, width, channels = size
    split = patches.view(n, *places, *kernel, channels)
    reach = [stride[axis] * (places[axis] - 1) + 1 for axis in (0, 1)]
    whole = [max((height, width)[axis] + padding[axis], reach[axis] + kernel[axis] - 1) for axis in (0, 1)]
    sums = patches.new_zeros(n, *whole, channels, dtype=accumulation_dtype(patches.dtype))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            sums[:, i : i + reach[0] : stride[0], j : j + reach[1] : stride[1]] += split[:, :, :, i, j]
    top, left = padding
    return sums[:, top : top + height, left : left + width].to(patches.dtype).contiguous()


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], places: Sequence[int]
) -> Tensor:
    return x.new_empty(x.shape[0] * places[0] * places[1], kernel[0] * kernel[1] * x.shape[3])


def _fake_backward(patches: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return patches.new_empty(list(size))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.form = inputs
    ctx.size = list(x.shape)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return col2im(grad, ctx.size, *ctx.form), None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, *ctx.form = inputs


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return im2col(grad, *ctx.form), None, None, None, None, None


FORWARD = define(
    "im2col(Tensor x, int[] kernel, int[] stride, int[] padding, int[] places) -> Tensor",
    reference=reference,
    fake=_fake,
)
BACKWARD = define(
    "im2col_backward(Tensor patches, int[] size, int[] kernel, int[] stride, int[] padding, int[] places) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save_backward, gradient=_gradient_backward)
