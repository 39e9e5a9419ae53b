"""A whole Maxout layer, product and all, with ReLU and dropout 0.5, against the bare linear layer of its size."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.ops import maxout

OP = "maxout"
LAYERS = ((784, 240, 5), (290, 240, 4), (10, 50, 5))
"""Inputs, units, pieces: the image, joint and label layers of the conditional GAN's discriminator (arXiv:1411.1784)."""
BATCHES = (64, 256)
DROPOUT = 0.5
SEED = 11


def cases() -> list[Case]:
    """Return all cases."""
    return [
        case(n, *layer, dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for layer in LAYERS
        for n in BATCHES
    ]  # fmt: skip


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case(64, 784, 240, 5, torch.float32)]


def case(n: int, inputs: int, units: int, pieces: int, dtype: torch.dtype) -> Case:
    """Return the case of a layer; its shape is [batch, inputs, units, pieces]."""
    name = f"layer {inputs} -> {units}x{pieces}"
    shape = (n, inputs, units, pieces)
    return Case(OP, name, shape, dtype, "contiguous", partial(_subject, n, inputs, units, pieces, dtype))


def _subject(n: int, features: int, units: int, pieces: int, dtype: torch.dtype, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(n, features, generator=draw)
    weight = torch.randn(pieces * units, features, generator=draw) * (0.3 / features**0.5)
    # Biases far apart, in another order for each unit: no two pieces, and no piece and 0, lie so near each other that
    # rounding decides which wins.
    order = torch.rand(pieces, units, generator=draw).argsort(0)
    bias = (4.0 * order - 6.0).flatten()
    inputs = tuple(t.to(device, dtype).requires_grad_() for t in (x, weight, bias))
    grad = torch.randn(n, units, generator=draw).to(device, dtype)
    grad_h = torch.randn(n, pieces * units, generator=draw).to(device, dtype)

    def drop(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.dropout(F.linear(x, weight, bias), DROPOUT).view(n, pieces, units)

    def relu_first(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.dropout(F.linear(x, weight, bias).relu_(), DROPOUT).view(n, pieces, units).amax(1)

    # ReLU commutes with the rest, and behind the maximum it has a fraction of the work.
    def amax(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return drop(x, weight, bias).amax(1).relu()

    def maximum(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return drop(x, weight, bias).max(1).values.relu_()

    def fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return maxout(F.linear(x, weight), bias, pieces, activation="relu", dropout=DROPOUT, seed=SEED)

    def truth(result: Tensor) -> tuple[Tensor, ...]:
        wide = tuple(t.detach().double().requires_grad_() for t in inputs)
        kept = F.linear(*wide).view(n, pieces, units).relu() / (1 - DROPOUT)
        choices = torch.cat((torch.zeros_like(kept[:, :1]), kept), 1)  # 0: all pieces dropped or clipped
        won = (choices.detach() - result.detach().double().unsqueeze(1)).abs().argmin(1, keepdim=True)
        y = choices.gather(1, won).squeeze(1)
        return (y.detach(), *torch.autograd.grad(y, wide, grad.double()))

    def linear() -> Tensor:
        return F.linear(*inputs)

    def linear_both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.linear(*inputs), inputs, grad_h)

    floor = {FORWARD: Floor(linear), BOTH: Floor(linear_both)}
    eager = {"ReLU, dropout, amax": relu_first, "dropout, amax, ReLU": amax, "dropout, max, ReLU": maximum}
    return Subject(inputs, grad, fused, eager, ("dropout, max, ReLU",), truth, floor, chance=True)
