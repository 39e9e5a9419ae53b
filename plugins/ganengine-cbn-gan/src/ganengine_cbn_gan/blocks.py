"""Residual blocks of both networks, and attention over positions."""

from __future__ import annotations

import torch
from ganengine.nn import ConditionalBatchNorm2d, conv_pool2d, preact_conv2d, up_conv2d
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 2e-5
"""Added to the variance in norms (published code of 1802.05957)."""


def conditional_norm(channels: int, conditions: int, spread: float | None) -> ConditionalBatchNorm2d:
    """Return a conditional batch norm with its ReLU.

    Args:
        channels: C.
        conditions: classes, or numbers in a condition.
        spread: scales of the classes start as N(1, spread^2), shifts as N(0, spread^2). None: conditions are vectors
            (1, c), with scale 1 + W c and shift V c; W and V start orthogonal.
    """
    norm = ConditionalBatchNorm2d(channels, conditions, eps=EPS, activation="relu")
    draw = torch.default_generator
    if spread is None:
        for table in (norm.gamma, norm.beta):
            nn.init.orthogonal_(table.data[1:], generator=draw)
    else:
        nn.init.normal_(norm.gamma, 1.0, spread, draw)
        nn.init.normal_(norm.beta, 0.0, spread, draw)
    return norm


class UpBlock(nn.Module):
    """Residual block that doubles the side: [cBN, ReLU, up2, C3, cBN, ReLU, C3] + [up2, C1].

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        conditions: classes, or numbers in a condition, of the norms.
        spread: of the norms' start, as in `conditional_norm`.

    Paper: 1802.05957, appendix B.
    """

    def __init__(self, inputs: int, outputs: int, conditions: int, spread: float | None) -> None:
        super().__init__()
        self.norm1 = conditional_norm(inputs, conditions, spread)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)  # the norm that follows takes a bias away
        self.norm2 = conditional_norm(outputs, conditions, spread)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return [N, outputs, 2 H, 2 W] for x [N, inputs, H, W] and labels [N] or weights [N, conditions]."""
        h = up_conv2d(self.conv1, self.norm1(x, y))
        # A convolution of one pixel and the repetition of pixels commute; this order computes a quarter.
        result: Tensor = self.conv2(self.norm2(h, y)) + up(self.skip(x))
        return result


class DownBlock(nn.Module):
    """Residual block of D: [ReLU, C3, ReLU, C3, mean of 2 x 2] + [C1, mean of 2 x 2].

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        down: halve the side; else nothing is averaged, and x passes by as it is where the channels agree.
        first: leave out the first ReLU, as x is a picture.

    Paper: 1802.05957, appendix B.
    """

    def __init__(self, inputs: int, outputs: int, *, down: bool = True, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H / 2, W / 2] or [N, outputs, H, W] for x [N, inputs, H, W]."""
        h = preact_conv2d(self.conv1, x, 1.0 if self.first else 0.0)
        h = conv_pool2d(self.conv2, h, 0.0) if self.down else preact_conv2d(self.conv2, h)
        result: Tensor = h + self.skip(F.avg_pool2d(x, 2) if self.down else x)
        return result


class SelfAttention(nn.Module):
    """x + gamma_s v(sum_i softmax_i(f(x_i)^T g(x_j)) h(x_i)): each position j reads from all others.

    f, g, h are convolutions of one pixel to an eighth of the channels, v is one back; gamma_s starts at 0.

    Args:
        channels: of x.

    Paper: 1805.08318, section 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.f, self.g, self.h = (nn.Conv2d(channels, inner, 1, bias=False) for _ in range(3))
        self.v = nn.Conv2d(inner, channels, 1, bias=False)
        self.gamma_s = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return like x [N, C, H, W]."""
        f, g, h = (layer(x).flatten(2) for layer in (self.f, self.g, self.h))
        # Written out: the fused attention of torch has no second derivative, which penalties on gradients need.
        read = h @ (f.transpose(1, 2) @ g).softmax(1)
        result: Tensor = x + self.gamma_s * self.v(read.unflatten(2, x.shape[2:]))
        return result


def up(x: Tensor) -> Tensor:
    """Repeat each pixel 2 x 2."""
    return F.interpolate(x, scale_factor=2)
