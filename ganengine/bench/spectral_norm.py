"""Spectral norm of a layer's weight in a training pass: a step of the power iteration, then the weight over sigma.

Every way starts from the same u in each call; keeping the vectors that it finds, a copy on either side, is left out.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.layout import channels_last
from ganengine.ops import over_next_sigma

OP = "spectral_norm"
SHAPES = ((64, 64, 3, 3), (128, 128, 3, 3), (512, 512, 3, 3), (1024, 512))
"""From a small convolution to one of 9 MiB, and a linear layer."""
EPS = 1e-12


def cases() -> list[Case]:
    """Return all cases."""
    return [case(shape) for shape in SHAPES]


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case(SHAPES[1])]


def case(shape: tuple[int, ...]) -> Case:
    """Return the case of a weight [outputs, inputs], or [outputs, inputs, *kernel] in channels-last memory."""
    kernel = "x".join(map(str, shape[2:]))
    name, layout = (f"conv {kernel}", "channels_last") if kernel else ("linear", "contiguous")
    return Case(OP, name, shape, torch.float32, layout, partial(_subject, shape))


def _subject(shape: tuple[int, ...], device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(9)

    def place(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=draw).to(device)
        return channels_last(drawn) if len(shape) == 4 else drawn

    weight, grad = place(*shape).requires_grad_(), place(*shape)
    start = F.normalize(place(shape[0]), dim=0)

    def formula(weight: Tensor) -> Tensor:
        """As torch.nn.utils.parametrizations has it."""
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(torch.mv(matrix.T, start), dim=0, eps=EPS)
            u = F.normalize(torch.mv(matrix, v), dim=0, eps=EPS)
        return weight / torch.dot(u, torch.mv(matrix, v))

    def by_hand(weight: Tensor) -> Tensor:
        """Return the same with the matrix as it lies, and one product for both u and sigma."""
        matrix = (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).flatten(1)
        with torch.no_grad():
            v = torch.mv(matrix.T, start)
            v = v / torch.linalg.vector_norm(v).clamp(min=EPS)
        product = torch.mv(matrix, v)
        with torch.no_grad():
            u = product / torch.linalg.vector_norm(product).clamp(min=EPS)
        return weight / torch.dot(u, product)

    def fused(weight: Tensor) -> Tensor:
        return over_next_sigma(weight, start, 0, EPS)[0]

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = weight.detach().double().requires_grad_()
        matrix, u = wide.flatten(1), start.double()
        with torch.no_grad():
            v = matrix.T @ u
            v = v / v.norm()
            u = matrix @ v
            u = u / u.norm()
        y = wide / (u @ matrix @ v)
        return (y.detach(), *torch.autograd.grad(y, wide, grad.double()))

    # Forward reads W and writes y; backward reads W and grad_y and writes grad_W: 5 passes, a clone being 2.
    plain = weight.detach()
    floor = {FORWARD: Floor(plain.clone, 1.0), BOTH: Floor(plain.clone, 2.5)}
    eager = {"normalize, mv, dot": formula, "by hand": by_hand}
    return Subject((weight,), grad, fused, eager, tuple(eager), truth, floor)
