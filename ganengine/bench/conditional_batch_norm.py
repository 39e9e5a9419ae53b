"""Conditional batch norm with ReLU in training: class tables of ten, running statistics moved along."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.ops import conditional_batch_norm

OP = "conditional_batch_norm"
CLASSES = 10
SHAPES = ((64, 256, 32, 32), (64, 512, 8, 8), (64, 64, 64, 64), (16, 1024, 4, 4))
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def cases() -> list[Case]:
    """Return all cases."""
    return [
        case(shape, dtype, layout)
        for shape in SHAPES
        for dtype in (torch.float32, torch.bfloat16)
        for layout in FORMATS
    ]  # fmt: skip


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case((64, 512, 8, 8), torch.float32, "contiguous")]


def case(shape: tuple[int, int, int, int], dtype: torch.dtype, layout: str) -> Case:
    """Return the case of x [N, C, H, W]."""
    return Case(OP, "ReLU, training", shape, dtype, layout, partial(_subject, shape, dtype, layout))


def _subject(shape: tuple[int, int, int, int], dtype: torch.dtype, layout: str, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(1)
    n, c = shape[:2]

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.rand(size, generator=draw) * (high - low) + low

    def place(t: Tensor) -> Tensor:
        return t.to(device, dtype).contiguous(memory_format=FORMATS[layout])

    # |x - mean| is well above 0 and |beta| below gamma times that: no z lies where rounding decides what ReLU does.
    x = place(uniform(1.0, 1.5, *shape).mul_(torch.randint(2, shape, generator=draw).mul_(2).sub_(1)))
    gamma, beta = uniform(1.0, 1.5, CLASSES, c).to(device), uniform(-0.3, 0.3, CLASSES, c).to(device)
    labels = torch.randint(CLASSES, (n,), generator=draw).to(device)
    grad = place(torch.randn(shape, generator=draw))
    inputs = tuple(t.requires_grad_() for t in (x, gamma, beta))

    def running() -> tuple[Tensor, Tensor]:
        return torch.zeros(c, device=device), torch.ones(c, device=device)

    def rows(table: Tensor) -> Tensor:
        return F.embedding(labels, table).to(dtype)[:, :, None, None]

    eager_mean, eager_var = running()

    def multiply_add(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        h = F.batch_norm(x, eager_mean, eager_var, training=True)
        return (h * rows(gamma)).add_(rows(beta)).relu_()

    def addcmul(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        h = F.batch_norm(x, eager_mean, eager_var, training=True)
        return torch.addcmul(rows(beta), h, rows(gamma)).relu_()

    hand_mean, hand_var = running()
    count = x.numel() // c

    # torch.compile makes better code of this than of F.batch_norm.
    def by_hand(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        wide = x.float()
        mean = wide.mean((2, 3)).mean(0)
        centred = wide - mean[:, None, None]
        var = centred.square().mean((2, 3)).mean(0)
        with torch.no_grad():
            hand_mean.lerp_(mean, 0.1)
            hand_var.lerp_(var * (count / (count - 1)), 0.1)
        scale = F.embedding(labels, gamma) * torch.rsqrt(var + 1e-5)
        shift = F.embedding(labels, beta)
        return torch.addcmul(shift[:, :, None, None], centred, scale[:, :, None, None]).relu_().to(dtype)

    fused_mean, fused_var = running()

    def fused(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return conditional_batch_norm(
            x, gamma, beta, labels, running_mean=fused_mean, running_var=fused_var, activation="relu"
        )

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = tuple(t.detach().double().requires_grad_() for t in inputs)
        h = F.batch_norm(wide[0], None, None, training=True)
        y = (h * wide[1][labels][:, :, None, None] + wide[2][labels][:, :, None, None]).relu()
        return (y.detach(), *torch.autograd.grad(y, wide, grad.double()))

    # Forward reads x and writes y; backward reads x and grad_y and writes grad_x: 5 passes, a clone being 2.
    plain = x.detach()
    floor = {FORWARD: Floor(plain.clone, 1.0), BOTH: Floor(plain.clone, 2.5)}
    eager = {"batch_norm, multiply, add": multiply_add, "batch_norm, addcmul": addcmul, "by hand": by_hand}
    return Subject(inputs, grad, fused, eager, ("batch_norm, multiply, add", "by hand"), truth, floor)
