"""Residual networks for sides of 16, 32 ... (arXiv:1704.00028, appendix F): batch norm in G, none in the critic."""

from __future__ import annotations

import torch
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, conv_pool2d, up_conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_gan.config import DNorm, FamilyConfig
from ganengine_gan.convolutional import norm


class Up(nn.Module):
    """x -> skip(up(x)) + conv(relu(bn(conv(up(relu(bn(x))))))), twice the side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = BatchNorm2d(channels), BatchNorm2d(channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, 2 H, 2 W]."""
        hidden = up_conv2d(self.conv1, self.norm1(x).relu())
        # A kernel of 1 sees single pixels, so it may stand before the enlargement, on a quarter of them.
        result: Tensor = self.conv2(self.norm2(hidden).relu()) + F.interpolate(self.skip(x), scale_factor=2)
        return result


class Down(nn.Module):
    """x -> skip(x) + pool(conv(relu(norm(conv(relu(norm(x))))))), half the side or the same.

    Args:
        inputs, outputs: channels.
        kind: normalisation.
        halve: pool 2 x 2 to their mean.
        first: x is a picture, which is neither normalised nor cut off at 0.
    """

    def __init__(self, inputs: int, outputs: int, kind: DNorm, *, halve: bool, first: bool = False) -> None:
        super().__init__()
        self.halve = halve
        self.before = nn.Identity() if first else nn.Sequential(*norm(kind, inputs), nn.ReLU())
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.between = nn.Sequential(*([] if first else norm(kind, outputs)), nn.ReLU())
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H / 2, W / 2], or [N, outputs, H, W]."""
        hidden = self.between(self.conv1(self.before(x)))
        if not self.halve:
            return torch.add(self.skip(x), self.conv2(hidden))
        # Means and kernels of 1 change places freely: the skip works on a quarter of the pixels.
        return torch.add(self.skip(F.avg_pool2d(x, 2)), conv_pool2d(self.conv2, hidden))


def networks(config: FamilyConfig, channels: int, side: int) -> tuple[nn.Module, nn.Module]:
    """Return G: 4 x 4 up to the side, a block each; D: halved down to 8 x 8, two blocks there, mean, one unit.

    Raises:
        UserError: a side that is not 16, 32, 64, ...
    """
    levels = side.bit_length() - 3
    if levels < 2 or side != 4 << levels:
        raise UserError(f"resnet: expected a side of 16, 32, 64 ..., got {side}. Use --size 32, say.")
    wide = config.g_filters
    G = nn.Sequential(
        nn.Linear(config.latent, wide * 16), nn.Unflatten(1, (wide, 4, 4)),
        *(Up(wide) for _ in range(levels)),
        BatchNorm2d(wide), nn.ReLU(), nn.Conv2d(wide, channels, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    wide = config.d_filters
    D = nn.Sequential(
        Down(channels, wide, config.d_norm, halve=True, first=True),
        *(Down(wide, wide, config.d_norm, halve=True) for _ in range(levels - 2)),
        *(Down(wide, wide, config.d_norm, halve=False) for _ in range(2)),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 1), nn.Flatten(0),
    )  # fmt: skip
    return G, D
