"""Convolutions with what stands in front of them, as ganengine.nn has them.

What stands in front (an activation, reflection padding) is taken along by the convolution (ganengine.nn.sequential)
where it is one of our own: in bfloat16 on machines with AMX (small layers: with AVX512_BF16), in float32 on those with
AVX2 and no AVX-512. Elsewhere the layers leave all to PyTorch, and are measured as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.layout import channels_last
from ganengine.nn.convolution import Conv2d
from ganengine.nn.padding import ReflectionPad2d
from ganengine.nn.sequential import Sequential
from ganengine.ops.convolution import kernels_pay

OP = "convolution"
DTYPES = (torch.float32, torch.bfloat16)
FRONTS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "": (nn.Identity, lambda x: x),
    "reflect, ": (lambda: ReflectionPad2d(1), partial(F.pad, pad=(1, 1, 1, 1), mode="reflect")),
    "ReLU, ": (nn.ReLU, F.relu),
    "leaky ReLU, ": (lambda: nn.LeakyReLU(0.2), partial(F.leaky_relu, negative_slope=0.2)),
}
"""What stands in front of a convolution: as a layer, and as a function."""


@dataclass(frozen=True)
class Layer:
    """A convolution of x [N, C, H, W] to so many channels, and what stands in front of it."""

    shape: tuple[int, int, int, int, int]
    """N, C, H, W, channels made."""
    front: str = ""
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    """With zeros; 0 behind a reflection, which pads by 1."""


LAYERS = (
    Layer((1, 64, 32, 32, 64), "reflect, ", padding=0),
    Layer((2, 64, 32, 32, 64), "reflect, ", padding=0),
    Layer((64, 64, 16, 16, 64), "ReLU, "),
    Layer((8, 64, 64, 64, 128), "leaky ReLU, ", 4, 2),
    Layer((128, 1, 32, 32, 32)),
)
"""A residual block of arXiv:1703.10593's G with one picture and with two; one of arXiv:1802.05957's D; the second layer
of arXiv:1611.07004's U-Net; the first layer of a D that sees grey pictures."""


def cases() -> list[Case]:
    """Return all cases."""
    return [case(layer, dtype) for dtype in DTYPES for layer in LAYERS]


def quick_cases() -> list[Case]:
    """Return the few for a glance: in the precision that runs take on this machine."""
    return [case(LAYERS[0], torch.bfloat16 if kernels_pay(torch.bfloat16) else torch.float32)]


def case(layer: Layer, dtype: torch.dtype) -> Case:
    """Return the case of a layer that computes in `dtype`."""
    step = f", stride {layer.stride}" if layer.stride > 1 else ""
    name = f"{layer.front}conv {layer.kernel}x{layer.kernel}{step}"
    return Case(OP, name, layer.shape, dtype, "channels_last", partial(_subject, layer, dtype))


def _subject(layer: Layer, dtype: torch.dtype, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(8)
    *size, made = layer.shape
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding
    around = padding or 1
    height, width = ((side + 2 * around - kernel) // stride + 1 for side in size[2:])

    def place(*shape: int) -> Tensor:
        return channels_last(torch.randn(shape, generator=draw).to(device))

    x, grad = place(*size).to(dtype), place(size[0], made, height, width)
    conv = Conv2d(size[1], made, kernel, stride, padding)
    conv.weight = nn.Parameter(place(made, size[1], kernel, kernel))
    conv.bias = nn.Parameter(torch.randn(made, generator=draw).to(device))
    before, front = FRONTS[layer.front]
    ours = Sequential(nn.Identity(), before(), conv)  # an activation that comes first is not taken along
    inputs = (x.requires_grad_(), conv.weight, conv.bias)

    def computing() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taken = front(x)  # outside: autocast on the CPU would pad in float32
        with computing():
            return F.conv2d(taken, weight, bias, stride, padding)

    def fused(x: Tensor, *_: Tensor) -> Tensor:
        with computing():
            y: Tensor = ours(x)
            return y

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = tuple(t.detach().double().requires_grad_() for t in inputs)
        y = F.conv2d(front(wide[0]), wide[1], wide[2], stride, padding)
        return (y.detach(), *torch.autograd.grad(y, wide, grad.double()))

    # The layer, its data gradient and its weight gradient are as many multiplications each.
    rows = torch.randn(size[0] * height * width, size[1] * kernel * kernel, generator=draw).to(device, dtype)
    matrix = conv.weight.detach().to(dtype).flatten(1)

    def product() -> Tensor:
        return F.linear(rows, matrix)

    floor = {FORWARD: Floor(product, 1.0), BOTH: Floor(product, 3.0)}
    form = f"{layer.front}conv2d".replace("reflect", "pad")
    return Subject(inputs, grad, fused, {form: eager}, (form,), truth, floor)
