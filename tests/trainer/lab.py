"""A bench for tiny games: networks, losses and a schedule of a few lines, trained by the real engine.

Everything a game needs stands in its own test; a hand calculation stands beside it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganengine import checkpoint
from ganengine.config import Budget, RunOptions, Settings
from ganengine.data import Dataset, Loader
from ganengine.display import Display
from ganengine.hardware import choose
from ganengine.plugins import registry
from ganengine.runfolder import RunFolder
from ganengine.session import data_options
from ganengine.step import Step
from ganengine.testing import Synthetic, synthetic_spec
from ganengine.trainer import Trainer
from ganengine.variant import DataSpec, FieldSpec, Group, Optimizer, Phase, Schedule, Stage, Variant, View

SMALL = RunOptions(
    size=8, batch=4, device="cpu", threads=1, precision="fp32", preview=0, flip=False, tick_every=1,
    checkpoint_every=1_000_000, horizon=1000, ema_images=0,
)  # fmt: skip

Terms = dict[str, Tensor]
Losses = dict[str, Callable[[Step], Terms]]


@dataclass(frozen=True)
class NoOptions:
    """Options of a tiny game."""


class Rows(Dataset):
    """Vectors with numbers of one's own: each field is an array with a row for each sample."""

    def __init__(self, **fields: Any) -> None:
        self.rows = {name: np.asarray(rows, np.float32) for name, rows in fields.items()}
        specs = {
            name: FieldSpec("weight" if name == "weight" else "vector", rows.shape[1:])
            for name, rows in self.rows.items()
        }
        self.spec = DataSpec(specs, len(next(iter(self.rows.values()))))

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        return {name: rows[index] for name, rows in self.rows.items()}


class Scalar(nn.Module):
    """x -> value * x: one weight, in float64 so that a calculation by hand can be met exactly."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.value * x.double()


def sgd(lr: Any, **options: Any) -> Optimizer:
    """Plain gradient descent: what a hand calculation follows."""
    return Optimizer(lr, "sgd", options)


def one_stage(*phases: Phase | Group, **schedule: Any) -> Schedule:
    """A schedule of one stage; `averaged` is empty unless stated."""
    return Schedule((Stage(tuple(phases)),), **{"averaged": (), **schedule})


class Lab:
    """One tiny game in one run folder.

    Args:
        folder: where the run goes.
        networks: (config, data_spec, stage) -> networks.
        options: of the engine; what is left open is small and on one thread.
    """

    def __init__(
        self,
        stack: ExitStack,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
        networks: Callable[..., Mapping[str, Any]],
        losses: Losses,
        schedule: Schedule,
        data: Dataset | None,
        views: Mapping[str, View],
        options: Mapping[str, Any],
    ) -> None:
        self._stack, self.path = stack, folder
        module = ModuleType("tiny_game")
        vars(module).update(
            networks=networks,
            losses=lambda config: losses,
            schedule=lambda config: schedule,
            views=lambda config: dict(views),
        )
        monkeypatch.setitem(sys.modules, module.__name__, module)
        builders = {what: f"{module.__name__}:{what}" for what in Variant.BUILDERS}
        engine = dataclasses.replace(SMALL, **options)
        self.dataset = data or Synthetic(synthetic_spec(("real",), engine.size or 8))
        variant = Variant("tiny", "a tiny game", NoOptions, fields=tuple(self.dataset.spec.fields), **builders)
        self.settings = Settings(variant, engine, NoOptions())
        self.hardware = choose(engine)

    def trainer(self) -> Trainer:
        """Build a trainer at step 0."""
        loader = self._stack.enter_context(Loader(self.dataset, data_options(self.settings.engine)))
        return Trainer(self.settings, self.dataset, loader, self.hardware, registry(), Display(quiet=True))

    def run(self, steps: int | None = None, **budget: Any) -> Trainer:
        """Train to so many steps, counted from the beginning, in a new trainer that goes on from what is on disk."""
        trainer = self.trainer()
        if self.path.exists():
            folder = RunFolder(self.path)
            trainer.load(checkpoint.newest(folder.checkpoints)[0])
        else:
            folder = RunFolder.create(self.path, "tiny")
        trainer.train(folder, Budget(max_steps=steps, **budget))
        return trainer

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log without what depends on the clock; strict JSON."""
        return log_of(self.path)

    @property
    def saved(self) -> checkpoint.Checkpoint:
        """The newest checkpoint."""
        return checkpoint.newest(self.path / "checkpoints")[0]

    def files(self) -> dict[str, Any]:
        """Everything that two equal runs have in common, bytes where they are files."""
        return {**final_files(self.path), "log": self.log}


def final_files(run: Path) -> dict[str, bytes]:
    """Return the newest checkpoint's networks and state, as bytes."""
    newest = checkpoint.listed(run / "checkpoints")[0]
    return {name: (newest / name).read_bytes() for name in ("networks.safetensors", "state.pt")}


def log_of(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log without what depends on the clock; strict JSON."""
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


MakeLab = Callable[..., Lab]


def values(trainer: Trainer) -> dict[str, float]:
    """Return the one weight of each network."""
    return {name: float(next(iter(net.parameters())).detach()) for name, net in trainer.players.networks.items()}


def bits(tensors: Iterable[Tensor]) -> list[bytes]:
    """Return the bytes of tensors."""
    return [tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in tensors]
