"""The files of a run, written by hand: a report needs no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganengine.plugins import add_path, registry

PIX2PIX = Path(__file__).parents[2] / "plugins" / "ganengine-pix2pix"
CONFIG = "variant: pix2pix\nbatch: 8\nhorizon: 14000\nbetas: [0.5, 0.999]\n"
ENVIRONMENT = {
    "versions": {"torch": "2.13.0+cpu"},
    "device": "cpu",
    "precision": "fp32",
    "parameters": {"G": 10461507, "D": 696225},
    "data": {"fields": {"A": {"kind": "image"}, "B": {"kind": "image"}}},
    "horizon": 14000,
}


def tick(step: int, **changes: Any) -> dict[str, Any]:
    """Return a line of a log as pix2pix writes it."""
    loss = {"d.d": 0.5, "d": 0.5, "g.gan": 1.5, "g.l1": 10 / step, "g": 1.5 + 1000 / step}
    clock = {"elapsed_s": 0.3 * step, "images_per_s": 25.0, "data_wait": 0.001, "memory_mb": 900.0}
    line = {"step": step, "images": 8 * step, "epoch": step / 150, "loss": loss, "lr": {"d": 1e-4, "g": 5e-4}}
    return {**line, "d": {"real": 0.7, "fake": 0.3}, "time": clock, **changes}


def write_log(run: Path, *lines: dict[str, Any] | str) -> None:
    (run / "log.jsonl").write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))


def write_preview(run: Path, images: int, width: int = 40, height: int = 60) -> Path:
    """Write a preview of noise."""
    pixels = np.random.default_rng(images).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = run / "samples" / f"{images:09d}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def _pix2pix() -> None:
    """Have the variant at hand where it is not installed."""
    if "pix2pix" not in registry().entries["variant"]:
        add_path(PIX2PIX)


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run: make_run(name="x", ticks=3, previews=2, config="...")."""

    def make(name: str = "paint", ticks: int = 3, previews: int = 2, config: str = CONFIG) -> Path:
        run = tmp_path / name
        run.mkdir()
        (run / "config.yaml").write_text(config)
        (run / "environment.json").write_text(json.dumps(ENVIRONMENT))
        if ticks:
            write_log(run, *(tick(100 * (number + 1)) for number in range(ticks)))
        for number in range(previews):
            write_preview(run, 800 * number)
        return run

    return make


@pytest.fixture(name="tick")
def _tick() -> Callable[..., dict[str, Any]]:
    return tick


@pytest.fixture(name="write_log")
def _write_log() -> Callable[..., None]:
    return write_log


@pytest.fixture(name="write_preview")
def _write_preview() -> Callable[..., Path]:
    return write_preview
