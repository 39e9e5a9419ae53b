"""Quality bars of docs/results.md: default settings, eight minutes of training, samples judged by a classifier.

Run by hand or nightly: pytest -m quality plugins/ganengine-cgan. The data sets are small public ones; their folder
is GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
MINUTES = 8


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words, "--plugin", str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.quality
def test_samples_are_of_the_class_asked_for(tmp_path: Path) -> None:
    """At least 85 % of 2,000 samples are judged as the class that was asked for, and all ten classes are drawn."""
    data = DATA / "digits-mnist10k" / "mnist10k.zip"
    if not data.is_file():
        pytest.skip(f"{data} is not there (digits of MNIST in class folders); set GANENGINE_DATA")
    run = tmp_path / "run"
    ganengine("run", "cgan", str(data), "--max-minutes", str(MINUTES), "--out", str(run))
    metrics = ("--metrics", "class-accuracy,label-swap,coverage,fd-judge", "--samples", "2000")
    result = json.loads(ganengine("eval", str(run), *metrics, "--baseline", "untrained", "--json"))
    found, before = (
        {name: metric["value"] for name, metric in each["metrics"].items()} for each in (result, result["baseline"])
    )
    print(f"digits-mnist10k, {MINUTES} minutes, {result['images']} images: {found} (untrained: {before})")
    assert found["class-accuracy"] >= 0.85
    assert found["coverage"] == 10
    assert found["fd-judge"] < before["fd-judge"]
