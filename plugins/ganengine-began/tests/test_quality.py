"""Quality bars of docs/results.md: digits of 32 pixels, ten minutes of training for each of three diversity ratios.

Run by hand or nightly: pytest -m quality plugins/ganengine-began. The data sets are small public ones; their folder is
GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from ganengine.plugins import add_path
from ganengine.runfolder import RunFolder
from ganengine.trained import Trained

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
MINUTES = 10
BURN_IN = 0.5
"""Share of the steps that the balance may take to settle."""
SAMPLES = 512


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words, "--plugin", str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def trained(data: Path, run: Path, gamma: float) -> list[dict[str, Any]]:
    """Train with a diversity ratio and return the lines of the log."""
    words = ("--size", "32", "--gamma", str(gamma), "--max-minutes", str(MINUTES), "--tick-every", "50")
    ganengine("run", "began", str(data), *words, "--out", str(run))
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def variance(run: Path) -> float:
    """Return the mean variance of a pixel over samples, on [-1, 1]."""
    add_path(ROOT)
    sampler = Trained(RunFolder.open(run), device="cpu").sampler
    view = sampler.view("sample")
    return float(sampler.sample(view, sampler.latents(view, SAMPLES)).var(0).mean())


@pytest.mark.quality
def test_m_falls_the_ratio_is_held_and_gamma_is_diversity(tmp_path: Path) -> None:
    """M falls by half, E R(G(z)) / E R(x) comes within 0.1 of gamma, and a larger gamma makes samples vary more."""
    data = DATA / "digits-mnist10k" / "mnist10k.zip"
    if not data.is_file():
        pytest.skip(f"{data} is not there (digits of MNIST in class folders); set GANENGINE_DATA")
    lines, spread = {}, {}
    for gamma in (0.5, 0.3, 0.7):
        lines[gamma] = trained(data, tmp_path / f"{gamma}", gamma)
        spread[gamma] = variance(tmp_path / f"{gamma}")
    m = [line["d"]["M"] for line in lines[0.5]]
    settled = lines[0.5][int(BURN_IN * len(m)) :]
    ratio = fmean(line["d"]["fake"] for line in settled) / fmean(line["d"]["real"] for line in settled)
    images = {gamma: each[-1]["images"] for gamma, each in lines.items()}
    print(
        f"digits-mnist10k at 32, {MINUTES} minutes, images {images}: M {m[0]:.4f} in the first 50 steps, {m[-1]:.4f} "
        f"in the last; E R(G(z)) / E R(x) {ratio:.3f} for gamma 0.5; variance of a pixel {spread}"
    )
    assert m[-1] <= 0.5 * m[0]
    assert ratio == pytest.approx(0.5, abs=0.1)
    assert spread[0.7] > spread[0.3]
