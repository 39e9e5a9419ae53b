"""A clock that only moves when told to, and a case that needs no kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ganengine.bench import machine, ops, timing
from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject

CPU = torch.device("cpu")


class Clock:
    """Seconds that pass only by `spend`."""

    def __init__(self) -> None:
        self.now = 100.0

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the bench reads."""
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
    return made


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return, to be changed, what the bench is told of compiled kernels: it has one of "toy"."""
    told = {"toy": machine.COMPILED}
    monkeypatch.setattr(ops, "kernels", lambda device: told)
    return told


Toy = Callable[..., Case]


@pytest.fixture
def toy(clock: Clock, kernels: dict[str, str]) -> Toy:
    """Return a maker of cases of y = 2 x: eager takes 4 ms or 6 ms, fused 1 ms, the floor twice 0.25 ms."""

    def make(fused_factor: Any = 2.0, eager_factor: float = 2.0) -> Case:
        def double(factor: Any, cost: float) -> Callable[[Tensor], Tensor]:
            def function(x: Tensor) -> Tensor:
                clock.spend(cost)
                return x * factor

            return function

        def subject(device: torch.device) -> Subject:
            x = torch.arange(1.0, 5.0).requires_grad_()
            return Subject(
                (x,),
                torch.ones(4),
                fused=double(fused_factor, 1e-3),
                eager={"slow": double(2.0, 6e-3), "fast": double(eager_factor, 4e-3)},
                compiled=("slow", "fast"),
                truth=lambda _: (torch.tensor([2.0, 4, 6, 8]).double(), torch.full((4,), 2.0).double()),
                floor={which: Floor(lambda: clock.spend(0.25e-3), 2.0) for which in (FORWARD, BOTH)},
            )

        return Case("toy", "doubling", (4,), torch.float32, "contiguous", subject)

    return make
