"""Normalisation layers that know which statistics hold when a trained network is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn.context import current


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation; in eval mode with a sample's own statistics or the running ones, as the context says.

    y = (x - mean) / sqrt(var + eps) * weight + bias, statistics over (N, H, W) in training. With
    `Context.statistics == "own"` in eval mode they are taken over (H, W) of each sample: batch statistics at test
    time (arXiv:1611.07004, section 3.3) for a batch of one, so that no picture depends on its batch mates.
    Outside a context, and with "running", it is torch's BatchNorm2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        context = current()
        if self.training or context is None or context.statistics == "running":
            return super().forward(x)
        if x.shape[-1] * x.shape[-2] == 1:
            # One value has no statistics of its own: it would always normalise to the bias.
            return super().forward(x)
        return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation over (H, W) of each sample and channel; a map of one value passes unchanged.

    In channels-last memory it is computed as batch norm of each sample by itself, which is the same and, unlike
    torch's instance norm, does not copy to the other layout and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] * x.shape[-2] == 1:
            return x
        if self.running_mean is not None and not self.track_running_stats:
            # Held: torch's own would update the running statistics all the same.
            return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if self.track_running_stats or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        samples = [
            F.batch_norm(one, None, None, self.weight, self.bias, True, 0.0, self.eps) for one in torch.split(x, 1)
        ]
        return torch.cat(samples) if len(samples) != 1 else samples[0]
