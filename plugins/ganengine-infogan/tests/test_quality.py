"""Quality bars of docs/results.md: default settings, eight minutes of training, with and without information.

Run by hand or nightly: pytest -m quality plugins/ganengine-infogan. The data sets are small public ones; their folder
is GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import torch
from ganengine.data.loader import Loader
from ganengine.data.sources import open_data
from ganengine.plugins import add_path, registry
from ganengine.runfolder import RunFolder
from ganengine.session import data_options
from ganengine.trained import Trained
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
MINUTES = 8
ENTROPY = 2.302585
"""Of one of ten categories, in nats: what a picture can tell at most."""


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words, "--plugin", str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def best_match(table: list[list[int]]) -> int:
    """Return the largest sum of one number from each row, no two in one column: K 2^K steps, in place of K!."""
    best = {0: 0}  # by the columns that are taken, after each row
    for row in table:
        following: dict[int, int] = {}
        for taken, total in best.items():
            for column, count in enumerate(row):
                if not taken >> column & 1:
                    now = taken | 1 << column
                    following[now] = max(following.get(now, -1), total + count)
        best = following
    return max(best.values())


@settings(deadline=None, max_examples=50)
@given(
    table=st.integers(1, 5).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 9), min_size=k, max_size=k), min_size=k, max_size=k)
    )
)
def test_best_match_is_that_of_all_permutations(table: list[list[int]]) -> None:
    places = range(len(table))
    assert best_match(table) == max(sum(table[i][p[i]] for i in places) for p in permutations(places))


def cluster_accuracy(run: Path) -> float:
    """Return the share of real test digits that Q puts into their digit's category, categories named as fits best."""
    add_path(ROOT)
    trained = Trained(RunFolder.open(run), device="cpu", threads=1)
    options = data_options(trained.settings.engine)
    dataset = open_data(str(trained.settings.engine.data), ("real", "label"), options, registry().sources())
    with Loader(dataset, options) as loader:
        batch = loader.fixed("test", dataset.splits["test"])
    D, Q = (trained.sampler.networks[name].eval() for name in "DQ")
    with torch.no_grad():
        found = torch.cat([Q(D(part)[1])[0].argmax(1) for part in batch["real"].split(256)])
    table = torch.zeros(10, 10, dtype=torch.long)
    table.index_put_((found, batch["label"]), torch.ones((), dtype=torch.long), accumulate=True)
    return best_match(table.tolist()) / len(found)


@pytest.mark.quality
def test_the_category_comes_to_be_the_digit(tmp_path: Path) -> None:
    """I(category) is 2.0 of 2.303 nats or more; Q names 60 % of real digits, three times as many as without it."""
    data = DATA / "digits-mnist10k" / "mnist10k.zip"
    if not data.is_file():
        pytest.skip(f"{data} is not there (digits of MNIST in class folders); set GANENGINE_DATA")
    found = {}
    for weight in ("1", "0"):
        run = tmp_path / weight
        weights = ("--lambda-category", weight, "--lambda-codes", weight)
        ganengine("run", "infogan", str(data), "--max-minutes", str(MINUTES), "--out", str(run), *weights)
        line = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        found[weight] = (line["d"]["I(category)"], cluster_accuracy(run))
        told = f"I(category) {found[weight][0]:.3f} of {ENTROPY:.3f} nats, cluster accuracy {found[weight][1]:.3f}"
        print(f"digits-mnist10k, {MINUTES} minutes, lambda {weight}, {line['images']} images: {told}")
    assert found["1"][0] >= 2.0
    assert found["1"][1] >= 0.6
    assert found["1"][1] >= 3 * found["0"][1]
