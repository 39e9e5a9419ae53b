"""Activation checkpointing: of a network's blocks only what goes in is kept, and computed with again for gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import MethodType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ganengine.nn import sequential
from ganengine.nn.context import current, draw_context
from ganengine.nn.padding import ReflectionPad2d

LARGEST = 6
"""A module with at most so many weights [.., ..] is one block: a residual block with the tables of its norms."""
PLAIN = (bool, int, float, str, type(None), Tensor)
"""Kinds of attributes that a block has again when it runs again: modes, counters."""
_OWN = "parametrizations"
"""The child of a layer that makes its weight: no layer of its own."""


def recompute(network: nn.Module) -> int:
    """Have the blocks of a network keep their inputs alone, and run again when a gradient needs what is inside.

    A block is a module of few layers, or a layer of a Sequential with what follows it up to the next one. A block runs
    again as it ran before: with the buffers and plain attributes that it had then (copies, so that running statistics
    and the vectors of spectral norm move once), and the same draws. So gradients of any order are the same to the bit
    in float32; under autocast but for rounding, as a weight that is used twice is cast twice.

    What a forward pass keeps in a list or an object of its own is not put back. Where that would change the shape of
    anything inside, torch says so.

    Args:
        network: changed in place; names, state and classes stay as they are.

    Returns:
        how many blocks there are.
    """
    return _divide(network) if _is_chain(network) else sum(map(_divide, _parts(network)))


def _divide(module: nn.Module) -> int:
    """Make a block of a module, or blocks of its parts, and return how many."""
    if _is_layer(module) or "forward" in vars(module):  # a part of two networks is visited twice
        return 0
    if _is_chain(module):
        lengths = _lengths(module)
        vars(module)["forward"] = _InRuns(module, lengths)
        return sum(map(_divide, _parts(module))) + sum(length > 1 for length in lengths)
    if 0 < _weights(module) <= LARGEST and type(module).forward is not nn.Module.forward:
        vars(module)["forward"] = _Again(module)
        return 1
    return sum(map(_divide, _parts(module)))


@dataclass(frozen=True, eq=False)
class _Again:
    """Stands for `forward` of a block. Copied or pickled with its module, it stands for that of the copy."""

    module: nn.Module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = MethodType(type(self.module).forward, self.module)
        return _kept_small((self.module,), forward, *args, **kwargs)


@dataclass(frozen=True, eq=False)
class _InRuns:
    """Stands for `forward` of a Sequential, whose layers run in blocks of so many."""

    chain: nn.Sequential
    lengths: Sequence[int]

    def __call__(self, x: Any) -> Any:
        children = iter(self.chain)
        for length in self.lengths:
            layers = list(islice(children, length))
            x = layers[0](x) if length == 1 else _kept_small(layers, partial(_through, type(self.chain), layers), x)
        return x


def _through(kind: type[nn.Sequential], layers: Sequence[nn.Module], x: Any) -> Any:
    if kind is sequential.Sequential:
        return sequential.run(layers, x)
    for layer in layers:
        x = layer(x)
    return x


def _lengths(chain: nn.Sequential) -> list[int]:
    """Return how many children each run has: a layer with weights and what follows it; larger parts by themselves.

    Padding goes with the layer behind it, which may do both in one, with other roundings.
    """
    lengths: list[int] = []
    before: nn.Module | None = None
    for child in chain:
        begins = _weights(child) and type(before) is not ReflectionPad2d
        if before is None or begins or type(child) is ReflectionPad2d or not _is_layer(child) or not _is_layer(before):
            lengths.append(0)
        lengths[-1] += 1
        before = child
    return lengths


def _kept_small(modules: Iterable[nn.Module], forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    then = _Moment(part for module in modules for part in module.modules())
    return checkpoint(forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), then), **kwargs)


class _Moment:
    """What a block's modules were before it ran; inside a `with` block they are that again. May be entered again."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        context = current()
        self._context = context and replace(context, calls=dict(context.calls))
        self._modules = [
            (
                module,
                {name: value for name, value in vars(module).items() if isinstance(value, PLAIN)},
                {name: tensor.clone() for name, tensor in module._buffers.items() if tensor is not None},
            )
            for module in modules
        ]
        self._after: list[tuple[dict[str, Any], dict[str, Tensor | None]]] = []
        self._entered = ExitStack()

    def __enter__(self) -> None:
        if self._context is not None:
            again = replace(self._context, calls=dict(self._context.calls))
            self._entered.enter_context(draw_context(again))
        for module, attributes, buffers in self._modules:
            self._after.append(({name: vars(module)[name] for name in attributes}, dict(module._buffers)))
            vars(module).update(attributes)
            module._buffers.update({name: tensor.clone() for name, tensor in buffers.items()})

    def __exit__(self, *_: object) -> None:
        for (module, _attributes, _buffers), (attributes, buffers) in zip(self._modules, self._after, strict=True):
            vars(module).update(attributes)
            module._buffers.update(buffers)
        self._after.clear()
        self._entered.close()


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    return (child for name, child in module.named_children() if name != _OWN)


def _is_layer(module: nn.Module) -> bool:
    return next(_parts(module), None) is None


def _is_chain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    forwards = (nn.Sequential.forward, sequential.Sequential.forward)
    return isinstance(module, nn.Sequential) and type(module).forward in forwards


def _weights(module: nn.Module) -> int:
    """Return how many layers with a parameter of two or more axes a module holds."""
    shapes = ([p.ndim for p in part._parameters.values() if p is not None] for part in module.modules())
    return sum(max(axes, default=0) > 1 for axes in shapes)
