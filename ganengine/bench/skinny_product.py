"""A layer over few rows, whose time is that of its weight: what convolutions over the smallest maps become."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.ops import skinny_product

OP = "skinny_product"
SHAPES = ((1, 256, 4096), (4, 512, 4096), (16, 512, 4096), (32, 512, 2048))
"""Rows, outputs and inputs: the innermost layers of arXiv:1611.07004's U-Net over one to eight pictures."""


def cases() -> list[Case]:
    """Return all cases."""
    return [case(shape) for shape in SHAPES]


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case(SHAPES[1])]


def case(shape: tuple[int, int, int]) -> Case:
    """Return the case of so many rows, outputs and inputs."""
    return Case(OP, "layer", shape, torch.float32, "contiguous", partial(_subject, shape))


def _subject(shape: tuple[int, int, int], device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(11)
    count, outputs, inputs = shape
    rows = torch.randn(count, inputs, generator=draw).to(device).requires_grad_()
    weight = torch.randn(outputs, inputs, generator=draw).to(device).requires_grad_()
    grad = torch.randn(count, outputs, generator=draw).to(device)

    def linear(rows: Tensor, weight: Tensor) -> Tensor:
        return F.linear(rows, weight)

    def weight_first(rows: Tensor, weight: Tensor) -> Tensor:
        return (weight @ rows.T).T

    def fused(rows: Tensor, weight: Tensor) -> Tensor:
        return skinny_product(rows, weight)

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = rows.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
        made = wide[0] @ wide[1].T
        return (made.detach(), *torch.autograd.grad(made, wide, grad.double()))

    # The weight is read forward, and read and its gradient written backward: a clone reads and writes it.
    plain = weight.detach()
    floor = {FORWARD: Floor(plain.clone, 0.5), BOTH: Floor(plain.clone, 1.5)}
    eager = {"linear": linear, "weight first": weight_first}
    return Subject((rows, weight), grad, fused, eager, tuple(eager), truth, floor)
