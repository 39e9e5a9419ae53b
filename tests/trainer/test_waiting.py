"""Data arrive as the step takes them, and the share of time that it waits for them is told."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from ganengine.config import Budget
from ganengine.data import Loader
from ganengine.display import Display
from ganengine.plugins import registry
from ganengine.runfolder import RunFolder
from ganengine.session import Session, data_options
from ganengine.testing.subject import Subject
from ganengine.trainer import Trainer
from ganengine.variant import Optimizer, Phase

from .lab import MakeLab, one_stage


@pytest.mark.parametrize(("waited", "told"), [(0.25, "25% waiting for data"), (0.001, "")])
def test_the_share_of_waiting_is_in_the_log_and_on_the_line(
    lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: float, told: str
) -> None:
    monkeypatch.setattr("ganengine.clock.time.monotonic", lambda: 1000.0)
    losses = {"d": lambda step: {"d": step.D(step.batch.real.flatten(1)).mean(1)}}
    schedule = one_stage(Phase("d", ("D",), "d", "d"), optimizers={"d": Optimizer(1e-3)})
    game = lab(lambda *_: {"D": nn.Linear(192, 1)}, losses, schedule)
    shown = io.StringIO()
    with Loader(game.dataset, data_options(game.settings.engine)) as loader:
        display = Display(Console(file=shown, width=300))
        trainer = Trainer(game.settings, game.dataset, loader, game.hardware, registry(), display)
        monkeypatch.setattr("ganengine.clock.Clock.here", lambda self: 8.0)
        monkeypatch.setattr("ganengine.data.loader.time.perf_counter", lambda: 0.0)
        loader.waited_s = 8 * waited
        folder = RunFolder.create(tmp_path / "run", "tiny")
        trainer.train(folder, Budget(max_steps=1))
    (line,) = (json.loads(text) for text in (folder.path / "log.jsonl").read_text().splitlines())
    assert line["time"]["data_wait"] == waited
    (progress,) = (text for text in shown.getvalue().splitlines() if "iter 1]" in text)
    assert progress.endswith(f" images/s, {told})" if told else " images/s)")


@pytest.mark.parametrize("channels_last", ["auto", "off"])
def test_batches_come_in_the_memory_format_of_the_networks(channels_last: str) -> None:
    if "dcgan" not in registry().entries["variant"]:
        pytest.skip("dcgan is not installed")
    settings = Subject("dcgan", None).settings
    engine = dataclasses.replace(settings.engine, data="captioned-glyphs:16", channels_last=channels_last, preview=0)
    with Session.new(dataclasses.replace(settings, engine=engine), Display(quiet=True)) as session:
        pictures = session.loader.draw(0, 2, size=8)["real"]
    assert pictures.shape[1] == 3
    assert pictures.is_contiguous(memory_format=torch.channels_last) == (channels_last == "auto")
