"""`ganengine sample`: a sheet or single pictures of a trained run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Go = Callable[..., Any]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, to write into."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_sheet_has_a_row_for_each_sample(go: Go, run: Path) -> None:
    done = go("sample", run, "--n", "2")
    assert done.status == 0
    path = Path(done.out.strip())
    assert path.parent == run / "drawn"
    assert pixels(path).shape == (2 * 18 + 2, 3 * 18 + 2, 3)  # input, output, truth; 16 pixels and margins of 2


def test_n_is_at_most_what_the_split_has(go: Go, run: Path, tmp_path: Path) -> None:
    for split, rows in (("train", 4), ("val", 2), ("test", 3)):
        done = go("sample", run, "--n", "16", "--split", split, "--out", tmp_path / split)
        assert pixels(Path(done.out.strip())).shape[0] == rows * 18 + 2


def test_separate_pictures_are_numbered(go: Go, run: Path, tmp_path: Path) -> None:
    done = go("sample", run, "--n", "2", "--separate", "--out", tmp_path / "made")
    assert done.out.strip() == f"2 pictures in {tmp_path / 'made'}"
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["000000.png", "000001.png"]
    sheet = pixels(Path(go("sample", run, "--n", "2").out.strip()))
    for number in range(2):
        top = 2 + 18 * number
        assert np.array_equal(pixels(tmp_path / "made" / f"{number:06d}.png"), sheet[top : top + 16, 20:36])


def test_seed_changes_the_noise_and_nothing_else(go: Go, run: Path, tmp_path: Path) -> None:
    made = [
        pixels(Path(go("sample", run, "--seed", seed, "--out", tmp_path / str(k)).out.strip()))
        for k, seed in enumerate((1, 1, 2))
    ]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0][:, 20:36], made[2][:, 20:36])
    assert np.array_equal(made[0][:, :20], made[2][:, :20])


def test_nothing_is_overwritten_unasked(go: Go, run: Path) -> None:
    assert go("sample", run).status == 0
    refused = go("sample", run)
    assert refused.status == 2
    assert "expected names that are free" in refused.err
    assert go("sample", run, "--overwrite").status == 0
    assert go("sample", run, "--seed", "3").status == 0  # another name


def test_a_damaged_checkpoint_is_passed_over_and_told(go: Go, run: Path) -> None:
    newest = max((run / "checkpoints").iterdir())
    (newest / "networks.safetensors").write_bytes(b"damaged")
    done = go("sample", run)
    assert done.status == 0
    assert f"Passed over a checkpoint: {newest}: networks.safetensors is damaged" in done.err
    assert Path(done.out.strip()).name.startswith("000000000-")
