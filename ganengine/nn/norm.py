"""Normalisation layers that know which statistics hold: in training, and when a trained network is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import ranks
from ganengine.nn.context import current
from ganengine.nn.tracing import leaf_module
from ganengine.ops import dispatch
from ganengine.ops.checks import accumulation_dtype, widened
from ganengine.ops.conditional_batch_norm import (
    OP,
    call_forward,
    call_input,
    call_pooled,
    call_statistics,
    call_sums,
    memory_format,
    move,
    one_class,
    reference,
    reference_input,
    reference_pooled,
    reference_statistics,
    reference_sums,
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

    @leaf_module
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
    are the same and, unlike torch's instance norm, do not copy to the other layout and back. Who traces or exports it
    gets torch's, for batches of any size.
    """

    @leaf_module
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] * x.shape[-2] == 1:
            return x
        if self.running_mean is not None and not self.track_running_stats:
            # Held: torch's own would update the running statistics all the same.
            return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if self.track_running_stats or traced() or memory_format(x) != torch.channels_last:
            return super().forward(x)
        if instance_kernel_pays(x, self.training):
            return instance_norm(x, *rows_of(self, x), self.eps)
        samples = [
            F.batch_norm(one, None, None, self.weight, self.bias, True, 0.0, self.eps) for one in torch.split(x, 1)
        ]
        return torch.cat(samples) if len(samples) != 1 else samples[0]


LEAST_ELEMENTS = 1 << 18
"""From here on a kernel of ours is faster than torch's batch norm, in spite of what a call from Python costs."""
LEAST_OF_ONE = 1 << 16
"""The same of instance norm, for one sample; torch's own takes several samples one by one."""


def instance_kernel_pays(x: Tensor, training: bool) -> bool:
    """Whether the engine's instance norm is there for x and faster than torch's operations are.

    Outside of training it is taken for one small sample too: a picture gets the same bits whatever its batch mates.
    """
    if traced():  # before a tracer takes the sizes at hand for those of every batch
        return False
    pays = len(x) > 1 or x.numel() >= LEAST_OF_ONE or not training
    return pays and dispatch.compiled("instance_norm", x.device.type)


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
    unbiased: Tensor
    """Variance; the biased one where a channel has one value."""


def norm_over_ranks(
    x: Tensor, gamma: Tensor, beta: Tensor, labels: Tensor | None, eps: float, slope: float = 1.0
) -> tuple[Tensor, Shared]:
    """Return what `ganengine.ops.conditional_batch_norm` gives for all ranks' x together, this rank's share of it.

    Forward each rank takes mean, variance and count of its share (one op), all are sent (one message) and put together
    (one op), and the op applies them as given. Backward one pass gives the gradients of gamma and beta and two sums per
    channel over this rank's samples; those are added up over all ranks (one message), and another pass gives that of x:

        grad_x = rstd_c (gamma_nc gz - 1/M sum over n of gamma_nc (grad_beta_nc + xn grad_gamma_nc))

    n and M are those of all ranks' batch.

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        ops = _operations(x)
        mean, var, unbiased, count = ops.pooled(ranks.gathered(ops.statistics(x)))
        y, _, _ = ops.apply(x, gamma, beta, labels, mean, var, eps, slope)
        ctx.eps, ctx.slope = eps, slope
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, unbiased)
        ctx.save_for_backward(x, gamma, beta, labels, mean, var, count)
        return y, mean, unbiased

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *others: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 6
        *given, count = ctx.saved_tensors
        eps, slope = ctx.eps, ctx.slope
        of_x, of_gamma, of_beta = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            x, gamma, beta, labels, _, _ = given

            def formula(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor]:
                m, v, _, _ = reference_pooled(ranks.gathered(reference_statistics(x)))
                return (reference(x, gamma, beta, labels, m, v, eps, slope)[0],)

            higher = differentiate(formula, (x, gamma, beta), (of_x, of_gamma, of_beta), (grad_y,))
            return (*higher, None, None, None)
        ops = _operations(given[0])
        grad_gamma, grad_beta, sums = ops.sums(grad_y, *given, eps, slope)
        grad_x = ops.input(grad_y, *given, ranks.summed(sums), count, eps, slope) if of_x else None
        return grad_x, grad_gamma if of_gamma else None, grad_beta if of_beta else None, None, None, None


@dataclass(frozen=True)
class _Operations:
    """Takes a share's statistics, puts those of all ranks together, applies them; makes the gradient's two passes."""

    statistics: Callable[..., Tensor]
    pooled: Callable[..., tuple[Tensor, ...]]
    apply: Callable[..., tuple[Tensor, ...]]
    sums: Callable[..., tuple[Tensor, ...]]
    input: Callable[..., Tensor]


_OPS = _Operations(call_statistics, call_pooled, call_forward, call_sums, call_input)
_FORMULAS = _Operations(reference_statistics, reference_pooled, reference, reference_sums, reference_input)


def _operations(x: Tensor) -> _Operations:
    return _OPS if dispatch.takes_op(OP, x.device.type) else _FORMULAS


@torch.no_grad()
def follow(running_mean: Tensor | None, running_var: Tensor | None, shared: Shared, momentum: float) -> None:
    """Move running statistics, where there are any, towards those of a batch; the variance towards the unbiased one."""
    if running_mean is not None and running_var is not None:
        move(running_mean, running_var, shared.mean, shared.unbiased, momentum)


def batch_norm_over_ranks(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """Return what one of torch's batch norms gives in training, with the statistics of all ranks.

    Gradients: any order, through the statistics too.
    """
    gamma, beta = rows_of(norm, x)
    # A norm of one class: all samples share the tables' one row.
    y, shared = norm_over_ranks(x, gamma.unsqueeze(0), beta.unsqueeze(0), one_class(x), norm.eps)
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        # sync: without a momentum the count itself is the weight
        momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        follow(norm.running_mean, norm.running_var, shared, momentum)
    return y


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
