"""Flattening that hands the gradient back in the memory order of what was flattened."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Flatten(nn.Flatten):
    """As nn.Flatten; the gradient of channels-last features is channels-last.

    Plain flattening gives it in the order of the flat result, and what comes before then works on two orders.

    Gradients: any order.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what nn.Flatten returns."""
        if input.dim() == 4 and input.requires_grad and input.is_contiguous(memory_format=torch.channels_last):
            input = input.view_as(input)  # a hook on the tensor itself would see all of its gradient
            input.register_hook(_channels_last)  # type: ignore[no-untyped-call]
        return super().forward(input)


def _channels_last(grad: Tensor) -> Tensor:
    return grad.contiguous(memory_format=torch.channels_last)
