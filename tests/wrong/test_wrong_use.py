"""Wrong use: status 2, one message on standard error that helps, no traceback, nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from ganengine.plugins import registry

from . import data, files, importing, others, plugins, run, runs, using

TABLES = (run, files, data, runs, using, importing, plugins, others)
CASES = [(line, message) for table in TABLES for line, message in table.WRONG.items()]
LEAST = 200
"""So many different ones were asked for."""


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line.replace(run.SMALL, "...")[:100] for line, _ in CASES])
def test_wrong_use(line: str, message: str, wrong: Callable[..., str]) -> None:
    told = wrong(line)
    assert message in told


def test_there_are_as_many_as_were_asked_for_and_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line, _ in CASES]
    assert len(set(lines)) == len(lines) >= LEAST
    known = set(registry().entries["command"])
    commands = Counter(word if (word := line.split()[0]) in known else "(none such)" for line in lines)
    assert known <= set(commands)
    with capsys.disabled():
        print("\nwrong use:", ", ".join(f"{name} {count}" for name, count in commands.most_common()), f"= {len(lines)}")
