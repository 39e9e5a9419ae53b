"""Normalisation layers that know which statistics hold: in training, and when a trained network is used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import ranks
from ganengine.nn.context import current
from ganengine.ops import dispatch
from ganengine.ops.checks import accumulation_dtype, widened
from ganengine.ops.conditional_batch_norm import (
    OP,
    call_backward,
    call_forward,
    call_statistics,
    reference,
    reference_backward,
    reference_statistics,
)
from ganengine.ops.instance_norm import instance_norm
from ganengine.ops.registration import differentiate, traced


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
LEAST_OF_ONE = 1 << 16
"""The same of instance norm, for one sample; torch's own takes several samples one by one."""


def instance_kernel_pays(x: Tensor) -> bool:
    """Whether the engine's instance norm is there for x and faster than torch's operations are."""
    return (
        (len(x) > 1 or x.numel() >= LEAST_OF_ONE) and dispatch.compiled("instance_norm", x.device.type) and not traced()
    )


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
    count: Tensor
    """Values per channel, 0-d."""


def norm_over_ranks(
    x: Tensor, gamma: Tensor, beta: Tensor, labels: Tensor | None, eps: float, slope: float = 1.0
) -> tuple[Tensor, Shared]:
    """Return what `ganengine.ops.conditional_batch_norm` gives for all ranks' x together, this rank's share of it.

    Forward each rank takes its own mean and variance (one op), they are put together (one message), and the op applies
    them as given. Backward the op gives the gradients with the statistics as constants; how the statistics depend on x
    takes two sums over all ranks (one message), and is one more pass:

        grad_x = rstd_c (gamma_nc gz - (1/M) sum_k (gamma_kc grad_beta_kc + xn gamma_kc grad_gamma_kc))

    k over the rows of the tables, whose gradients are the sums over this rank's samples; the sum is over all ranks'.

    Args:
        x: [N, C, ...], this rank's share.
        gamma, beta, labels: as the op takes them.
        eps: added to the variance.
        slope: of the activation below zero; 1: no activation.

    Gradients: any order, with respect to x, gamma and beta; beyond the first by the formula in plain PyTorch.
    """
    wide = accumulation_dtype(x.dtype)
    y, *found = _NormOverRanks.apply(  # type: ignore[no-untyped-call]
        x, widened(gamma, wide), widened(beta, wide), labels, eps, slope
    )
    return y, Shared(*found)


class _NormOverRanks(torch.autograd.Function):
    """`norm_over_ranks` and what it knows of all ranks' batch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, labels: Tensor | None, eps: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        statistics, apply, _ = _implementation(x)
        mean, var = statistics(x)
        mean, var, count = ranks.pooled(mean, var, _values(x))
        total = count[0] if isinstance(count, Tensor) else mean.new_tensor(count)
        y, _, _ = apply(x, gamma, beta, labels, mean, var, eps, slope)
        ctx.eps, ctx.slope = eps, slope
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, var, total)
        ctx.save_for_backward(x, gamma, beta, labels, mean, var, total)
        return y, mean, var, total

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *others: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 6
        x, gamma, beta, labels, mean, var, total = ctx.saved_tensors
        eps, slope = ctx.eps, ctx.slope
        if torch.is_grad_enabled():

            def formula(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor]:
                m, v = reference_statistics(x)
                m, v, _ = ranks.pooled(m, v, _values(x))
                return (reference(x, gamma, beta, labels, m, v, eps, slope)[0],)

            higher = differentiate(formula, (x, gamma, beta), ctx.needs_input_grad[:3], (grad_y,))
            return (*higher, None, None, None)
        _, apply, backward = _implementation(x)
        grad_x, grad_gamma, grad_beta = backward(grad_y, x, gamma, beta, labels, mean, var, False, eps, slope)
        if ctx.needs_input_grad[0]:
            sums = ranks.summed(torch.stack(((gamma * grad_beta).sum(0), (gamma * grad_gamma).sum(0))))
            # -sums / M rstd and -sums / M rstd^2: as shift and scale of the op that centres x.
            rstd = torch.rsqrt(var + eps)
            shift, scale = (sums * (rstd / -total)).unsqueeze(1).unbind()
            pulled, _, _ = apply(x, scale * rstd, shift, one_class(x), mean, torch.ones_like(var), 0.0, 1.0)
            grad_x.add_(pulled)
        found = (grad_x, grad_gamma, grad_beta)
        needed = (grad if n else None for grad, n in zip(found, ctx.needs_input_grad, strict=False))
        return (*needed, None, None, None)


def _implementation(x: Tensor) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Return what takes statistics, applies them and differentiates: the ops, or the formulas in plain PyTorch."""
    if dispatch.takes_op(OP, x.device.type):
        return call_statistics, call_forward, call_backward
    return reference_statistics, reference, reference_backward


def _values(x: Tensor) -> int:
    return x.shape[0] * math.prod(x.shape[2:])


@torch.no_grad()
def follow(running_mean: Tensor | None, running_var: Tensor | None, shared: Shared, momentum: float) -> None:
    """Move running statistics, where there are any, towards those of a batch; the variance towards the unbiased one."""
    if running_mean is None or running_var is None:
        return
    unbiased = shared.var * (shared.count / (shared.count - 1).clamp(min=1))
    running_mean.lerp_(shared.mean.to(running_mean.dtype), momentum)
    running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def batch_norm_over_ranks(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """Return what one of torch's batch norms gives in training, with the statistics of all ranks.

    Gradients: any order, through the statistics too.
    """
    gamma, beta = rows_of(norm, x)
    # A norm of one class: all samples share the tables' one row.
    y, shared = norm_over_ranks(x, gamma[None], beta[None], one_class(x), norm.eps)
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        # sync: without a momentum the count itself is the weight
        momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        follow(norm.running_mean, norm.running_var, shared, momentum)
    return y


def one_class(x: Tensor) -> Tensor:
    """Return the labels [N] of a norm of one class: 0 of each sample."""
    return torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)


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
