"""Multilayer perceptrons: for pictures seen as vectors, and for points of the plane."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ganengine.nn import Dropout, Maxout
from torch import nn

from ganengine_gan.config import FamilyConfig

Pair = tuple[nn.Module, nn.Module]


def stack(sizes: Sequence[int], hidden: nn.Module) -> list[nn.Module]:
    """Return linear layers of these sizes with `hidden` between them."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        if index:
            layers.append(hidden)
        layers.append(nn.Linear(inputs, outputs))
    return layers


def logit(layers: list[nn.Module]) -> nn.Sequential:
    """Return a D of these layers: samples of any shape -> logits [N]."""
    return nn.Sequential(nn.Flatten(), *layers, nn.Flatten(0))


def painter(layers: list[nn.Module], channels: int, side: int) -> nn.Sequential:
    """Return a G of these layers, the last of channels * side^2 units: z -> pictures in [-1, 1]."""
    return nn.Sequential(*layers, nn.Tanh(), nn.Unflatten(1, (channels, side, side)))


def small(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return one hidden layer each, leaky: with 28 x 28 grey and z 64, 218,128 and 100,609 parameters."""
    pixels = channels * side * side
    G = stack((config.latent, 256, pixels), nn.LeakyReLU(config.g_slope))
    return painter(G, channels, side), logit(stack((pixels, 128, 1), nn.LeakyReLU(0.1)))


def deep(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return three hidden layers each, ReLU: with 28 x 28 grey and z 100, 579,728 and 566,273 parameters."""
    pixels = channels * side * side
    G = stack((config.latent, 128, 256, 512, pixels), nn.ReLU())
    return painter(G, channels, side), logit(stack((pixels, 512, 256, 128, 1), nn.ReLU()))


def maxout(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return the networks of the paper's digits: ReLU in G, maxout 240 x 5 twice in D, with dropout.

    G ends in tanh, which is the paper's sigmoid on [-1, 1]: tanh(v) = 2 sigmoid(2 v) - 1.
    """
    pixels = channels * side * side
    G = stack((config.latent, 1200, 1200, pixels), nn.ReLU())
    D: list[nn.Module] = [
        Dropout(0.2), Maxout(pixels, 240, 5), Dropout(0.5), Maxout(240, 240, 5), Dropout(0.5), nn.Linear(240, 1)
    ]  # fmt: skip
    return painter(G, channels, side), logit(D)


def pictures(config: FamilyConfig, channels: int, side: int) -> Pair:
    """Return the networks for points, for pictures."""
    pixels = channels * side * side
    hidden = [config.toy_units] * 3
    G = stack((config.latent, *hidden, pixels), nn.ReLU())
    return painter(G, channels, side), logit(stack((pixels, *hidden, 1), nn.ReLU()))


def toy(config: FamilyConfig, axes: int) -> Pair:
    """Return three hidden layers each, ReLU, for points (arXiv:1704.00028, published code, with 512 units)."""
    hidden = [config.toy_units] * 3
    G = nn.Sequential(*stack((config.latent, *hidden, axes), nn.ReLU()))
    return G, logit(stack((axes, *hidden, 1), nn.ReLU()))
