"""Normalisation layers that know which statistics hold: in training, and when a trained network is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import ranks
from ganengine.nn.context import current
from ganengine.ops.checks import accumulation_dtype, widened
from ganengine.ops.conditional_batch_norm import statistics
from ganengine.ops.dispatch import compiled
from ganengine.ops.instance_norm import instance_norm
from ganengine.ops.registration import traced


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation; in eval mode with a sample's own statistics or the running ones, as the context says.

    y = (x - mean) / sqrt(var + eps) * weight + bias, statistics over (N, H, W) in training, of all ranks together. With
    `Context.statistics == "own"` in eval mode they are taken over (H, W) of each sample: batch statistics at test
    time (arXiv:1611.07004, section 3.3) for a batch of one, so that no picture depends on its batch mates.
    Outside a context, and with "running", it is torch's BatchNorm2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x) if ranks.world() == 1 else batch_norm_over_ranks(self, x)
        context = current()
        if context is None or context.statistics == "running":
            return super().forward(x)
        if x.shape[-1] * x.shape[-2] == 1:
            # One value has no statistics of its own: it would always normalise to the bias.
            return super().forward(x)
        return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation over (H, W) of each sample and channel; a map of one value passes unchanged.

    In channels-last memory it is computed by the engine's own kernel, or as batch norm of each sample by itself; both
    are the same and, unlike torch's instance norm, do not copy to the other layout and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] * x.shape[-2] == 1:
            return x
        if self.running_mean is not None and not self.track_running_stats:
            # Held: torch's own would update the running statistics all the same.
            return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if self.track_running_stats or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        if instance_kernel_pays(x):
            return instance_norm(x, *rows_of(self, x), self.eps)
        samples = [
            F.batch_norm(one, None, None, self.weight, self.bias, True, 0.0, self.eps) for one in torch.split(x, 1)
        ]
        return torch.cat(samples) if len(samples) != 1 else samples[0]


LEAST_ELEMENTS = 1 << 18
"""From here on a kernel of ours is faster than torch's batch norm, in spite of what a call from Python costs."""


def instance_kernel_pays(x: Tensor) -> bool:
    """Whether the engine's instance norm is there for x and faster than torch's operations are."""
    return (len(x) > 1 or x.numel() >= LEAST_ELEMENTS) and compiled("instance_norm", x.device.type) and not traced()


def rows_of(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a norm's scale and shift [C]; 1 and 0 where it has none."""
    if norm.weight is not None:
        return norm.weight, norm.bias  # type: ignore[return-value]
    ones = x.new_ones(x.shape[1], dtype=accumulation_dtype(x.dtype))
    return ones, torch.zeros_like(ones)


# ----------------------------------------------------------------------------------------------------------------
# Statistics over ranks


@dataclass(frozen=True)
class Shared:
    """Statistics [C] of all ranks' batch, as constants."""

    mean: Tensor
    var: Tensor
    """Biased."""
    count: float | Tensor
    """Values per channel."""


def over_ranks(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Shared, Tensor, Tensor]:
    """Return the statistics of all ranks' x, and the scale and shift that carry their gradients.

    With m0 and v0 the values of mean m and variance v as constants, and r = 1 / sqrt(v + eps),

        gamma (x - m) r + beta = gamma' (x - m0) r0 + beta'
        gamma' = gamma r / r0,   beta' = beta + gamma' r0 (m0 - m)

    holds in values and in every derivative. So a kernel that takes its statistics as given does all but the sums.

    Args:
        x: [N, C, ...], this rank's share.
        gamma, beta: [..., C].
        eps: added to the variance.

    Gradients: any order, with respect to x, gamma and beta.
    """
    wide = accumulation_dtype(x.dtype)
    count = x.shape[0] * math.prod(x.shape[2:])
    mean, var = statistics(widened(x.reshape(x.shape[0], x.shape[1], -1 if count else 0), wide))
    mean, var, total = ranks.pooled(mean, var, count)
    shared = Shared(mean.detach(), var.detach(), total[0].detach() if isinstance(total, Tensor) else total)
    rstd = torch.rsqrt(shared.var + eps)
    scale = widened(gamma, wide) * (torch.rsqrt(var + eps) / rstd)
    return shared, scale, widened(beta, wide) + scale * rstd * (shared.mean - mean)


@torch.no_grad()
def follow(running_mean: Tensor | None, running_var: Tensor | None, shared: Shared, momentum: float) -> None:
    """Move running statistics, where there are any, towards those of a batch; the variance towards the unbiased one."""
    if running_mean is None or running_var is None:
        return
    unbiased = shared.var * (shared.count / (shared.count - 1 if shared.count > 1 else 1))
    running_mean.lerp_(shared.mean.to(running_mean.dtype), momentum)
    running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def batch_norm_over_ranks(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """Return what one of torch's batch norms gives in training, with the statistics of all ranks.

    Gradients: any order, through the statistics too.
    """
    ones = x.new_ones(norm.num_features, dtype=accumulation_dtype(x.dtype))
    given = (ones, ones - 1) if norm.weight is None else (norm.weight, norm.bias)
    shared, gamma, beta = over_ranks(x, *given, norm.eps)
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        # sync: without a momentum the count itself is the weight
        momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        follow(norm.running_mean, norm.running_var, shared, momentum)
    return F.batch_norm(x, shared.mean, shared.var, gamma, beta, False, 0.0, norm.eps)


def share_statistics(network: nn.Module) -> None:
    """Have torch's own batch norms in a network use the statistics of all ranks, as those of this module do."""
    for module in network.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            # Bound to the module, so that a copy of the network gets its own.
            module.forward = MethodType(_forward_over_ranks, module)


def _forward_over_ranks(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    if norm.training:
        return batch_norm_over_ranks(norm, x)
    plain: Tensor = type(norm).forward(norm, x)
    return plain
