"""Convolutional networks after DCGAN's rules (arXiv:1511.06434, section 3).

Strided and transposed convolutions instead of pooling, batch norm in both networks but not in G's output or D's input
layer, no hidden fully connected layers, ReLU and tanh in G, leaky ReLU in D.
"""

from __future__ import annotations

from itertools import pairwise

from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, Dropout
from torch import nn

from ganengine_gan.config import DNorm, FamilyConfig

Pair = tuple[nn.Module, nn.Module]


def norm(kind: DNorm, channels: int) -> list[nn.Module]:
    """Return D's normalisation; layer norm is over (C, H, W) of a sample, with a gain and a shift for each channel."""
    if kind == "batch":
        return [BatchNorm2d(channels)]
    return [nn.GroupNorm(1, channels)] if kind == "layer" else []


def begin(latent: int, channels: int, side: int) -> list[nn.Module]:
    """Return G's first layers: z -> [N, channels, side, side]."""
    return [
        nn.Linear(latent, channels * side * side, bias=False),
        nn.Unflatten(1, (channels, side, side)),
        BatchNorm2d(channels),
        nn.ReLU(),
    ]


def small(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return two strided layers each, for digits: sides that are multiples of 4.

    Raises:
        UserError: another side.
    """
    if side % 4:
        raise UserError(f"conv-small: expected a side that is a multiple of 4, got {side}. Use --size {side // 4 * 4}.")
    wide, narrow = config.g_filters, max(1, config.g_filters // 2)
    G = nn.Sequential(
        *begin(config.latent, wide, side // 4),
        nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), BatchNorm2d(narrow), nn.ReLU(),
        nn.ConvTranspose2d(narrow, channels, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    narrow, wide = max(1, config.d_filters // 2), config.d_filters
    D = nn.Sequential(
        nn.Conv2d(channels, narrow, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, wide, 4, 2, 1, bias=config.d_norm == "none"), *norm(config.d_norm, wide), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(wide * (side // 4) ** 2, 1), nn.Flatten(0),
    )  # fmt: skip
    return G, D


def strided(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return the paper's networks (figure 1): 4 x 4 up to the side by kernels of 5 and strides of 2, D the mirror.

    Raises:
        UserError: a side that is not 8, 16, 32, 64, ...
    """
    levels = side.bit_length() - 3
    if levels < 1 or side != 4 << levels:
        raise UserError(f"conv: expected a side of 8, 16, 32, 64 ..., got {side}. Use --size 32, say.")
    widths = [config.g_filters << level for level in reversed(range(levels))]
    G = begin(config.latent, widths[0], 4)
    for wide, narrow in pairwise(widths):
        G += [nn.ConvTranspose2d(wide, narrow, 5, 2, 2, 1, bias=False), BatchNorm2d(narrow), nn.ReLU()]
    G += [nn.ConvTranspose2d(widths[-1], channels, 5, 2, 2, 1), nn.Tanh()]
    widths = [config.d_filters << level for level in range(levels)]
    D: list[nn.Module] = [nn.Conv2d(channels, widths[0], 5, 2, 2), nn.LeakyReLU(0.2)]
    for narrow, wide in pairwise(widths):
        D += [nn.Conv2d(narrow, wide, 5, 2, 2, bias=config.d_norm == "none"), *norm(config.d_norm, wide)]
        D += [nn.LeakyReLU(0.2)]
    D += [nn.Flatten(), nn.Linear(widths[-1] * 16, 1), nn.Flatten(0)]
    return nn.Sequential(*G), nn.Sequential(*D)


def scenes(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return the networks of LSGAN's scenes (arXiv:1611.04076, figure 4): 7 x 7 up to 112 x 112 by kernels of 3.

    Each of the first two enlargements is followed by a layer of the same side. D halves with kernels of 5.

    Raises:
        UserError: a side that is not a multiple of 16.
    """
    if side % 16:
        raise UserError(f"conv-scenes: expected a side that is a multiple of 16, got {side}. Use --size 112.")
    wide = 2 * config.g_filters
    G = begin(config.latent, wide, side // 16)
    inputs = wide
    for outputs, stride in ((wide, 2), (wide, 1), (wide, 2), (wide, 1), (wide // 2, 2), (max(1, wide // 4), 2)):
        G += [nn.ConvTranspose2d(inputs, outputs, 3, stride, 1, stride - 1, bias=False), BatchNorm2d(outputs)]
        G += [nn.ReLU()]
        inputs = outputs
    G += [nn.ConvTranspose2d(inputs, channels, 3, 1, 1), nn.Tanh()]
    base = max(1, config.d_filters // 2)
    D: list[nn.Module] = [nn.Conv2d(channels, base, 5, 2, 2), nn.LeakyReLU(0.2)]
    for narrow in (base, 2 * base, 4 * base):
        D += [nn.Conv2d(narrow, 2 * narrow, 5, 2, 2, bias=config.d_norm == "none"), *norm(config.d_norm, 2 * narrow)]
        D += [nn.LeakyReLU(0.2)]
    D += [nn.Flatten(), nn.Linear(8 * base * (side // 16) ** 2, 1), nn.Flatten(0)]
    return nn.Sequential(*G), nn.Sequential(*D)


def upsampling(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return networks for faces of 96 x 96: G enlarges by repeated pixels and convolves, D has dropout.

    Raises:
        UserError: a side that is not a multiple of 24.
    """
    if side % 24:
        raise UserError(f"conv-upsampling: expected a side that is a multiple of 24, got {side}. Use --size 96.")
    wide, narrow = 2 * config.g_filters, config.g_filters
    first = side // 24
    G: list[nn.Module] = [
        nn.Linear(config.latent, wide * first * first), nn.Unflatten(1, (wide, first, first)), nn.ReLU()
    ]  # fmt: skip
    for inputs, outputs, factor in ((wide, wide, 2), (wide, wide, 2), (wide, narrow, 2), (narrow, narrow, 3)):
        G += [nn.Upsample(scale_factor=factor), nn.Conv2d(inputs, outputs, 3, padding=1)]
        G += [BatchNorm2d(outputs, momentum=0.2), nn.ReLU()]
    G += [nn.Conv2d(narrow, channels, 3, padding=1), nn.Tanh()]
    base = max(1, config.d_filters // 4)
    D: list[nn.Module] = []
    for index, stride in enumerate((2, 2, 2, 1, 1)):
        inputs = channels if index == 0 else base << (index - 1)
        D.append(nn.Conv2d(inputs, base << index, 3, stride, 1))
        D += norm(config.d_norm, base << index) if index else []
        D += [nn.LeakyReLU(0.2), Dropout(0.25)]
    D += [nn.Flatten(), nn.Linear((base << 4) * (side // 8) ** 2, 1), nn.Flatten(0)]
    return nn.Sequential(*G), nn.Sequential(*D)
