"""Time several calls against each other on a machine that does other things too."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from ganengine.bench.case import Call


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    least_rounds: int
    seconds: float
    """Rounds go on so long, for all calls together, once there are `least_rounds`."""
    block: float = 2e-4
    """Seconds that one sample lasts about: as many calls as that takes. Short ones leave the median out of what other
    programs do in between."""


FULL = Effort(least_rounds=9, seconds=2.0)
QUICK = Effort(least_rounds=5, seconds=0.5)
TRIAL = Effort(least_rounds=3, seconds=0.05)

_MOST_ROUNDS = 500
_MOST_CALLS = 1000
_WARM_UP = 3


@dataclass(frozen=True)
class Spread:
    """Median and quartiles, milliseconds."""

    median: float
    p25: float
    p75: float

    @classmethod
    def of(cls, samples: list[float], times: float = 1.0) -> Spread:
        """Return the spread of at least two samples, each taken so many times."""
        p25, median, p75 = statistics.quantiles((times * s for s in samples), n=4, method="inclusive")
        return cls(median, p25, p75)

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def interleaved(calls: Mapping[str, Call], effort: Effort, wait: Callable[[], None]) -> dict[str, list[float]]:
    """Return samples in milliseconds per call: after a warm-up, each round takes one of every call.

    The order within a round is shuffled, so that no call always finds the cache as the same other one left it.

    Args:
        calls: what to time, by name.
        effort: how long.
        wait: returns when the device has finished; nothing to do on a CPU.
    """
    counts = {name: _count(call, effort.block, wait) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    end = time.perf_counter() + effort.seconds
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for done in range(_MOST_ROUNDS):
            if done >= effort.least_rounds and time.perf_counter() >= end:
                break
            shuffle(order)
            for name in order:
                samples[name].append(1e3 * _time(calls[name], counts[name], wait))
    finally:
        if collecting:
            gc.enable()
    return samples


def _count(call: Call, block: float, wait: Callable[[], None]) -> int:
    fastest = min(_time(call, 1, wait) for _ in range(_WARM_UP))
    return max(1, min(_MOST_CALLS, round(block / fastest)))


def _time(call: Call, count: int, wait: Callable[[], None]) -> float:
    """Return the seconds of one call, as the mean of `count`. Results are freed inside, as in a training step."""
    wait()
    began = time.perf_counter()
    for _ in range(count):
        call()
    wait()
    return (time.perf_counter() - began) / count
