"""Padding: by reflection in the precision of what is padded, and of pictures to sides that a network takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn.tracing import leaf, leaf_module
from ganengine.ops.registration import taken_elsewhere


class ReflectionPad2d(nn.ReflectionPad2d):
    """As nn.ReflectionPad2d; under autocast on the CPU bfloat16 stays bfloat16.

    Autocast would pad in float32 there: two casts for each padding, and two more on the way back.

    Gradients: any order.
    """

    @leaf_module
    def forward(self, input: Tensor) -> Tensor:
        """Return what nn.ReflectionPad2d returns."""
        if not torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)


@leaf
def pad_to_multiple(x: Tensor, multiple: int, minimum: int = 1) -> Tensor:
    """Return pictures whose sides are the next multiples, by repeating the last row and column; see `crop_like`.

    A network that begins with the one and ends with the other takes pictures of any size, also after it was traced or
    exported.

    Args:
        x: [N, C, H, W].
        multiple: both sides of the result are multiples of this ...
        minimum: ... and those of x are taken to be at least this.
    """
    height, width = (-(-_larger(side, minimum) // multiple) * multiple for side in x.shape[2:])
    if taken_elsewhere():
        return _taken(x, height, width)
    if (height, width) == x.shape[2:]:
        return x
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), mode="replicate")


@leaf
def crop_like(made: Tensor, x: Tensor) -> Tensor:
    """Return the upper left part of `made` [N, C', H', W'] that is as large as x [N, C, H, W]."""
    if taken_elsewhere():
        return _taken(made, x.shape[2], x.shape[3])
    return made if made.shape[2:] == x.shape[2:] else made[..., : x.shape[2], : x.shape[3]]


def _taken(x: Tensor, height: int, width: int) -> Tensor:
    """Return so many rows and columns, the last ones again and again where x has fewer.

    By indices and without a branch, so that what is traced at one size holds for all: views of a part, and torch's own
    padding, are exported for some sizes alone.
    """
    rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
    return x.index_select(2, rows.clamp(max=x.shape[2] - 1)).index_select(3, columns.clamp(max=x.shape[3] - 1))


def _larger(side: int, least: int) -> int:
    """Return the larger one, by arithmetic that torch.jit traces; of a comparison it keeps the answer of the moment."""
    return (side + least + abs(side - least)) // 2
