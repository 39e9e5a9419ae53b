"""Quality bars of docs/results.md: default settings, minutes of training, figures on the test split.

Run by hand or nightly: pytest -m quality plugins/ganengine-pix2pix. The data sets are small public ones; their folder
is GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")

BARS = [
    # folder, where it comes from, minutes, highest L1, lowest PSNR in dB
    ("icons-outline2filled", "Phosphor icons, @phosphor-icons/core 2.1.1, 64 pixels", 2, 0.120, 12.8),
    ("sketch2colour-openmoji", "OpenMoji 17, black and colour SVGs, 128 pixels", 5, 0.068, 16.6),
]


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.quality
@pytest.mark.parametrize(("folder", "source", "minutes", "most_l1", "least_psnr"), BARS)
def test_bar(folder: str, source: str, minutes: int, most_l1: float, least_psnr: float, tmp_path: Path) -> None:
    data = DATA / folder
    if not data.is_dir():
        pytest.skip(f"{data} is not there ({source}); set GANENGINE_DATA")
    run = tmp_path / "run"
    ganengine("run", "pix2pix", str(data), "--max-minutes", str(minutes), "--out", str(run))
    result = json.loads(ganengine("eval", str(run), "--split", "test", "--metrics", "l1,psnr", "--json"))
    l1, psnr = (result["metrics"][name]["value"] for name in ("l1", "psnr"))
    copied_l1, copied_psnr = copying_the_input(data / "test")
    print(f"{folder}, {minutes} minutes, {result['images']} images: L1 {l1:.4f}, PSNR {psnr:.2f} dB", end=" ")
    print(f"(copying the input: {copied_l1:.4f}, {copied_psnr:.2f} dB)")
    assert (l1, -psnr) <= (copied_l1, -copied_psnr)
    assert l1 <= most_l1
    assert psnr >= least_psnr


def copying_the_input(folder: Path) -> tuple[float, float]:
    """L1 and PSNR of B = A, the baseline that any translator must beat."""
    l1, psnr = [], []
    for path in sorted(folder.glob("*.png")):
        pair = np.asarray(Image.open(path)).astype(np.float64) / 255
        gap = pair[:, : pair.shape[1] // 2] - pair[:, pair.shape[1] // 2 :]
        l1.append(np.abs(gap).mean())
        psnr.append(min(100.0, -10 * np.log10(np.square(gap).mean())) if gap.any() else 100.0)
    return float(np.mean(l1)), float(np.mean(psnr))
