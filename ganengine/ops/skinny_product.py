"""Products of a large weight with few rows, whose time is that of reading or writing the weight.

With rows x [M, K], a weight W [N, K], and M of some dozen at most:

    skinny_product            y[m, n] = sum over k of x[m, k] W[n, k]
    skinny_product_backward   x[m, k] = sum over n of y[m, n] W[n, k]
    skinny_product_weights    W[n, k] = sum over m of y[m, n] x[m, k]

Each is linear in both of its matrices, and its gradients are the two others. Libraries of matrix products pack their
operands first, and here that takes as long as the product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ganengine.ops.registration import define, set_gradient


def skinny_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Return rows times the weight, y[m, n] = sum over k of x[m, k] W[n, k].

    Args:
        rows: [M, K], float32 or float64.
        weight: [N, K], of the same dtype.

    Returns:
        [M, N]. The same bits with any number of threads, and for a row whatever rows stand beside it.

    Raises:
        RuntimeError: other shapes or dtypes.

    Gradients: any order.
    """
    made: Tensor = call_forward(rows, weight)
    return made


def skinny_product_backward(grad: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the rows, x[m, k] = sum over n of y[m, n] W[n, k].

    Args:
        grad: [M, N], float32 or float64.
        weight: [N, K], of the same dtype.

    Returns:
        [M, K]. The same bits with any number of threads, and for a row whatever rows stand beside it.

    Raises:
        RuntimeError: other shapes or dtypes.

    Gradients: any order.
    """
    made: Tensor = call_backward(grad, weight)
    return made


def skinny_product_weights(rows: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient of the weight, W[n, k] = sum over m of y[m, n] x[m, k].

    Args:
        rows: [M, K], float32 or float64.
        grad: [M, N], of the same dtype.

    Returns:
        [N, K]. The same bits with any number of threads.

    Raises:
        RuntimeError: other shapes or dtypes.

    Gradients: any order.
    """
    made: Tensor = call_weights(rows, grad)
    return made


def reference(rows: Tensor, weight: Tensor) -> Tensor:
    """Return rows times the weight."""
    return rows @ weight.T


def reference_backward(grad: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the rows."""
    return grad @ weight


def reference_weights(rows: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient of the weight."""
    return grad.T @ rows


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(rows: Tensor, weight: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[0])


def _fake_backward(grad: Tensor, weight: Tensor) -> Tensor:
    return grad.new_empty(grad.shape[0], weight.shape[1])


def _fake_weights(rows: Tensor, grad: Tensor) -> Tensor:
    return rows.new_empty(grad.shape[1], rows.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, weight = ctx.saved_tensors
    to_rows, to_weight = ctx.needs_input_grad
    return (
        call_backward(grad, weight) if to_rows else None,
        call_weights(rows, grad) if to_weight else None,
    )


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    given, weight = ctx.saved_tensors
    to_given, to_weight = ctx.needs_input_grad
    return (
        call_forward(grad, weight) if to_given else None,
        call_weights(grad, given) if to_weight else None,
    )


def _gradient_weights(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, given = ctx.saved_tensors
    to_rows, to_given = ctx.needs_input_grad
    return (
        call_backward(given, grad) if to_rows else None,
        call_forward(rows, grad) if to_given else None,
    )


def _arithmetic(one: Sequence[int], weight: Sequence[int]) -> int:
    """Each weight multiplies and adds once for each row."""
    return 2 * one[0] * math.prod(weight)


FORWARD = define(
    "skinny_product(Tensor rows, Tensor weight) -> Tensor",
    reference=reference,
    fake=_fake,
    arithmetic=lambda rows, weight, *_, out_shape: _arithmetic(rows, weight),
)
BACKWARD = define(
    "skinny_product_backward(Tensor grad, Tensor weight) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
    arithmetic=lambda grad, weight, *_, out_shape: _arithmetic(grad, weight),
)
WEIGHTS = define(
    "skinny_product_weights(Tensor rows, Tensor grad) -> Tensor",
    reference=reference_weights,
    fake=_fake_weights,
    arithmetic=lambda rows, grad, *_, out_shape: _arithmetic(rows, out_shape),
)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save, gradient=_gradient_backward)
call_weights = set_gradient(WEIGHTS, save=_save, gradient=_gradient_weights)
