"""How an op is declared: schema, reference for every device, fake kernel, and gradients of any order.

A compiled kernel registers over the reference for its own device, by the same schema; docs/ops.md shows how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "ganengine"
LIBRARY = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]


def define(schema: str, *, reference: Callable[..., Any], fake: Callable[..., Any]) -> torch._ops.OpOverload:
    """Declare an op by its schema and return it.

    Args:
        schema: "name(arguments) -> results", functional: no argument is changed, no result shares memory with one.
        reference: plain PyTorch. It serves every device for which no kernel is registered.
        fake: makes results of the right shape, dtype and strides, for tracing.
    """
    name = schema.partition("(")[0]
    LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
    op: torch._ops.OpOverload = getattr(getattr(torch.ops, NAMESPACE), name).default
    return op


def set_gradient(op: torch._ops.OpOverload, *, save: Callable[..., None], gradient: Callable[..., Any]) -> None:
    """Give an op its gradient: `save(ctx, inputs, output)` after the forward pass, `gradient(ctx, *grads)`."""
    torch.library.register_autograd(op, gradient, setup_context=save, lib=LIBRARY)


def differentiate(
    formula: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of sum(grads * formula(*inputs)) with respect to the needed inputs.

    Meant for the gradient of a backward op: `formula` is the reference's backward formula. Where a graph is wanted
    (create_graph) the result is differentiable again, to any order.
    """
    higher = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases are where this gradient stops; under `higher` the graph behind them stays within reach.
        ends = [t.view_as(t) if higher else t.detach().requires_grad_(n) for t, n in zip(inputs, needed, strict=True)]
        pairs = [
            (out, grad)
            for out, grad in zip(formula(*ends), grads, strict=True)
            if grad is not None and out.requires_grad
        ]
        wanted = [end for end, n in zip(ends, needed, strict=True) if n]
        if not pairs or not wanted:
            return [None] * len(ends)
        outputs, given = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=higher, allow_unused=True))
    return [next(found) if n else None for n in needed]
