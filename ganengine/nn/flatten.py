"""Flattening and its inverse that keep features, and gradients of features, in channels-last memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganengine.nn.tracing import leaf_module
from ganengine.ops.registration import traced


class Flatten(nn.Flatten):
    """As nn.Flatten; the gradient of channels-last features is channels-last.

    Plain flattening gives it in the order of the flat result, and what comes before then works on two orders.

    Gradients: any order.
    """

    @leaf_module
    def forward(self, input: Tensor) -> Tensor:
        """Return what nn.Flatten returns."""
        wanted = input.dim() == 4 and input.requires_grad and not traced()
        if wanted and input.is_contiguous(memory_format=torch.channels_last):
            input = input.view_as(input)  # a hook on the tensor itself would see all of its gradient
            input.register_hook(_channels_last)  # type: ignore[no-untyped-call]
        return super().forward(input)


PICTURE = 4
"""What has so many channels at most is a picture, the end of a network: its memory order stays as it is."""


class Unflatten(nn.Unflatten):
    """As nn.Unflatten; features of more than four channels come channels-last.

    Plain unflattening gives them contiguous, and all layers up to the first convolution work in that order.

    Gradients: any order.
    """

    @leaf_module
    def forward(self, input: Tensor) -> Tensor:
        """Return what nn.Unflatten returns."""
        features = super().forward(input)
        if features.dim() != 4 or features.shape[1] <= PICTURE:
            return features
        return features.contiguous(memory_format=torch.channels_last)


def _channels_last(grad: Tensor) -> Tensor:
    return grad.contiguous(memory_format=torch.channels_last)
