"""Checks that a run can be repeated, and gone on with, bit for bit."""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganengine import checkpoint
from ganengine.config import Budget
from ganengine.plugins import registry
from ganengine.runfolder import RunFolder
from ganengine.testing.subject import Subject, require

STEPS = 5
"""Steps of a run; it is cut in two at an odd one, in the middle of a tick."""

MOST_STEPS = 60
"""A run goes on into the last stage if that takes no more steps than these."""


def is_deterministic(subject: Subject) -> None:
    """Train twice from one seed, with PyTorch's, numpy's and Python's global generators in other states."""
    with tempfile.TemporaryDirectory() as place:
        first = trained(subject, Path(place) / "first", steps(subject), foreign=1)
        second = trained(subject, Path(place) / "second", steps(subject), foreign=2)
        told = difference(first, second)
    require(
        not told,
        f"two runs of one seed differ: {told}. Draw numbers with step.randn, step.rand or step.randint, use the "
        "dropout of ganengine.nn, and leave global generators, clocks and `hash` alone.",
    )


def resumes_exactly(subject: Subject) -> None:
    """Train without a break, and in two parts with everything read back from disk in between."""
    whole = steps(subject)
    with tempfile.TemporaryDirectory() as place:
        unbroken = trained(subject, Path(place) / "unbroken", whole, foreign=1)
        broken = trained(subject, Path(place) / "broken", whole // 2 + 1, whole, foreign=1)
        told = difference(unbroken, broken)
    require(
        not told,
        f"a run that was saved and loaded differs from an unbroken one: {told}. State that is in no parameter, buffer "
        "or Schedule.state is lost: a plain attribute of a module, a closure of a loss or a schedule.",
    )


def steps(subject: Subject) -> int:
    """Return for how long to train: some steps, or as far as into the last stage where that is near."""
    before = [stage for stage in subject.schedule.stages[:-1] if stage.images is not None]
    smallest = min(stage.batch or subject.settings.engine.batch for stage in subject.schedule.stages)
    needed = math.ceil(sum(stage.images or 0 for stage in before) / smallest) + STEPS
    return max(STEPS, min(needed, MOST_STEPS)) | 1


def trained(subject: Subject, place: Path, *legs: int, foreign: int) -> RunFolder:
    """Train to each number of steps in turn, each time in a trainer that knows only what is on disk.

    Args:
        place: folder of the run.
        legs: steps at which a leg ends, counted from the run's beginning.
        foreign: seed of the global generators, which must play no part.
    """
    folder = RunFolder.create(place, subject.variant.name)
    folder.write_config(subject.settings)
    for leg, goal in enumerate(legs):
        random.seed(foreign)
        np.random.seed(foreign)
        torch.manual_seed(foreign)
        with subject.trainer(folder.read_config(registry())) as trainer:
            if leg:
                trainer.load(checkpoint.newest(folder.checkpoints)[0])
            trainer.train(folder, Budget(max_steps=goal))
    return folder


def difference(one: RunFolder, other: RunFolder) -> str:
    """Return in what two runs differ, or "": networks, averages, optimizers, measured state, position, log."""
    a, b = (checkpoint.newest(folder.checkpoints)[0] for folder in (one, other))
    return (
        _differ("networks", a.networks, b.networks)
        or _differ("state", a.state, b.state)
        or _differ("log.jsonl", log_lines(one), log_lines(other))
    )


def log_lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the lines of a run's log without what depends on the clock."""
    lines = [json.loads(line) for line in folder.log.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def _differ(where: str, a: Any, b: Any) -> str:
    """Return the place of the first difference, or ""."""
    if isinstance(a, Mapping) and isinstance(b, Mapping) and list(a) == list(b):
        return next((told for key in a if (told := _differ(f"{where}: {key}", a[key], b[key]))), "")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((told for i, pair in pairs if (told := _differ(f"{where}: {i}", *pair))), "")
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype:
        # Bits, so that NaN equals NaN.
        bits_a, bits_b = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b))
        return "" if torch.equal(bits_a, bits_b) else where
    return "" if repr(a) == repr(b) else where
