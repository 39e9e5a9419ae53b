"""The bench of the engine's overhead: its hand-written loops train what the engine trains, bit for bit."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benches" / "bench_overhead.py"


def test_the_loops_compute_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ganengine_pix2pix", reason="it trains pix2pix")
    spec = importlib.util.spec_from_file_location("bench_overhead", BENCH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(sys, "argv", ["bench_overhead", "--size", "32", "--filters", "2", "--rounds", "2"])
    bench.main()
    assert "engine minus this: median" in capsys.readouterr().out
