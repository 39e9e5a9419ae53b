"""Samples and spreads, by a clock of the test's own: no time is asserted."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganengine.bench.timing import Effort, Spread, interleaved


def test_spread_by_hand() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(median=3.0, p25=2.0, p75=4.0)
    assert Spread.of([1.0, 2.0], times=10.0) == Spread(median=15.0, p25=12.5, p75=17.5)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30))
def test_spread_is_in_order(samples: list[float]) -> None:
    found = Spread.of(samples)
    assert min(samples) <= found.p25 <= found.median <= found.p75 <= max(samples)


def test_slow_and_fast_come_out_with_their_own_times(clock: Any) -> None:
    calls = {"slow": lambda: clock.spend(5e-3), "fast": lambda: clock.spend(1e-5)}
    samples = interleaved(calls, Effort(least_rounds=4, seconds=0.0), lambda: None)
    assert samples["slow"] == pytest.approx([5.0] * 4)
    assert samples["fast"] == pytest.approx([0.01] * 4)


def test_each_round_has_every_call_in_turn(clock: Any) -> None:
    said: list[str] = []

    def call(name: str) -> None:
        said.append(name)
        clock.spend(1.0)

    interleaved({name: lambda name=name: call(name) for name in "abc"}, Effort(5, 0.0), lambda: None)
    rounds = ["".join(said[i : i + 3]) for i in range(len(said) - 15, len(said), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len(set(rounds)) > 1


def test_rounds_go_on_until_the_time_is_up(clock: Any) -> None:
    samples = interleaved({"one": lambda: clock.spend(0.1)}, Effort(2, seconds=1.05), lambda: None)
    assert len(samples["one"]) == 11


def test_the_device_is_waited_for(clock: Any) -> None:
    samples = interleaved({"launch": lambda: None}, Effort(3, 0.0), lambda: clock.spend(2e-3))
    assert samples["launch"] == pytest.approx([2.0] * 3)


def test_the_collector_is_put_back_as_it_was(clock: Any) -> None:
    def fail() -> None:
        clock.spend(1.0)
        if not gc.isenabled():
            raise RuntimeError("collector is off")

    with pytest.raises(RuntimeError, match="collector is off"):
        interleaved({"fail": fail}, Effort(1, 0.0), lambda: None)
    assert gc.isenabled()
