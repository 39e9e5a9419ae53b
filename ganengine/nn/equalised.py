"""Layers with an equalised learning rate: weights are kept at N(0, 1) and scaled each time they are used."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F


class EqualisedLinear(nn.Linear):
    """Linear layer y = (c W) x + b with c = gain / sqrt(fan_in); W starts at N(0, 1), b at 0.

    Adam moves every parameter by about the learning rate, however large it is. With all weights at one scale, every
    layer changes equally fast; at the start c W is what He's initialiser draws.

    Args:
        in_features, out_features, bias: as in torch's Linear.
        gain: sqrt 2 before a (leaky) ReLU, 1 for a linear output.

    Gradients: any order.
    Paper: 1710.10196, section 4.1.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, gain: float = math.sqrt(2)) -> None:
        super().__init__(in_features, out_features, bias)
        self.scale = equalise(self, gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class EqualisedConv2d(nn.Conv2d):
    """Convolution with an equalised learning rate; see `EqualisedLinear`. fan_in = input channels * kernel area.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, bias: as in torch's Conv2d, of one group.
        gain: sqrt 2 before a (leaky) ReLU, 1 for a linear output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        *,
        gain: float = math.sqrt(2),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.scale = equalise(self, gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


def equalise(layer: nn.Linear | nn.Conv2d, gain: float) -> float:
    """Draw a layer's weights from N(0, 1), set its biases to 0, and return what to scale the weights by."""
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return gain / math.sqrt(layer.weight[0].numel())
