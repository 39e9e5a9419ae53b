"""`ganengine diagnose d-optimum`: the numbers of theory, and a D that misses them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from ganengine.cli import main
from ganengine.diagnose.d_optimum import optimum


def test_d_reaches_what_theory_states(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra: pip install 'ganengine[report]'")
    out = tmp_path / "plots" / "d.png"
    assert main(["diagnose", "d-optimum", "--json", "--out", str(out)]) == 0
    apart, same = json.loads(capsys.readouterr().out)["cases"]
    assert apart["jsd"] == pytest.approx(0.1114, abs=5e-5)
    assert apart["best"] == {
        "slope": -1.0,
        "intercept": 0.5,
        "loss": pytest.approx(math.log(4) - 2 * apart["jsd"]),
        "deviation": 0.0,
    }
    assert apart["best"]["loss"] == pytest.approx(1.1635, abs=5e-5)
    assert apart["found"]["slope"] == pytest.approx(-1, abs=0.05)
    assert apart["found"]["intercept"] == pytest.approx(0.5, abs=0.05)
    assert 1.1635 - 1e-4 <= apart["found"]["loss"] <= 1.1735
    assert same["found"]["loss"] == pytest.approx(2 * math.log(2), abs=0.01)
    assert same["found"]["deviation"] <= 0.03
    assert apart["missed"] == same["missed"] == []
    with Image.open(out) as picture:
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 10


def test_a_d_that_is_not_trained_misses_it() -> None:
    found = optimum(1.0, steps=2)
    assert {"slope", "intercept", "loss"} <= set(found.missed)
    assert found.found["loss"] > found.best["loss"] + 0.01  # D* is the least


def test_it_repeats_itself() -> None:
    assert optimum(1.0, 3, 20).found == optimum(1.0, 3, 20).found
    assert optimum(1.0, 3, 20).found != optimum(1.0, 4, 20).found


def test_without_matplotlib_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["diagnose", "d-optimum", "--out", str(tmp_path / "d.png")]) == 2
    assert "ganengine[report]" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["d-optimun"], 'expected one of d-optimum, modes, got "d-optimun". Did you mean d-optimum'),
        (["d-optimum", "--mean", "9"], "--mean: expected a number from -4 to 4, got 9.0"),
        (["modes"], "expected names of variants"),
        (["modes", "gan", "--ticks", "0"], "--ticks: expected a number above 0, got 0"),
        (["modes", "gan", "--steps", "5"], "--steps: expected at least --ticks (20), got 5"),
        (["modes", "gam"], 'No variant is called "gam"'),
    ],
)
def test_wrong_use(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *words]) == 2
    assert told in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose"]) == 0
    assert "ganengine diagnose modes NAME" in capsys.readouterr().out
