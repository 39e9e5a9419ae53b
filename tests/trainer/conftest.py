"""The bench for tiny games."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from ganengine.data import Dataset
from ganengine.variant import Schedule, View

from .lab import Lab, Losses, MakeLab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLab]:
    """Make benches, each with a run folder of its own; their threads end with the test."""
    numbers, threads = itertools.count(), torch.get_num_threads()
    with ExitStack() as stack:

        def make(
            networks: Callable[..., Mapping[str, Any]],
            losses: Losses,
            schedule: Schedule,
            *,
            data: Dataset | None = None,
            views: Mapping[str, View] | None = None,
            **options: Any,
        ) -> Lab:
            folder = tmp_path / f"run-{next(numbers)}"
            return Lab(stack, monkeypatch, folder, networks, losses, schedule, data, views or {}, options)

        yield make
    torch.set_num_threads(threads)
