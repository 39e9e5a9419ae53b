"""One run, killed again and again at random moments, ends as one that nobody touched: benches/kill_fifty.py."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benches" / "kill_fifty.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL of Unix")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what kills."""
    spec = importlib.util.spec_from_file_location("kill_fifty", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module.play


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.quality)])
def test_kills_at_random_moments_leave_no_trace(play: Any, tmp_path: Path, kills: int) -> None:
    deaths, differ = play(tmp_path, kills, seed=os.getpid())
    assert len(deaths) == kills
    assert differ == []
    assert sum(death.left == "a checkpoint" for death in deaths) >= kills // 8, "some in the middle of a checkpoint"
