"""What the benches of the ops share: a case is made ready, and its results compared, before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from ganengine.bench.case import Call, Case
from ganengine.bench.ops import Prepared, measuring, prepare

Start = Callable[[Case, str, str], Call]


def pytest_configure(config: pytest.Config) -> None:
    # Warnings are errors in this project; those of torch.compile's own parts are not ours.
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")


@pytest.fixture(scope="session")
def _prepared() -> Iterator[Callable[[Case], Prepared]]:
    """Make a case ready, and keep the last one: its tests follow one another."""
    last: dict[Case, Prepared] = {}

    def get(case: Case) -> Prepared:
        if case not in last:
            last.clear()
            last[case] = prepare(case, torch.device("cpu"))
        return last[case]

    with measuring():
        yield get


@pytest.fixture
def start(_prepared: Callable[[Case], Prepared], benchmark: pytest.FixtureRequest) -> Start:
    """Return (case, pass, way) -> the call to time; skip where there is none, fail where results differ."""

    def find(case: Case, which: str, way: str) -> Call:
        prepared = _prepared(case)
        assert not prepared.differs, prepared.reasons
        benchmark.group = f"{case}, {which}"
        benchmark.extra_info["max_error"] = prepared.max_error
        benchmark.extra_info["form"] = prepared.forms[which].get(way)
        if way == "floor":
            benchmark.extra_info["times"] = prepared.floor[which].times
            return prepared.floor[which].call
        if way not in prepared.calls[which]:
            pytest.skip("; ".join(prepared.reasons))
        return prepared.calls[which][way]

    return find
