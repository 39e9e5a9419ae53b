"""Maxout behind a linear layer: bias, optional ReLU and dropout, and the maximum over pieces in one pass.

h [N, P * U] holds piece p of unit u at p * U + u. With element e = offset + n P U + p U + u of the counter stream:

    a_npu = h_npu + bias_pu,   relu where asked,   then 0 where dropped, a / (1 - dropout) where kept
    y_nu = max over p of a_npu;   the winner is the first piece that has it

The gradient of y_nu goes to the winner's element of h, times 1 / (1 - dropout). It is 0 where the maximum is a
constant 0 (the winner was dropped, or clipped by ReLU): forward marks those with winner 255, so that backward needs
neither h nor bias nor mask.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ganengine.errors import UserError
from ganengine.ops import dispatch
from ganengine.ops.checks import accumulation_dtype, check_choice, check_device, check_float, describe, widened
from ganengine.ops.counter import keep_mask, signed64
from ganengine.ops.registration import define, differentiate, set_gradient, tied

OP = "maxout"
MOST_PIECES = 255
NO_GRADIENT = 255
"""Winner of a maximum that is a constant 0. Real winners are at most 254."""


def maxout(
    h: Tensor,
    bias: Tensor | None,
    pieces: int,
    *,
    activation: Literal["relu"] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    offset: int = 0,
) -> Tensor:
    """Return the maximum over pieces of h + bias, after an optional ReLU and dropout.

    y_nu = max over p of drop(activation(h[n, p * units + u] + bias[p * units + u]))

    Args:
        h: [N, pieces * units], float32, bfloat16, float16 or float64: the product x W^T without its bias.
        bias: [pieces * units], any float dtype, or None.
        pieces: linear pieces per unit, 1 to 255.
        activation: None or "relu", before the maximum.
        dropout: probability of a piece to be dropped, in [0, 1). A dropped piece counts as 0 in the maximum, kept ones
            are scaled by 1 / (1 - dropout). It acts whenever it is above 0: a module passes 0 in eval mode.
        seed: key of the mask; its low 64 bits count.
        offset: index in the mask's stream of h[0, 0]; first sample * pieces * units gives each sample a mask of its
            own, whatever batch it is in.

    Returns:
        [N, units], dtype of h, contiguous. Arithmetic is float32 inside (float64 for float64), under autocast too.

    Raises:
        UserError: dtypes, shapes, devices or options do not fit.

    Gradients: any order, with respect to h and bias; at a tie to the first piece, at a clipped or dropped maximum 0.
    Determinism: the mask is a function of (seed, offset + index) alone: `ganengine.ops.counter`.
    Paper: arXiv:1302.4389, section 3. ReLU and dropout between product and maximum: the Keras conditional GAN examples.
    """
    _check(h, bias, pieces, activation, dropout)
    wide = None if bias is None else widened(bias, accumulation_dtype(h.dtype))
    arguments = (h, wide, pieces, activation == "relu", float(dropout), signed64(seed), signed64(offset))
    op = call_forward if dispatch.takes_op(OP, h.device.type) else reference
    y: Tensor = op(*arguments)[0]
    return y


def reference(
    h: Tensor, bias: Tensor | None, pieces: int, relu: bool, dropout: float, seed: int, offset: int
) -> tuple[Tensor, Tensor]:
    """Return (y [N, units], winner [N, units] uint8): the formula of this module's head in plain PyTorch.

    Args:
        h: [N, pieces * units].
        bias: [pieces * units] in the dtype of the arithmetic (float32; float64 for float64 h), or None.
        pieces, relu, dropout, seed, offset: as in `maxout`.
    """
    a = h.to(accumulation_dtype(h.dtype))
    if bias is not None:
        a = a + bias
    constant = torch.zeros_like(a, dtype=torch.bool)
    if relu:
        constant = a <= 0
        a = a.relu()
    if dropout > 0:
        kept = keep_mask(seed, offset, a.shape, dropout, a.device)
        constant = constant | ~kept
        a = torch.where(kept, a * (1 / (1 - dropout)), 0.0)
    split = (h.shape[0], pieces, h.shape[1] // pieces)
    y, winner = a.view(split).max(1)  # ties: max returns the first index
    dead = constant.view(split).gather(1, winner.unsqueeze(1)).squeeze(1)
    return y.to(h.dtype), torch.where(dead, NO_GRADIENT, winner).to(torch.uint8)


def reference_backward(grad_y: Tensor, winner: Tensor, pieces: int, dropout: float) -> tuple[Tensor, Tensor]:
    """Return (grad_h [N, pieces * units] in the dtype of grad_y, grad_bias [pieces * units] in the arithmetic's).

    Args:
        grad_y: [N, units].
        winner: [N, units], uint8, as forward returned it.
        pieces, dropout: as in `maxout`.
    """
    dead = winner == NO_GRADIENT
    wide = grad_y.to(accumulation_dtype(grad_y.dtype)) * (1 / (1 - dropout))
    index = torch.where(dead, 0, winner).to(torch.int64).unsqueeze(1)
    source = torch.where(dead, 0.0, wide).unsqueeze(1)
    n, units = grad_y.shape
    grad = wide.new_zeros(n, pieces, units).scatter(1, index, source).view(n, pieces * units)
    return grad.to(grad_y.dtype), grad.sum(0)


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(h: Tensor, bias: Tensor | None, pieces: int, *_: Any) -> tuple[Tensor, Tensor]:
    shape = (h.shape[0], h.shape[1] // pieces)
    return h.new_empty(shape), h.new_empty(shape, dtype=torch.uint8)


def _fake_backward(grad_y: Tensor, winner: Tensor, pieces: int, *_: Any) -> tuple[Tensor, Tensor]:
    n, units = grad_y.shape
    wide = accumulation_dtype(grad_y.dtype)
    return grad_y.new_empty(n, pieces * units), grad_y.new_empty(pieces * units, dtype=wide)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, ctx.pieces, ctx.relu, ctx.dropout, _, _ = inputs
    y, winner = output
    ctx.mark_non_differentiable(winner)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(winner, y)


def _gradient(ctx: Any, grad_y: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return (None,) * 7
    winner, y = ctx.saved_tensors
    grads = call_backward(grad_y, winner, ctx.pieces, ctx.dropout)
    if ctx.relu and torch.is_grad_enabled():
        # Someone will differentiate this gradient. Through a plain ReLU that gives h and bias zeros, which an optimizer
        # with momentum steps on, instead of no gradient, which it passes over.
        grads = tuple(tied(grad, y) for grad in grads)
    needed = (grad if n else None for grad, n in zip(grads, ctx.needs_input_grad, strict=False))
    return (*needed, None, None, None, None, None)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad_y, winner, ctx.pieces, ctx.dropout = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad_y, winner)


def _gradient_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_y, winner = ctx.saved_tensors

    def formula(grad_y: Tensor) -> tuple[Tensor, Tensor]:
        return reference_backward(grad_y, winner, ctx.pieces, ctx.dropout)

    found = differentiate(formula, (grad_y,), ctx.needs_input_grad[:1], grads)
    return (*found, None, None, None)


FORWARD = define(
    f"{OP}(Tensor h, Tensor? bias, int pieces, bool relu, float dropout, SymInt seed, SymInt offset)"
    " -> (Tensor y, Tensor winner)",
    reference=reference,
    fake=_fake,
)
BACKWARD = define(
    f"{OP}_backward(Tensor grad_y, Tensor winner, int pieces, float dropout) -> (Tensor grad_h, Tensor grad_bias)",
    reference=reference_backward,
    fake=_fake_backward,
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save_backward, gradient=_gradient_backward)


# ----------------------------------------------------------------------------------------------------------------
# Checks


def _check(h: Tensor, bias: Tensor | None, pieces: int, activation: str | None, dropout: float) -> None:
    check_choice(OP, "activation", activation, (None, "relu"))
    check_float(OP, "h", h)
    if not 1 <= pieces <= MOST_PIECES:
        raise UserError(f"{OP}: expected 1 to {MOST_PIECES} pieces (the winner is kept in a byte), got {pieces}.")
    if h.dim() != 2 or h.shape[1] % pieces:
        raise UserError(
            f"{OP}: expected h [N, pieces * units] with pieces = {pieces}, got {describe(h)}. "
            "Flatten h, or correct pieces."
        )
    if bias is not None:
        check_float(OP, "bias", bias)
        check_device(OP, "bias", bias, "h", h.device)
        if bias.shape != h.shape[1:]:
            raise UserError(f"{OP}: expected bias [{h.shape[1]}], as h is {describe(h)}; got {describe(bias)}.")
    if not 0 <= dropout < 1:
        raise UserError(f"{OP}: expected dropout in [0, 1), got {dropout}.")
