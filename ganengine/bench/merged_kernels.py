"""Kernels 3 x 3 as the 4 x 4 of one convolution of stride 2: what a halving or doubling beside a convolution takes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.layout import channels_last
from ganengine.ops import merged_kernels

OP = "merged_kernels"
SHAPES = ((64, 64), (128, 64), (256, 256))
"""Outputs and inputs of the convolution."""


def cases() -> list[Case]:
    """Return all cases."""
    return [case(shape, repeats) for shape in SHAPES for repeats in (False, True)]


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case(SHAPES[0], True)]


def case(shape: tuple[int, int], repeats: bool) -> Case:
    """Return the case of a weight [outputs, inputs, 3, 3] in channels-last memory."""
    name = "repeats" if repeats else "means"
    return Case(OP, name, (*shape, 3, 3), torch.float32, "channels_last", partial(_subject, shape, repeats))


def _subject(shape: tuple[int, int], repeats: bool, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(10)
    made = shape[::-1] if repeats else shape
    weight = channels_last(torch.randn(*shape, 3, 3, generator=draw).to(device)).requires_grad_()
    grad = channels_last(torch.randn(*made, 4, 4, generator=draw).to(device))

    def stacked(weight: Tensor) -> Tensor:
        sums = torch.stack([F.pad(weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]).sum(0)
        return sums.transpose(0, 1).flip(2, 3) if repeats else sums / 4

    # The same as a matrix [16, 9]: what a kernel with a single 1 becomes.
    unit = torch.eye(9).view(9, 1, 3, 3)
    matrix = stacked(unit).reshape(9, 16).T.contiguous().to(device)

    def products(weight: Tensor) -> Tensor:
        small = weight.transpose(0, 1) if repeats else weight
        outer, inner = small.shape[:2]
        # A matrix for each output: one that is repeated by its strides goes a slower way.
        each = matrix.expand(outer, -1, -1).contiguous()
        large = torch.bmm(each, small.permute(0, 2, 3, 1).reshape(outer, 9, inner))
        return large.view(outer, 4, 4, inner).permute(0, 3, 1, 2)

    def fused(weight: Tensor) -> Tensor:
        return merged_kernels(weight, repeats)

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = weight.detach().double().requires_grad_()
        # Each number of the small window is spread over 2 x 2 places: a transposed convolution of each kernel by 1.
        spread = F.conv_transpose2d(wide.flatten(0, 1).unsqueeze(1), wide.new_ones(1, 1, 2, 2)).view(*shape, 4, 4)
        merged = spread.flip(2, 3).transpose(0, 1) if repeats else spread / 4
        return (merged.detach(), *torch.autograd.grad(merged, wide, grad.double()))

    # Forward reads 9 numbers and writes 16, backward the reverse: a clone of the result moves 32.
    plain = grad.clone()
    floor = {FORWARD: Floor(plain.clone, 25 / 32), BOTH: Floor(plain.clone, 50 / 32)}
    eager = {"stack, sum": stacked, "bmm": products}
    return Subject((weight,), grad, fused, eager, tuple(eager), truth, floor)
