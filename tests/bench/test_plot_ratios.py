"""The picture of the ratios, from the object that the bench prints."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benches" / "ops" / "plot_ratios.py"


def row(op: str, name: str = "", **others: Any) -> dict[str, Any]:
    known = {"dtype": "float32", "layout": "contiguous", "pass": "forward+backward"}
    return {"op": op, "case": name, "shape": [64, 8], **known, "ratio_eager": 4.0, "ratio_compile": None, **others}


ROWS = [
    row("conditional_batch_norm", "ReLU", layout="channels_last"),
    row("maxout", "layer", ratio_compile=2.0),
    row("null"),
    row("patchgan_loss", dtype="bfloat16"),
    row("patchgan_loss", **{"pass": "forward"}),
    row("patchgan_loss", ratio_eager=None),
]
RECORD = {"schema": 1, "machine": {"cpu": "a processor", "threads": 2, "torch": "2.13"}, "cases": ROWS}


@pytest.fixture
def script() -> Any:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("plot_ratios", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_which_rows_and_what_they_are_called(script: Any) -> None:
    rows = script.wanted(RECORD, "float32", "forward+backward")
    assert [script.label(r) for r in rows] == ["ReLU, 64x8, channels-last", "layer, batch 64"]
    assert script.wanted(RECORD, "bfloat16", "forward") == []


def run(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> int:
    record = tmp_path / "ops.json"
    record.write_text(json.dumps(RECORD), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["plot_ratios.py", str(record), str(tmp_path / "to" / "ops.png"), *words])
    status: int = script.main()
    return status


def test_nothing_to_draw(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    assert run(script, monkeypatch, tmp_path, "--dtype", "bfloat16", "--pass", "forward") == 2
    assert "no fused op was measured in bfloat16, forward" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_a_picture(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra: pip install 'ganengine[report]'")
    assert run(script, monkeypatch, tmp_path) == 0
    with Image.open(tmp_path / "to" / "ops.png") as picture:
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 10
