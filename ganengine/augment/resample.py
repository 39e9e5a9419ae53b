"""Affine resampling that can be differentiated twice; torch's own grid_sample cannot."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_BILINEAR, _REFLECTION = 0, 2


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Return pictures whose value at pixel (x, y) is the input's at `matrix` (x, y, 1), bilinear between pixels.

    Args:
        images: [N, C, H, W]; beyond its edges a picture is mirrored.
        matrix: [N, 3, 3], affine, in pixels from the picture's centre, x to the right, y down.

    Gradients: with respect to images, any order; the map is linear in them.
    Determinism: gradients on CUDA use atomics.
    """
    height, width = images.shape[2:]
    # In torch's coordinates the picture's edges lie at -1 and 1.
    unit = torch.diag(matrix.new_tensor([width / 2, height / 2, 1.0]))
    inner = (torch.linalg.inv(unit) @ matrix @ unit)[:, :2]
    grid = F.affine_grid(inner, list(images.shape), align_corners=False)
    sampled: Tensor = _Sample.apply(images, grid)  # type: ignore[no-untyped-call]
    return sampled


class _Sample(torch.autograd.Function):
    """S x: the pictures at the points of a grid; backward is S^T."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.shape), None  # type: ignore[no-untyped-call]


class _Spread(torch.autograd.Function):
    """S^T g: values at the points of a grid, put back into the pixels that they came from; backward is S."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, gradient.new_empty(shape), grid, _BILINEAR, _REFLECTION, False, [True, False]
        )[0]
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradient, grid), None, None  # type: ignore[no-untyped-call]
