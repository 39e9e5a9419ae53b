"""DiffAugment: color, translation and cutout on everything that D sees, with gradients to G."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ganengine.augment.augmentation import Augmentation, as_pictures

SHIFT = 1 / 8
"""Largest translation, as a share of the side."""

HOLE = 1 / 2
"""Side of the hole that cutout makes, as a share of the side."""


class DiffAugment(Augmentation):
    """Every picture is changed, by the groups of the policy.

    Paper: arXiv:2006.10738, section 3.2; strengths and rounding are those of the published code.
    """

    groups = ("color", "translation", "cutout")
    numbers = 7

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        for group in self.groups:
            if group in self.policy:
                images = _GROUPS[group](images, draws)
        return images


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Return pictures of other brightness, saturation and contrast, in this order.

        b(x) = x + u - 1/2;  s(x) = m + 2 u (x - m), m: mean of each pixel's channels;
        c(x) = m + (u + 1/2) (x - m), m: mean of the whole picture

    Args:
        images: [N, C, H, W].
        draws: [N, 7]; reads columns 0 to 2.
    """
    b, s, c = draws[:, :3].reshape(-1, 3, 1, 1, 1, 1).unbind(1)
    x = as_pictures(images) + (b - 0.5)
    x = _stretch(x, x.mean(2, keepdim=True), 2 * s)
    x = _stretch(x, x.mean((2, 3, 4), keepdim=True), c + 0.5)
    return x.flatten(1, 2)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Return pictures moved by whole pixels, up to an eighth of each side; what comes in is 0.

    Args:
        images: [N, C, H, W].
        draws: [N, 7]; reads columns 3 and 4, for down and right.
    """
    for axis, u in ((2, draws[:, 3]), (3, draws[:, 4])):
        side = images.shape[axis]
        most = int(side * SHIFT + 0.5)
        moved = (u * (2 * most + 1)).floor().long() - most
        source = torch.arange(side, device=images.device) - moved[:, None]
        shape = [len(images), 1, 1, 1]
        shape[axis] = side
        inside = ((source >= 0) & (source < side)).view(shape)
        index = source.clamp(0, side - 1).view(shape).expand_as(images)
        images = images.gather(axis, index) * inside
    return images


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Return pictures with a hole of 0, half as high and wide; its centre lies anywhere in the picture.

    Args:
        images: [N, C, H, W].
        draws: [N, 7]; reads columns 5 and 6, for row and column of the centre.
    """
    hole = torch.ones((), dtype=torch.bool, device=images.device)
    for axis, u in ((2, draws[:, 5]), (3, draws[:, 6])):
        side = images.shape[axis]
        size = int(side * HOLE + 0.5)
        first = (u * (side + 1 - size % 2)).floor().long() - size // 2
        place = torch.arange(side, device=images.device) - first[:, None]
        shape = [len(images), 1, 1, 1]
        shape[axis] = side
        hole = hole & ((place >= 0) & (place < size)).view(shape)
    return images * ~hole


_GROUPS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}


def _stretch(x: Tensor, middle: Tensor, factor: Tensor) -> Tensor:
    return middle + factor * (x - middle)
