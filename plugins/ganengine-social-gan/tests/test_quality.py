"""Quality bars of docs/results.md: default settings, five minutes of training, forecasts against walking straight on.

Run by hand or nightly: pytest -m quality plugins/ganengine-social-gan. The data sets are small public ones; their
folder is GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ganengine.data import DataOptions, crossings

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
MINUTES = 5


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words, "--plugin", str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measured(run: Path, *words: str) -> tuple[dict[str, float], dict[str, float], int]:
    """Return the figures of a run, those of constant velocity, and how many scenes it has seen."""
    result: dict[str, Any] = json.loads(ganengine("eval", str(run), *words, "--json"))
    found, straight = (
        {name: metric["value"] for name, metric in each["metrics"].items()} for each in (result, result["baseline"])
    )
    return found, straight, result["images"]


@pytest.mark.quality
def test_crossings(tmp_path: Path) -> None:
    """The best of 20 futures is nearer than constant velocity; with k = 20 they spread wider than with k = 1."""
    found = {}
    for k in (20, 1):
        run = tmp_path / f"k{k}"
        ganengine("run", "social-gan", "--variety-k", str(k), "--max-minutes", str(MINUTES), "--out", str(run))
        found[k], straight, images = measured(run)
        print(f"crossings, k = {k}, {MINUTES} minutes, {images} scenes: {found[k]} (constant velocity: {straight})")
        assert found[k]["ade"] < straight["ade"]
    assert found[20]["spread"] > found[1]["spread"]

    # The same scenes in another order, and their people too: nothing changes but rounding.
    data = crossings.build("1", DataOptions())
    source = np.random.default_rng(0)
    tables = {}
    for name, order in (("plain", np.arange(500)), ("shuffled", source.permutation(500))):
        lines = ["split,scene,track,step,x,y"]
        for scene in order:
            paths = data.scenes["test"][scene]
            for person in range(len(paths)) if name == "plain" else source.permutation(len(paths)):
                lines += [
                    f"test,{scene},{scene}-{person},{step},{x!r},{y!r}"
                    for step, (x, y) in enumerate(paths[person].tolist())
                ]
        tables[name] = tmp_path / name / "tracks.csv"
        tables[name].parent.mkdir()
        tables[name].write_text("\n".join(lines), encoding="utf-8")
    plain, shuffled = (measured(tmp_path / "k20", str(table))[0] for table in tables.values())
    print(f"crossings, scenes and people in another order: {plain} {shuffled}")
    assert shuffled == pytest.approx(plain, rel=1e-5)


@pytest.mark.quality
def test_storms(tmp_path: Path) -> None:
    """Of storm tracks, without pooling, the best of 20 futures is nearer than constant velocity."""
    data = DATA / "tracks-storms"
    if not data.is_dir():
        pytest.skip(f"{data} is not there (tracks of Atlantic storms); set GANENGINE_DATA")
    run = tmp_path / "run"
    minutes = str(MINUTES)
    ganengine("run", "social-gan", str(data), "--pooling", "none", "--max-minutes", minutes, "--out", str(run))
    found, straight, images = measured(run)
    print(f"tracks-storms, {minutes} minutes, {images} windows: {found} km (constant velocity: {straight})")
    assert found["ade"] < straight["ade"]
