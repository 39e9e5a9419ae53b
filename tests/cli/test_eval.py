"""`ganengine eval`: the figures, worked out a second time from what `translate` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Go = Callable[..., Any]

IN_FLOAT32 = ("--precision", "fp32")


def test_l1_and_psnr_are_those_of_the_pictures_that_translate_writes(
    go: Go, trained: Path, pairs: Path, tmp_path: Path
) -> None:
    done = go("eval", trained, "--split", "test", "--metrics", "l1,psnr", "--json", *IN_FLOAT32)
    assert done.status == 0, done.err
    result = json.loads(done.out)
    truths = {}
    (tmp_path / "in").mkdir()
    for path in sorted((pairs / "test").iterdir()):
        with Image.open(path) as picture:
            picture.crop((0, 0, 16, 16)).save(tmp_path / "in" / path.name)
            truths[path.name] = np.asarray(picture.crop((16, 0, 32, 16)), np.float64) / 255
    assert go("translate", trained, tmp_path / "in", tmp_path / "out", "--threads", "1", *IN_FLOAT32).status == 0
    l1, psnr = [], []
    for name, truth in truths.items():
        with Image.open(tmp_path / "out" / name) as picture:
            difference = np.asarray(picture, np.float64) / 255 - truth
        l1.append(np.abs(difference).mean())
        psnr.append(10 * np.log10(1 / (difference**2).mean()))
    assert result["metrics"]["l1"] == {"value": pytest.approx(np.mean(l1), rel=1e-12), "n": 3}
    assert result["metrics"]["psnr"] == {"value": pytest.approx(np.mean(psnr), rel=1e-12), "n": 3}


def test_the_result_says_what_was_measured_and_how(go: Go, trained: Path) -> None:
    result = json.loads(go("eval", trained, "--json", *IN_FLOAT32).out)
    assert result["schema"] == 1
    assert (result["variant"], result["step"], result["images"], result["split"]) == ("pix2pix", 3, 6, "test")
    assert result["run"] == str(trained)
    assert set(result["metrics"]) == {"l1", "psnr"}
    assert "EMA" in result["weights"]
    for word in ("A -> B", "3 pictures of split test", "16 x 16", "8 bits on [0, 1]", "averaged over pictures", "fp32"):
        assert word in result["protocol"]


def test_split_metrics_and_data_can_be_chosen(go: Go, trained: Path, pairs: Path, paint: Callable[..., Path]) -> None:
    train = json.loads(go("eval", trained, "--split", "train", "--metrics", "ssim", "--json", *IN_FLOAT32).out)
    assert train["metrics"].keys() == {"ssim"}
    assert train["metrics"]["ssim"]["n"] == 4
    same = json.loads(go("eval", trained, "--json", *IN_FLOAT32).out)
    given = json.loads(go("eval", trained, pairs, "--json", *IN_FLOAT32).out)
    assert given == same
    again = json.loads(go("eval", trained, "--seed", "5", "--json", *IN_FLOAT32).out)
    assert again["metrics"] != same["metrics"]  # other noise
    running = json.loads(go("eval", trained, "--stats", "running", "--json", *IN_FLOAT32).out)
    assert running["metrics"] != same["metrics"]
    assert "statistics running" in running["protocol"]


def test_a_damaged_picture_is_no_reason_to_measure_others_instead(
    go: Go, trained: Path, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    for number in range(3):
        paint(tmp_path / "test" / f"{number}.png", 32, 16, seed=number)
    whole = (tmp_path / "test" / "1.png").read_bytes()
    (tmp_path / "test" / "1.png").write_bytes(whole[: len(whole) // 2])
    done = go("eval", trained, tmp_path, "--json", *IN_FLOAT32)
    assert (done.status, done.out) == (2, "")
    assert "1.png" in done.err


def test_without_json_there_is_a_table(go: Go, trained: Path) -> None:
    done = go("eval", trained, *IN_FLOAT32)
    assert done.status == 0
    for word in ("l1", "psnr", "pictures"):
        assert word in done.out
