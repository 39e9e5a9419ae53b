"""Instance norm with ReLU over channels-last pictures, as the layers of ganengine.nn have it: no scale, no shift."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.ops import instance_norm

OP = "instance_norm"
SHAPES = ((1, 64, 256, 256), (1, 256, 64, 64), (8, 64, 128, 128), (8, 256, 32, 32))
"""Maps of arXiv:1703.10593's G: its first and its residual blocks at 256 pixels, and at 128."""


def cases() -> list[Case]:
    """Return all cases."""
    return [case(shape, dtype) for shape in SHAPES for dtype in (torch.float32, torch.bfloat16)]


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case((8, 256, 32, 32), torch.float32)]


def case(shape: tuple[int, int, int, int], dtype: torch.dtype) -> Case:
    """Return the case of x [N, C, H, W]."""
    return Case(OP, "ReLU", shape, dtype, "channels_last", partial(_subject, shape, dtype))


def _subject(shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(5)

    def place(t: Tensor) -> Tensor:
        return t.to(device, dtype).contiguous(memory_format=torch.channels_last)

    # |x - mean| is well above 0: no z lies where rounding decides what ReLU does.
    signs = torch.randint(2, shape, generator=draw).mul_(2).sub_(1)
    x = place(torch.rand(shape, generator=draw).mul_(0.5).add_(1.0).mul_(signs)).requires_grad_()
    grad = place(torch.randn(shape, generator=draw))

    def one_call(x: Tensor) -> Tensor:
        return F.instance_norm(x).relu_()

    def by_sample(x: Tensor) -> Tensor:
        each = [F.batch_norm(one, None, None, training=True) for one in torch.split(x, 1)]
        return (torch.cat(each) if len(each) > 1 else each[0]).relu_()

    def by_hand(x: Tensor) -> Tensor:
        wide = x.float()
        centred = wide - wide.mean((2, 3), keepdim=True)
        var = centred.square().mean((2, 3), keepdim=True)
        return (centred * torch.rsqrt(var + 1e-5)).relu_().to(dtype)

    def fused(x: Tensor) -> Tensor:
        ones = x.new_ones(shape[1], dtype=torch.float32)  # made anew, as the layer does
        return instance_norm(x, ones, torch.zeros_like(ones), slope=0.0)

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = x.detach().double().requires_grad_()
        y = F.instance_norm(wide).relu()
        return (y.detach(), *torch.autograd.grad(y, wide, grad.double()))

    # Forward reads x and writes y; backward reads x and grad_y and writes grad_x: 5 passes, a clone being 2.
    plain = x.detach()
    floor = {FORWARD: Floor(plain.clone, 1.0), BOTH: Floor(plain.clone, 2.5)}
    eager = {"instance_norm": one_call, "batch_norm by sample, cat": by_sample, "by hand": by_hand}
    return Subject((x,), grad, fused, eager, ("instance_norm", "by hand"), truth, floor)
