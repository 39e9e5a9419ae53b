"""Instance norm: each sample's own statistics per channel, scale and shift, optional activation, in one op.

With i over the M positions of sample n:

    mean_nc = mean over i of x,   var_nc = mean over i of (x - mean_nc)^2
    y = activation(gamma_c (x - mean_nc) / sqrt(var_nc + eps) + beta_c)

It is conditional batch norm (ganengine.ops.conditional_batch_norm, whose formulas and kernels it takes) of each sample
as a batch of its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ganengine.ops.checks import accumulation_dtype, widened
from ganengine.ops.conditional_batch_norm import memory_format, statistics
from ganengine.ops.conditional_batch_norm import reference as batch_reference
from ganengine.ops.conditional_batch_norm import reference_backward as batch_reference_backward
from ganengine.ops.registration import define, differentiate, set_gradient, wanted

OP = "instance_norm"


def instance_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5, slope: float = 1.0) -> Tensor:
    """Return activation(gamma (x - mean) / sqrt(var + eps) + beta), mean and variance those of each sample.

    Args:
        x: [N, C, *spatial], float32, bfloat16, float16 or float64, more than one position.
        gamma, beta: [C].
        eps: added to the (biased) variance.
        slope: of the activation below zero: 0 ReLU, 0.2 leaky ReLU, 1 none.

    Returns:
        like x, in its memory format. Statistics and arithmetic are float32 inside (float64 for float64).

    Gradients: any order, with respect to x, gamma and beta. Paper: arXiv:1607.08022, equation 2.
    """
    wide = accumulation_dtype(x.dtype)
    y: Tensor = call_forward(x, widened(gamma, wide), widened(beta, wide), eps, slope)[0]
    return y


def reference(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y, mean [N, C], var [N, C]): N C channels of one sample."""
    n = len(x)
    y, mean, var = batch_reference(_one(x), gamma.repeat(1, n), beta.repeat(1, n), None, None, None, eps, slope)
    return _like(y, x), mean.view(n, -1), var.view(n, -1)


def reference_backward(
    grad_y: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (grad_x, grad_gamma [N, C], grad_beta [N, C]): the gradients of gamma and beta sample by sample."""
    n = len(x)
    tables = (gamma.repeat(1, n), beta.repeat(1, n))
    grad_x, grad_gamma, grad_beta = batch_reference_backward(
        _one(grad_y), _one(x), *tables, None, mean.flatten(), var.flatten(), True, eps, slope
    )
    return _like(grad_x, x), grad_gamma.view(n, -1), grad_beta.view(n, -1)


def _one(x: Tensor) -> Tensor:
    return x.reshape(1, x.shape[0] * x.shape[1], math.prod(x.shape[2:]))


def _like(one: Tensor, x: Tensor) -> Tensor:
    return one.view(x.shape).contiguous(memory_format=memory_format(x))


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(x: Tensor, gamma: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistic = gamma.new_empty(x.shape[:2])
    return torch.empty_like(x, memory_format=memory_format(x)), statistic, torch.empty_like(statistic)


def _fake_backward(grad_y: Tensor, x: Tensor, gamma: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _fake(x, gamma)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, gamma, beta, ctx.eps, ctx.slope = inputs
    _, mean, var = output
    # The statistics count as constants: the gradients below know how they depend on x.
    ctx.mark_non_differentiable(mean, var)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, gamma, beta, mean, var)


def _gradient(ctx: Any, grad_y: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return (None,) * 5
    to_x, to_gamma, to_beta = wanted(ctx)[:3]
    grad_x, grad_gamma, grad_beta = call_backward(grad_y, *ctx.saved_tensors, ctx.eps, ctx.slope)
    return (
        grad_x if to_x else None,
        grad_gamma.sum(0) if to_gamma else None,
        grad_beta.sum(0) if to_beta else None,
        None,
        None,
    )


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.slope = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradient_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_y, x, gamma, beta, _, _ = ctx.saved_tensors

    def formula(grad_y: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        mean, var = statistics(_one(x).to(gamma.dtype))
        return reference_backward(grad_y, x, gamma, beta, mean, var, ctx.eps, ctx.slope)

    found = differentiate(formula, (grad_y, x, gamma, beta), ctx.needs_input_grad[:4], grads)
    return (*found, None, None, None, None)


FORWARD = define(
    f"{OP}(Tensor x, Tensor gamma, Tensor beta, float eps, float slope) -> (Tensor y, Tensor mean, Tensor var)",
    reference=reference,
    fake=_fake,
)
BACKWARD = define(
    f"{OP}_backward(Tensor grad_y, Tensor x, Tensor gamma, Tensor beta, Tensor mean, Tensor var, float eps, "
    "float slope) -> (Tensor grad_x, Tensor grad_gamma, Tensor grad_beta)",
    reference=reference_backward,
    fake=_fake_backward,
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save_backward, gradient=_gradient_backward)
