"""Whole runs: fused ops train like their references, pools resume exactly, both directions are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ganengine import ops
from ganengine.cli import main
from ganengine.plugins import add_path
from PIL import Image
from safetensors.torch import load_file

TINY = (
    *("--size", "16", "--batch", "2", "--g-filters", "4", "--d-filters", "4", "--receptive-field", "16"),
    *("--blocks", "1", "--threads", "1", "--precision", "fp32", "--preview", "0", "--tick-every", "5"),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of coloured squares (A) and the same turned to their complement (B)."""
    add_path(Path(__file__).parents[1])  # does nothing where it is installed
    draw = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 8), ("test", 3)):
        (folder / split).mkdir()
        for index in range(count):
            drawing = np.kron(draw.integers(0, 256, (4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
            Image.fromarray(np.concatenate((drawing, 255 - drawing), 1)).save(folder / split / f"{index}.png")
    return folder


def train(pictures: Path, out: Path, *options: str) -> Path:
    before = ops.mode()
    try:
        assert main(["run", "cyclegan", str(pictures), "--out", str(out), *TINY, *options]) == 0
    finally:
        ops.set_mode(before)
    return out


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.skipif(
    not all(kernel.compiled for kernel in ops.kernels() if kernel.device == "cpu"), reason="no compiled CPU kernels"
)
@pytest.mark.parametrize("adversarial", ["ls", "nonsaturating"])
def test_fused_and_reference_ops_train_alike(pictures: Path, tmp_path: Path, adversarial: str) -> None:
    curves = []
    # Rounding differs, and Adam makes whole steps of the smallest gradients: small steps keep that small.
    slow = ("--lr", "2e-5", "--d-lr", "2e-5")
    for mode in ("fused", "reference"):
        options = ("--ops", mode, "--adversarial", adversarial, "--max-steps", "20", *slow)
        lines = log(train(pictures, tmp_path / mode, *options))
        curves.append([{**line["loss"], **{f"D({k})": v for k, v in line["d"].items()}} for line in lines])
    fused, reference = curves
    assert len(fused) == len(reference) == 4
    for mine, theirs in zip(fused, reference, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-3)
    assert fused[-1]["g"] < fused[0]["g"]
    assert set(fused[0]) == {
        *("g", "g.gan_A", "g.gan_B", "g.cycle_A", "g.cycle_B", "d", "d.A", "d.B", "D(real)", "D(fake)"),
        *("D(real_A)", "D(fake_A)", "D(real_B)", "D(fake_B)"),
    }


def test_a_resumed_run_has_the_bytes_of_an_unbroken_one(pictures: Path, tmp_path: Path) -> None:
    budget = ("--pool", "5", "--checkpoint-every", "4")
    unbroken = train(pictures, tmp_path / "unbroken", *budget, "--max-steps", "8")
    broken = train(pictures, tmp_path / "broken", *budget, "--max-steps", "4")
    assert main(["resume", str(broken), "--max-steps", "8"]) == 0
    files = [f"checkpoints/step-000000008/{name}" for name in ("networks.safetensors", "state.pt")]
    for file in files:
        assert (broken / file).read_bytes() == (unbroken / file).read_bytes(), file
    networks = load_file(unbroken / files[0])
    for side in "AB":
        assert networks[f"pool_{side}/images"].shape == (5, 3, 16, 16)
        assert int(networks[f"pool_{side}/count"]) == 5
    assert not np.array_equal(networks["pool_A/images"].numpy(), networks["pool_B/images"].numpy())
    assert {name.partition("/")[0] for name in networks} == {
        *("G", "F", "D_A", "D_B", "pool_A", "pool_B", "G_ema", "F_ema"),
    }


def test_a_run_is_used_and_measured_in_both_directions(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(pictures, tmp_path / "run", "--max-steps", "2", "--adversarial", "nonsaturating", "--lambda-cycle", "0")
    assert not any("cycle" in name for line in log(run) for name in line["loss"])
    figures = {}
    for view, protocol in (("AtoB", "A -> B"), ("BtoA", "B -> A"), ("AtoBtoA", "A -> A"), ("BtoAtoB", "B -> B")):
        capsys.readouterr()
        assert main(["eval", str(run), "--view", view, "--metrics", "l1,psnr", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["protocol"].startswith(f"{protocol}, 3 pictures of split test")
        figures[view] = result["metrics"]["l1"]["value"]
        assert result["metrics"]["psnr"]["n"] == 3
        Image.new("RGB", (21, 13), "red").save(tmp_path / "in.png")
        out = tmp_path / f"{view}.png"
        assert main(["translate", str(run), str(tmp_path / "in.png"), str(out), "--view", view]) == 0
        with Image.open(out) as picture:
            assert picture.size == (21, 13)
    assert len(set(figures.values())) == 4
    for view in ("strips", "identity"):
        out = tmp_path / f"{view}-sheet"
        assert main(["sample", str(run), "--view", view, "--n", "2", "--out", str(out)]) == 0
        assert list(out.glob("*.png"))
