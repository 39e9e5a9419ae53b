"""Spectral norm: a weight over its largest singular value, which a power iteration follows.

With W [outputs, rest] the weight as a matrix, one row per output:

    iterate:  v <- W^T u / max(|W^T u|, eps),   u <- W v / max(|W v|, eps)
    y     = W / sigma,   sigma = u^T W v
    grad_W = grad_y / sigma - <grad_y, W> / sigma^2  u v^T          (u and v are constants)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganengine.ops.registration import define, differentiate, set_gradient, traced

DTYPES = (torch.float32, torch.float64)
"""Of weights that the op takes; those of others (a network that was converted whole) go by the formulas."""


def over_sigma(weight: Tensor, u: Tensor, v: Tensor, axis: int = 0) -> Tensor:
    """Return weight / sigma, sigma = u^T W v: the largest singular value, where u and v are its vectors.

    Args:
        weight: any shape; float32 or float64, others by the formula in plain PyTorch.
        u: [outputs], the left singular vector; a constant. It may change afterwards.
        v: [rest], the right one, the other axes of the weight in their order. It may change afterwards.
        axis: of the outputs; below 0 from the last one.

    Returns:
        like weight, in its memory format.

    Gradients: any order, with respect to weight. Paper: arXiv:1802.05957, equation 8.
    """
    axis = axis + weight.dim() if axis < 0 else axis
    if weight.dtype not in DTYPES or traced():
        return reference(weight, u.clone(), v.clone(), axis)
    y: Tensor = call_forward(weight, u, v, axis)
    return y


def iterated(weight: Tensor, u: Tensor, axis: int = 0, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Return u [outputs] and v [rest] after one step of the power iteration from u.

    Args:
        weight, u, axis: as `over_sigma` takes them.
        eps: lower limit of the norms that are divided by.

    Gradients: none. Paper: arXiv:1802.05957, algorithm 1.
    """
    axis = axis + weight.dim() if axis < 0 else axis
    weight, u = weight.detach(), u.detach()  # from tangents too, which no_grad lets through
    if weight.dtype not in DTYPES or traced():
        return reference_iterate(weight, u, axis, eps)
    found: tuple[Tensor, Tensor] = ITERATE(weight, u, axis, eps)
    return found


def over_next_sigma(weight: Tensor, u: Tensor, axis: int = 0, eps: float = 1e-12) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `over_sigma` gives after one step of the power iteration from u, and u and v after that step.

    Args:
        weight, u, axis, eps: as `iterated` takes them.

    Returns:
        y: like weight, in its memory format.
        u, v: [outputs], [rest], constants. The gradient needs them as they are: copy them rather than change them.

    Gradients: any order, with respect to weight. Paper: arXiv:1802.05957, algorithm 1.
    """
    axis = axis + weight.dim() if axis < 0 else axis
    if weight.dtype not in DTYPES or traced():
        return reference_next(weight, u, axis, eps)
    found: tuple[Tensor, Tensor, Tensor] = call_next(weight, u, axis, eps)
    return found


def reference(weight: Tensor, u: Tensor, v: Tensor, axis: int) -> Tensor:
    """Return y."""
    # Under autocast sigma would be a product in half precision.
    with torch.autocast(weight.device.type, enabled=False):
        return weight / torch.dot(u, torch.mv(_matrix(weight, axis), v))


def reference_backward(grad_y: Tensor, weight: Tensor, u: Tensor, v: Tensor, axis: int) -> Tensor:
    """Return grad_weight."""
    with torch.autocast(weight.device.type, enabled=False):
        sigma = torch.dot(u, torch.mv(_matrix(weight, axis), v))
        first = (weight.shape[axis], *(size for k, size in enumerate(weight.shape) if k != axis))
        direction = torch.outer(u, v).view(first).movedim(0, axis)
        if grad_y.stride() != weight.stride():  # the result lies as its first operand does
            grad_y = torch.empty_like(weight).copy_(grad_y)
        return grad_y / sigma - (grad_y * weight).sum() / sigma.square() * direction


def reference_iterate(weight: Tensor, u: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor]:
    """Return the new u and v."""
    with torch.autocast(weight.device.type, enabled=False):
        matrix = _matrix(weight, axis)
        v = torch.mv(matrix.T, u)
        v = v / torch.linalg.vector_norm(v).clamp(min=eps)
        u = torch.mv(matrix, v)
        return u / torch.linalg.vector_norm(u).clamp(min=eps), v


def reference_next(weight: Tensor, u: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the new u and v."""
    u, v = reference_iterate(weight.detach(), u.detach(), axis, eps)
    return reference(weight, u, v, axis), u, v


def _matrix(weight: Tensor, axis: int) -> Tensor:
    return weight.movedim(axis, 0).unsqueeze(-1).flatten(1)  # a weight [outputs] has a rest of 1


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(weight: Tensor, u: Tensor, v: Tensor, axis: int) -> Tensor:
    return torch.empty_like(weight)


def _fake_backward(grad_y: Tensor, weight: Tensor, u: Tensor, v: Tensor, axis: int) -> Tensor:
    return torch.empty_like(weight)


def _fake_iterate(weight: Tensor, u: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(u), u.new_empty(weight.numel() // weight.shape[axis])


def _fake_next(weight: Tensor, u: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(weight), *_fake_iterate(weight, u, axis, eps)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, u, v, ctx.axis = inputs
    # Copies: the next pass moves u and v while this one's graph still needs them.
    ctx.save_for_backward(weight, u.clone(), v.clone())


def _gradient(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return call_backward(grad_y, *ctx.saved_tensors, ctx.axis), None, None, None


def _save_next(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    weight, _, ctx.axis, _ = inputs
    _, u, v = output
    ctx.mark_non_differentiable(u, v)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(weight, u, v)


def _gradient_next(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    return None if grad_y is None else call_backward(grad_y, *ctx.saved_tensors, ctx.axis), None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.axis = inputs
    ctx.save_for_backward(*tensors)


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_y, weight, u, v = ctx.saved_tensors

    def formula(grad_y: Tensor, weight: Tensor) -> tuple[Tensor]:
        return (reference_backward(grad_y, weight, u, v, ctx.axis),)

    found = differentiate(formula, (grad_y, weight), ctx.needs_input_grad[:2], (grad,))
    return (*found, None, None, None)


FORWARD = define(
    "spectral_norm(Tensor weight, Tensor u, Tensor v, int axis) -> Tensor", reference=reference, fake=_fake
)
BACKWARD = define(
    "spectral_norm_backward(Tensor grad_y, Tensor weight, Tensor u, Tensor v, int axis) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
)
ITERATE = define(
    "spectral_norm_iterate(Tensor weight, Tensor u, int axis, float eps) -> (Tensor u, Tensor v)",
    reference=reference_iterate,
    fake=_fake_iterate,
)
NEXT = define(
    "spectral_norm_next(Tensor weight, Tensor u, int axis, float eps) -> (Tensor y, Tensor u, Tensor v)",
    reference=reference_next,
    fake=_fake_next,
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save_backward, gradient=_gradient_backward)
call_next = set_gradient(NEXT, save=_save_next, gradient=_gradient_next)
