"""The engine's step against the same step with its networks compiled by torch.compile (inductor).

    python benches/bench_compile.py VARIANT [DATA] [--rounds N] [--seconds S] [options of `ganengine run`]

Two trainers of one process start equal and train in turn, in blocks of S seconds. Before a time is printed, the losses
of their first step must be equal but for rounding, and what compiling took is told: seconds by the wall and of the CPU.
Code that is in inductor's cache already is not compiled again: for the whole time let TORCHINDUCTOR_CACHE_DIR name an
empty folder.

In phases that say that they differentiate gradients (`Phase.second_order`) the networks run as they are, since
torch.compile has no second derivatives. Masks of dropout are keyed outside of what is compiled, as the key changes in
every step. Networks that cannot be compiled or run so are told of, with status 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ganengine.bench.machine import waiting
from ganengine.cli import add_plugins
from ganengine.config import parse, take_options
from ganengine.display import Display
from ganengine.errors import GanengineError, UserError
from ganengine.nn import context, dropout
from ganengine.plugins import registry
from ganengine.session import Session
from ganengine.trainer import Trainer
from ganengine.variant import Due

TOLERANCES = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 3e-3}
"""Of losses in the first step, relative to 1 or to them: a few roundings of the sums that they are made of."""
WARM_UP = 3
"""Steps before the first that is timed, beside the one that compiles."""


class Side:
    """A trainer and the time of its phases."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.wait = waiting(trainer.hardware.device)
        self.phases: dict[str, float] = {}
        self.blocks: list[tuple[float, dict[str, float]]] = []
        gradients = trainer.updater.gradients

        def timed(due: Due, *rest: Any) -> Any:
            self.wait()
            began = time.perf_counter()
            with uncompiled(trainer) if due.phase.second_order else contextlib.nullcontext():
                found = gradients(due, *rest)
            self.wait()
            self.phases[due.phase.name] = self.phases.get(due.phase.name, 0.0) + time.perf_counter() - began
            return found

        trainer.updater.gradients = timed  # type: ignore[method-assign, assignment]

    def first(self) -> tuple[dict[str, float], float, float]:
        """Train one step; return its losses and its seconds by the wall and of the CPU, those of children included."""
        wall, cpu = time.perf_counter(), cpu_seconds()
        self.trainer.round()
        self.wait()
        taken = time.perf_counter() - wall, cpu_seconds() - cpu
        return self.trainer.means.read(), *taken

    def block(self, steps: int) -> float:
        """Train so many steps and return the seconds of one."""
        self.phases.clear()
        began = time.perf_counter()
        for _ in range(steps):
            self.trainer.round()
            self.trainer.means.clear()
        self.wait()
        step = (time.perf_counter() - began) / steps
        self.blocks.append((step, {name: seconds / steps for name, seconds in self.phases.items()}))
        return step

    def best(self) -> tuple[float, dict[str, float]]:
        """Return the seconds of a step and of its phases in the fastest block."""
        return min(self.blocks, key=lambda block: block[0])

    def median(self) -> float:
        """Return the median of a step's seconds."""
        return statistics.median(step for step, _ in self.blocks)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def compile_networks(trainer: Trainer) -> None:
    """Have every network of a trainer run compiled; names and state stay as they are."""
    vars(dropout)["dropout_key"] = torch.compiler.disable(context.dropout_key)  # type: ignore[no-untyped-call]
    for network in modules(trainer):
        network.compile(dynamic=False)


@contextlib.contextmanager
def uncompiled(trainer: Trainer) -> Iterator[None]:
    """Have networks run as they are inside the block, compiled or not."""
    calls = [(network, network._compiled_call_impl) for network in modules(trainer)]
    for network, _ in calls:
        network._compiled_call_impl = None
    try:
        yield
    finally:
        for network, call in calls:
            network._compiled_call_impl = call


def modules(trainer: Trainer) -> list[nn.Module]:
    """Return the networks of a trainer that are modules."""
    return [network for network in trainer.players.networks.values() if isinstance(network, nn.Module)]


def compare(eager: Side, compiled: Side, tolerance: float, seconds: float, rounds: int) -> None:
    """Compare first steps, then time both sides in turn, and print what was found.

    Raises:
        UserError: a loss differs by more than rounding, or the networks cannot be trained compiled.
    """
    expected, plain_wall, _ = eager.first()
    try:
        found, wall, cpu = compiled.first()
    except RuntimeError as error:
        raise UserError(f"the networks cannot be trained compiled: {str(error).splitlines()[0]}") from error
    differences = {name: abs(found[name] - value) / max(1.0, abs(value)) for name, value in expected.items()}
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= tolerance:
        raise UserError(f'"{worst}" of the first step: expected {expected[worst]}, got {found[worst]} compiled.')
    print(
        f"first step {plain_wall:.1f} s, compiled {wall:.1f} s ({cpu:.1f} s of CPU); losses differ by at most "
        f"{differences[worst]:.1e}"
    )
    sides: list[Side] = [eager, compiled]
    counts = []
    for side in sides:
        side.block(WARM_UP)
        counts.append(max(1, round(seconds / side.block(1))))
        side.blocks.clear()
    for number in range(rounds):
        # Each side is first in every other round.
        for place in (0, 1) if number % 2 else (1, 0):
            sides[place].block(counts[place])
    for name, side in (("eager", eager), ("compiled", compiled)):
        step, phases = side.best()
        parts = ", ".join(f"{phase} {1e3 * value:.1f}" for phase, value in phases.items())
        print(f"{name:9s} best {1e3 * step:8.1f} ms  median {1e3 * side.median():8.1f} ms  gradients: {parts}")
    ratios = [plain / other for (plain, _), (other, _) in zip(eager.blocks, compiled.blocks, strict=True)]
    print(
        f"compiled is {eager.best()[0] / compiled.best()[0]:.2f} times as fast (best of each), "
        f"{statistics.median(ratios):.2f} (median of the rounds)"
    )


def main(argv: Sequence[str]) -> int:
    """Measure one variant."""
    words, own = take_options(add_plugins(argv), ("rounds", "seconds"))
    if not words:
        print(__doc__)
        return 2
    try:
        settings = parse(registry().variant(words[0]), words[1:], f"bench_compile.py {words[0]}")
        settings = dataclasses.replace(settings, engine=dataclasses.replace(settings.engine, preview=0))
        with Session.new(settings, Display(quiet=True)) as one, Session.new(settings, Display(quiet=True)) as other:
            compile_networks(other.trainer)
            compare(
                Side(one.trainer), Side(other.trainer), TOLERANCES[one.hardware.precision],
                float(own["seconds"][-1]) if own["seconds"] else 2.0, int(own["rounds"][-1]) if own["rounds"] else 7,
            )  # fmt: skip
    except GanengineError as error:
        print(f"bench_compile.py: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
