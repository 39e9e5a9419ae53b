"""A run's log.jsonl, read as columns; what cannot be read is left out and told."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Column: TypeAlias = "list[float | None]"

GROUPS = ("loss", "d", "state", "lr", "time")
"""The mappings of a log line whose numbers are curves."""

BUCKETS = 400
"""A long log is thinned to the extremes of so many stretches: more than a screen shows."""


@dataclass
class History:
    """What a run's log says, a row for each line."""

    step: list[float] = field(default_factory=list)
    images: list[float] = field(default_factory=list)
    epoch: Column = field(default_factory=list)
    skipped: list[float] = field(default_factory=list)
    """Updates left out so far."""
    series: dict[str, dict[str, Column]] = field(default_factory=lambda: {group: {} for group in GROUPS})
    """Values by group and name; None where a line has no finite number."""
    faults: list[str] = field(default_factory=list)
    """What could not be read, as sentences."""

    def __len__(self) -> int:
        return len(self.step)

    def add(self, line: Mapping[str, Any]) -> bool:
        """Add one line; return False if it does not say which step it is of."""
        step, images = number(line.get("step")), number(line.get("images"))
        if step is None or images is None:
            return False
        before = len(self)
        self.step.append(step)
        self.images.append(images)
        self.epoch.append(number(line.get("epoch")))
        self.skipped.append(number(line.get("skipped")) or 0.0)
        for group, columns in self.series.items():
            values = line.get(group)
            for name, value in values.items() if isinstance(values, Mapping) else ():
                if name not in columns:
                    columns[name] = [None] * before
                columns[name].append(number(value))
            for column in columns.values():
                column.extend([None] * (before + 1 - len(column)))
        return True

    def columns(self) -> Iterator[tuple[str, str, Column]]:
        """Iterate over (group, name, values)."""
        for group, columns in self.series.items():
            for name, values in columns.items():
                yield group, name, values


def number(value: Any) -> float | None:
    """Return a finite number as a float, and None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def read_history(path: Path) -> History:
    """Read log.jsonl, which may be missing, damaged, or in the middle of being written."""
    history = History()
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for index, raw in enumerate(lines):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
            good = isinstance(line, dict) and history.add(line)
        except (ValueError, RecursionError):
            good = False
        if not good:
            torn = index == len(lines) - 1  # a whole line ends with a newline
            why = "is cut off: it was being written, or its writer was killed" if torn else "cannot be read"
            history.faults.append(f"Line {index + 1} of {path.name} {why}. It is left out.")
    for group, name, values in history.columns():
        gaps = values.count(None)
        if gaps and group != "lr":  # a phase that was not due has no rate
            history.faults.append(f"{group} {name}: no finite number in {gaps} of {len(values)} lines of the log.")
    return history


def thin(columns: Sequence[Column], rows: int, buckets: int = BUCKETS) -> list[int]:
    """Return the rows to draw: all of a short log; of a long one every column's extremes in each of `buckets`."""
    if rows <= 2 * buckets:
        return list(range(rows))
    kept = {0, rows - 1}
    for bucket in range(buckets):
        span = range(bucket * rows // buckets, (bucket + 1) * rows // buckets)
        for column in columns:
            there = [(value, row) for row in span if (value := column[row]) is not None]
            if there:
                kept |= {min(there)[1], max(there)[1]}
            else:
                kept.add(span[0])  # the gap is to be seen
    return sorted(kept)
