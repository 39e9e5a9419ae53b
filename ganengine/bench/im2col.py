"""A strided 5 x 5 convolution over small maps, as the layer of ganengine.nn has it: products with patches (im2col).

The layer decides by dtype and sizes which of its three parts (values, data gradient, weight gradient) become products
(ganengine.nn.convolution); what it leaves to PyTorch is measured as it is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.nn.convolution import Conv2d

OP = "im2col"
KERNEL, STRIDE, PADDING = 5, 2, 2
SHAPES = ((64, 256, 8, 8, 512), (8, 256, 8, 8, 512), (64, 512, 4, 4, 1024))
"""Pictures, channels, sides, channels made: the last layer of a D that mirrors arXiv:1511.06434's G at 64 pixels, in a
large and a small batch, then one further down."""
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def cases() -> list[Case]:
    """Return all cases."""
    return [
        case(layer, dtype, layout)
        for layer in SHAPES
        for dtype in (torch.float32, torch.bfloat16)
        for layout in FORMATS
    ]  # fmt: skip


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case((8, 256, 8, 8, 512), torch.float32, "channels_last")]


def case(layer: tuple[int, int, int, int, int], dtype: torch.dtype, layout: str) -> Case:
    """Return the case of x [N, C, H, W] and a layer to so many channels."""
    name = f"conv {KERNEL}x{KERNEL}, stride {STRIDE}"
    return Case(OP, name, layer, dtype, layout, partial(_subject, layer, dtype, layout))


def _subject(
    layer: tuple[int, int, int, int, int], dtype: torch.dtype, layout: str, device: torch.device
) -> Subject:  # fmt: skip
    draw = torch.Generator().manual_seed(6)
    *size, made = layer
    height, width = ((side + 2 * PADDING - KERNEL) // STRIDE + 1 for side in size[2:])

    def place(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).to(device).contiguous(memory_format=FORMATS[layout])

    x = place(*size).to(dtype)
    weight, bias = place(made, size[1], KERNEL, KERNEL), torch.randn(made, generator=draw).to(device)
    grad = place(size[0], made, height, width)
    ours = Conv2d(size[1], made, KERNEL, STRIDE, PADDING)
    ours.weight, ours.bias = nn.Parameter(weight), nn.Parameter(bias)
    inputs = (x.requires_grad_(), ours.weight, ours.bias)

    def precision() -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

    def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with precision():
            return F.conv2d(x, weight, bias, STRIDE, PADDING)

    def unfolded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with precision():
            patches = F.unfold(x, KERNEL, padding=PADDING, stride=STRIDE)  # [N, C K K, places]
            y = F.linear(patches.transpose(1, 2), weight.flatten(1), bias)
            return y.transpose(1, 2).view(size[0], made, height, width)

    def fused(x: Tensor, *_: Tensor) -> Tensor:
        with precision():
            y: Tensor = ours(x)
            return y

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = tuple(t.detach().double().requires_grad_() for t in inputs)
        y = F.conv2d(wide[0], wide[1], wide[2], STRIDE, PADDING)
        return (y.detach(), *torch.autograd.grad(y, wide, grad.double()))

    # The layer, its data gradient and its weight gradient are as many multiplications each.
    rows = torch.randn(size[0] * height * width, size[1] * KERNEL * KERNEL, generator=draw).to(device, dtype)
    matrix = weight.to(dtype).flatten(1)

    def product() -> Tensor:
        return F.linear(rows, matrix)

    floor = {FORWARD: Floor(product, 1.0), BOTH: Floor(product, 3.0)}
    return Subject(inputs, grad, fused, {"conv2d": conv, "unfold, linear": unfolded}, ("conv2d",), truth, floor)
