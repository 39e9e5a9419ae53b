"""The variant under test at its smallest form, and what the checks build from it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ganengine import ops
from ganengine.config import Settings, parse
from ganengine.data.dataset import Dataset
from ganengine.data.loader import Loader
from ganengine.display import Display
from ganengine.hardware import Hardware, choose
from ganengine.plan import schedule_of
from ganengine.players import Players
from ganengine.plugins import registry
from ganengine.session import data_options, open_dataset
from ganengine.testing.data import Synthetic, synthetic_spec
from ganengine.trainer import Trainer
from ganengine.variant import Schedule, Variant

SMALL: Mapping[str, Any] = {"size": 32, "batch": 4}
"""Options for what `Variant.smallest` leaves open."""

FIXED: Mapping[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "precision": "fp32",
    "preview": 2,
    "tick-every": 2,
    "checkpoint-every": 1_000_000,
}
"""Options of every check."""


def require(fact: bool, message: str) -> None:
    """Raise an AssertionError with `message` unless `fact`; also where Python leaves out assert statements."""
    if not fact:
        raise AssertionError(message)


@contextmanager
def machine_kept() -> Iterator[None]:
    """Leave the process as it was: threads, mode of the ops, global generators."""
    threads, mode, numbers, arrays = torch.get_num_threads(), ops.mode(), random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            ops.set_mode(mode)
            random.setstate(numbers)
            np.random.set_state(arrays)


class Subject:
    """One variant with its smallest options; data and trainers are made when they are asked for.

    Args:
        name: of an installed variant.
        data: what to train on, or the user's word for it; None: synthetic data.

    Raises:
        PluginError: there is no variant of that name.
    """

    def __init__(self, name: str, data: Dataset | str | None) -> None:
        self.variant: Variant = registry().variant(name)
        self.origin = registry().entries["variant"][name].origin
        self._data = data

    @cached_property
    def settings(self) -> Settings:
        """All options, through the parser of the command line."""
        smallest = {name.replace("_", "-"): value for name, value in self.variant.smallest.items()}
        preset = {"smallest": {**SMALL, **smallest, **FIXED}}
        settings = parse(dataclasses.replace(self.variant, presets=preset), ["--preset", "smallest"], self.variant.name)
        return dataclasses.replace(settings, variant=self.variant)

    @cached_property
    def dataset(self) -> Dataset:
        """What is trained on."""
        engine = self.settings.engine
        if isinstance(self._data, str):
            return open_dataset(self.variant, dataclasses.replace(engine, data=self._data), registry())[0]
        if self._data is not None:
            return self._data
        count = max(16, 2 * engine.batch)
        return Synthetic(synthetic_spec(self.variant.fields, engine.size or SMALL["size"], count))

    @cached_property
    def hardware(self) -> Hardware:
        """One thread of the CPU in float32."""
        return choose(self.settings.engine)

    @cached_property
    def schedule(self) -> Schedule:
        """The game."""
        return schedule_of(self.settings)

    @contextmanager
    def loader(self) -> Iterator[Loader]:
        """Open a loader."""
        with Loader(self.dataset, data_options(self.settings.engine)) as loader:
            yield loader

    @contextmanager
    def trainer(self, settings: Settings | None = None) -> Iterator[Trainer]:
        """Build a trainer at step 0 that shows nothing."""
        with self.loader() as loader:
            settings = settings or self.settings
            yield Trainer(settings, self.dataset, loader, self.hardware, registry(), Display(quiet=True))

    def players(self, stage: int) -> Players:
        """Build the networks and optimizers of one stage."""
        classes = {name: entry.record.load() for name, entry in registry().entries["optimizer"].items()}
        return Players(self.settings, self.dataset.spec, self.schedule, stage, self.hardware, classes)
