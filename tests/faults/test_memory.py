"""Memory stays flat: what a step, a tick, a preview and a checkpoint take is given back."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganengine.runfolder import RunFolder

STATM = Path("/proc/self/statm")

pytestmark = pytest.mark.skipif(not STATM.exists(), reason="only Linux tells the memory that a process holds now")


def held() -> float:
    """Return the MiB of memory that this process holds."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def measure(start: Any, out: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Train and return the MiB held at every hundredth step."""
    append, found = RunFolder.append_log, {}

    def watched(self: RunFolder, line: Any) -> None:
        if line["step"] % 100 == 0:
            found[line["step"]] = held()
        append(self, line)

    monkeypatch.setattr(RunFolder, "append_log", watched)
    done = start(out, steps, "--tick-every", 20, "--checkpoint-every", 50)
    assert done.status == 0, done.err
    return found


def test_memory_stays_flat(start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(start, tmp_path / "run", 300, monkeypatch)
    assert found[300] - found[100] < 1.0


@pytest.mark.quality
def test_memory_stays_flat_over_two_thousand_steps(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measure(start, tmp_path / "run", 2000, monkeypatch)
    print({step: round(mib, 1) for step, mib in found.items() if step % 200 == 0})
    assert found[2000] - found[200] < 1.0
