"""How an op is declared: schema, reference for every device, fake kernel, and gradients of any order.

A compiled kernel registers over the reference for its own device, by the same schema; docs/ops.md shows how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

NAMESPACE = "ganengine"
LIBRARY = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
_REFERENCES: dict[torch._ops.OpOverload, Callable[..., Any]] = {}


def define(
    schema: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    arithmetic: Callable[..., int] | None = None,
) -> torch._ops.OpOverload:
    """Declare an op by its schema and return it.

    Args:
        schema: "name(arguments) -> results", functional: no argument is changed, no result shares memory with one.
        reference: plain PyTorch. It serves every device for which no kernel is registered.
        fake: makes results of the right shape, dtype and strides, for tracing.
        arithmetic: its multiplications and additions, for torch's FlopCounterMode: from the arguments, shapes in place
            of tensors, and `out_shape`. None: not counted, as torch counts products of matrices and convolutions alone.
    """
    name = schema.partition("(")[0]
    LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
    op: torch._ops.OpOverload = getattr(getattr(torch.ops, NAMESPACE), name).default
    _REFERENCES[op] = reference
    if arithmetic is not None:
        register_flop_formula(op._overloadpacket)(arithmetic)
    return op


def set_gradient(
    op: torch._ops.OpOverload, *, save: Callable[..., None], gradient: Callable[..., Any]
) -> Callable[..., Any]:
    """Give an op its gradient, and return the function by which our own Python calls it.

    That function does what the op does, without the way through the dispatcher to Python and back, which costs more
    than the kernel where tensors are small; tracing gets the op itself. The op takes and returns its tensors singly,
    not in a list. Under forward-mode differentiation and the transforms of torch.func the reference runs, of which
    torch knows all.

    Args:
        op: as `define` returned it.
        save: (ctx, inputs, output), called after the forward pass where a gradient is wanted.
        gradient: (ctx, *grads) to a gradient, or None, per input.
    """

    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = below_autograd(op, *inputs)
            save(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return gradient(ctx, *grads)

    # The engine's own apply: torch's wrapper around it serves functorch's transforms, which get the reference.
    apply = super(torch.autograd.Function, Gradient).apply

    def recorded(*inputs: Any) -> Any:
        if torch.is_grad_enabled():
            for value in inputs:
                if isinstance(value, Tensor) and value.requires_grad:
                    return apply(*inputs)  # type: ignore[no-untyped-call]
        return below_autograd(op, *inputs)

    def above_autograd(*inputs: Any) -> Any:
        return _REFERENCES[op](*inputs) if transformed() else recorded(*inputs)

    def call(*inputs: Any) -> Any:
        return form_of(op, recorded)(*inputs)

    LIBRARY.impl(op._schema.name.partition("::")[2], above_autograd, "Autograd")  # type: ignore[no-untyped-call]
    return call


class _Tied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        ctx.like = (other.shape, other.dtype)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        shape, dtype = ctx.like
        return grad, grad.new_zeros(shape, dtype=dtype)


def tied(value: Tensor, other: Tensor) -> Tensor:
    """Return `value` with a derivative with respect to `other` too, which is zero."""
    result: Tensor = _Tied.apply(value, other)  # type: ignore[no-untyped-call]
    return result


def wanted(ctx: Any) -> tuple[bool, ...]:
    """Return, in the backward pass of an autograd.Function, whose gradients anybody is waiting for.

    `ctx.needs_input_grad` says who could have one: all weights, also where `backward(inputs=...)` asks for others.
    """
    nodes = (node for node, _ in ctx.next_functions if node is not None)  # one for each input that could have one
    return tuple(need and _runs(next(nodes)) for need in ctx.needs_input_grad)


def _runs(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # what autograd.grad was asked for, or a torch that cannot tell
        return True


def below_autograd(op: torch._ops.OpOverload, *inputs: Any) -> Any:
    """Call an op without recording anything: the kernel, or the reference, as it stands."""
    with torch._C._AutoDispatchBelowAutograd():
        return op(*inputs)


def form_of(op: torch._ops.OpOverload, recorded: Callable[..., Any]) -> Callable[..., Any]:
    """Return by what our own Python calls an op: `recorded`, or what somebody who is looking on can make use of.

    A compiler sees the op. The reference is seen by who takes a network elsewhere (torch.export, torch.jit.trace), to
    where there is no op of ours, and by a transform: under vmap an op of ours runs sample by sample, if at all.
    """
    if not traced():
        return recorded
    return op if torch.compiler.is_compiling() and not taken_elsewhere() else _REFERENCES[op]


def taken_elsewhere() -> bool:
    """Return whether torch.export or torch.jit.trace looks on, whose result is for other sizes, without ops of ours."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None


def transformed() -> bool:
    """Return whether tensors may carry tangents, or a transform of torch.func works: our gradients know of neither."""
    return bool(forward_ad._current_level >= 0) or torch._C._are_functorch_transforms_active()


def traced() -> bool:
    """Return whether a compiler, a tracer, a transform or forward mode is looking on, which must see no short cut."""
    return torch.compiler.is_compiling() or transformed() or torch._C._get_tracing_state() is not None


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
