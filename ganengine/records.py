"""What observers of a run receive: plain records, never the trainer's insides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RunRecord:
    """A run starts or goes on."""

    folder: Path
    options: Mapping[str, Any]
    """All options by name, as in config.yaml."""
    step: int
    """0 for a new run."""


@dataclass(frozen=True)
class StepRecord:
    """A step is done. The losses are 0-d tensors on the device: reading one makes the host wait."""

    step: int
    images: int
    losses: Mapping[str, Tensor]


@dataclass(frozen=True)
class TickRecord:
    """A line of log.jsonl is written."""

    folder: Path
    step: int
    images: int
    line: Mapping[str, Any]
    preview: Path | None
    """The picture of this tick, if one was made."""


@dataclass(frozen=True)
class CheckpointRecord:
    """A checkpoint is on disk."""

    path: Path
    step: int


@dataclass(frozen=True)
class EndRecord:
    """A run ends; it can be resumed whatever the reason."""

    folder: Path
    step: int
    images: int
    reason: str
