"""The template op: it copies, and is its own gradient.

    y = x,   grad_x = grad_y

A new op starts as a copy of this file and of csrc/null/; what it costs is what any op costs before it does any work.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganengine.ops.registration import define, set_gradient


def null(x: Tensor) -> Tensor:
    """Return a contiguous copy of x.

    Args:
        x: any shape, float32, bfloat16, float16 or float64.

    Gradients: any order.
    """
    y: Tensor = call_forward(x)
    return y


def reference(x: Tensor) -> Tensor:
    """Return a contiguous copy of x: the formula, for every device, and backwards too."""
    return x.clone(memory_format=torch.contiguous_format)


def _fake(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    """There is nothing to keep."""


def _gradient(ctx: Any, grad: Tensor) -> Tensor:
    grad_x: Tensor = call_backward(grad)
    return grad_x


FORWARD = define("null(Tensor x) -> Tensor", reference=reference, fake=_fake)
BACKWARD = define("null_backward(Tensor grad_y) -> Tensor", reference=reference, fake=_fake)
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save, gradient=_gradient)
