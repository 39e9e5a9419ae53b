"""What keyed modules read while a network runs: whose random numbers these are, and which statistics hold.

The engine enters a context around every forward pass. Outside one (a network used on its own in a notebook) the
modules behave as their torch counterparts do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from ganengine import draws

Statistics = Literal["own", "running"]


@dataclass
class Context:
    """Settings of the forward passes inside a `with draw_context(...)` block."""

    seed: int
    """Key of everything drawn inside: made from the run's seed, the step, the repeat and the scope."""
    first_sample: int = 0
    """Index in the global batch of the first sample that this process sees."""
    sample_seeds: Sequence[int] | None = None
    """One seed per sample instead, so that a sample's draws do not depend on its batch mates."""
    statistics: Statistics = "running"
    """Normalisation in eval mode: each sample's `own` statistics, or the `running` ones."""
    calls: dict[int, int] = field(default_factory=dict)


_stack: list[Context] = []


def current() -> Context | None:
    """Return the innermost context, or None outside any."""
    return _stack[-1] if _stack else None


class draw_context:  # noqa: N801  read as a function; a class of one's own is entered in half the time of a generator
    """Make `context` the one that keyed modules read."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Context:
        _stack.append(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        _stack.pop()


@contextmanager
def hold(networks: Iterable[object]) -> Iterator[None]:
    """Let the moving state of networks stand still: running statistics of norms, vectors of spectral norm.

    In training mode they normalise as ever, by the batch's statistics; these are only not kept. A module whose state
    moves in its forward pass takes part by an attribute `track_running_stats`, named as in torch's batch norms.
    """
    moving: list[Any] = [
        module
        for network in networks
        if isinstance(network, nn.Module)
        for module in network.modules()
        if module.training and getattr(module, "track_running_stats", False)
    ]
    for module in moving:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in moving:
            module.track_running_stats = True


def scoped(context: Context, seed: int) -> Context:
    """Return a context like `context` whose draws follow from `seed` alone."""
    return Context(seed, context.first_sample, context.sample_seeds, context.statistics)


def name_modules(networks: Mapping[str, object]) -> None:
    """Tell every module its full name, which keys its draws."""
    for name, network in networks.items():
        if isinstance(network, nn.Module):
            for path, module in network.named_modules(prefix=name):
                module.__dict__["draw_name"] = path


def dropout_key(module: nn.Module) -> tuple[int, int]:
    """Return (seed, index of the first sample) for the next draws of `module`: dropout, and D's augmentation.

    Inside a context the seed depends on the context's seed, the module's name and how often the module ran in this
    context; outside, it comes from torch's global generator.
    """
    context = current()
    if context is None:
        return int(torch.randint(2**62, ()).item()), 0
    return _next_seed(context, context.seed, module, count=True), context.first_sample


def sample_keys(module: nn.Module) -> list[int] | None:
    """Return one seed per sample where the context asks for that, else None."""
    context = current()
    if context is None or context.sample_seeds is None:
        return None
    keys = [_next_seed(context, seed, module, count=False) for seed in context.sample_seeds]
    context.calls[id(module)] = context.calls.get(id(module), 0) + 1
    return keys


def _next_seed(context: Context, seed: int, module: nn.Module, *, count: bool) -> int:
    call = context.calls.get(id(module), 0)
    if count:
        context.calls[id(module)] = call + 1
    return draws.key(seed, str(module.__dict__.get("draw_name", type(module).__name__)), call)
