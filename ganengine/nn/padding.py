"""Reflection padding in the precision of what is padded."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ReflectionPad2d(nn.ReflectionPad2d):
    """As nn.ReflectionPad2d; under autocast on the CPU bfloat16 stays bfloat16.

    Autocast would pad in float32 there: two casts for each padding, and two more on the way back.

    Gradients: any order.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what nn.ReflectionPad2d returns."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)
