"""Quality bars of docs/results.md: default settings, minutes of training, figures on the test split.

Run by hand or nightly: pytest -m quality -s plugins/ganengine-cyclegan. The folder of the data sets is GANENGINE_DATA,
or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ganengine.metrics.judge import Labelled, reduced, train_judge
from PIL import Image

DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
MINUTES = 10


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def l1(run: Path, view: str) -> float:
    """Return the L1 distance on [0, 1] between what a view gives and its truth, over the test split."""
    result = json.loads(ganengine("eval", str(run), "--split", "test", "--view", view, "--metrics", "l1", "--json"))
    return float(result["metrics"]["l1"]["value"])


@pytest.mark.quality
def test_icons_shuffled(tmp_path: Path) -> None:
    """Phosphor icons, outline and filled, 64 pixels: two sets in training, pairs for the figures."""
    data = DATA / "icons-outline2filled"
    if not data.is_dir():
        pytest.skip(f"{data} is not there (Phosphor icons, @phosphor-icons/core 2.1.1); set GANENGINE_DATA")
    run, without = tmp_path / "run", tmp_path / "without"
    ganengine("run", "cyclegan", str(data), "--max-minutes", str(MINUTES), "--out", str(run))
    images = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["images"]
    ganengine("run", "cyclegan", str(data), "--max-images", str(images), "--out", str(without), "--lambda-cycle", "0")
    there, back = l1(run, "AtoB"), l1(run, "BtoA")
    cycles = [(l1(run, view), l1(without, view)) for view in ("AtoBtoA", "BtoAtoB")]
    copied = copying_the_input(data / "test")
    print(f"icons, {MINUTES} minutes, {images} images: L1 A to B {there:.4f}, B to A {back:.4f}", end=" ")
    print(f"(copying the input: {copied:.4f});", end=" ")
    print("cycle", ", ".join(f"{own:.4f} (without the cycle loss: {bare:.4f})" for own, bare in cycles))
    assert max(there, back) < copied
    for own, bare in cycles:
        assert own <= 0.5 * bare


def copying_the_input(folder: Path) -> float:
    """L1 of B = A, the baseline that any translator must beat; A = B has the same."""
    gaps = []
    for path in sorted(folder.glob("*.png")):
        pair = np.asarray(Image.open(path)).astype(np.float64) / 255
        gaps.append(np.abs(pair[:, : pair.shape[1] // 2] - pair[:, pair.shape[1] // 2 :]).mean())
    return float(np.mean(gaps))


@pytest.mark.quality
def test_emoji_change_their_style(tmp_path: Path) -> None:
    """Flat and three-dimensional emoji, 64 pixels: a classifier of the two takes outputs for the target's style."""
    data = DATA / "emoji-unpaired-flat-3d"
    if not data.is_dir():
        pytest.skip(f"{data} is not there (Twemoji and Fluent Emoji: trainA, trainB, testA, testB); set GANENGINE_DATA")
    run = tmp_path / "run"
    ganengine("run", "cyclegan", str(data), "--size", "64", "--max-minutes", str(MINUTES), "--out", str(run))
    judge = train_judge(styles(data, "train"), styles(data, "test"), 2)
    print(f"emoji, {MINUTES} minutes; the classifier is right on {judge.accuracy:.3f} of {judge.held_out}", end="")
    shares = []
    for source, target in (("A", "B"), ("B", "A")):
        out = tmp_path / target
        words = ("--view", f"{source}to{target}")
        ganengine("translate", str(run), str(data / f"test{source}"), str(out), *words)
        found = judge.look(pictures(out)).classes
        shares.append(float((found == "AB".index(target)).double().mean()))
        print(f"; {source} to {target}: {shares[-1]:.3f} taken for {target}", end="")
    assert judge.accuracy >= 0.9
    assert min(shares) >= 0.8


def styles(data: Path, split: str) -> Labelled:
    """Return the pictures of a split, with label 0 for A and 1 for B."""
    sides = [pictures(data / f"{split}{side}") for side in "AB"]
    return Labelled(torch.cat(sides), torch.arange(2).repeat_interleave(torch.tensor([len(side) for side in sides])))


def pictures(folder: Path) -> torch.Tensor:
    """Return all pictures of a folder on white, 64 x 64, in [-1, 1]."""
    found = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            drawn = picture.convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            small = Image.alpha_composite(white, drawn).convert("RGB").resize((64, 64), Image.Resampling.BOX)
            found.append(torch.from_numpy(np.array(small)).movedim(-1, 0) / 127.5 - 1)
    return reduced(torch.stack(found))
