"""Quality bar of docs/results.md: default settings, ten minutes of training, each level judged by a classifier.

Run by hand or nightly: pytest -m quality plugins/ganengine-progan. The data sets are small public ones; their folder is
GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
MINUTES = 10


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words, "--plugin", str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.quality
def test_samples_are_better_at_each_level(tmp_path: Path) -> None:
    """The last samples of each level, enlarged to 32 x 32, are nearer to digits than those of the level before."""
    data = DATA / "digits-mnist10k" / "mnist10k.zip"
    if not data.is_file():
        pytest.skip(f"{data} is not there (digits of MNIST in class folders); set GANENGINE_DATA")
    run = tmp_path / "run"
    ganengine("run", "progan", str(data), "--max-minutes", str(MINUTES), "--out", str(run))
    last: dict[int, int] = {}
    for folder in sorted((run / "checkpoints").iterdir()):
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        last[meta["stage"]] = meta["step"]
    found = []
    for level, step in sorted(last.items()):
        words = ("--step", str(step), "--metrics", "fd-judge,coverage", "--samples", "2000", "--json")
        result = json.loads(ganengine("eval", str(run), *words))
        found.append(result["metrics"]["fd-judge"]["value"])
        figures = {name: metric["value"] for name, metric in result["metrics"].items()}
        print(f"digits-mnist10k, level {4 << level} px, {result['images']} images: {figures}")
    assert len(found) == 4, "32 x 32 was not reached in time"
    assert all(later < earlier for earlier, later in pairwise(found)), found
