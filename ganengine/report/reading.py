"""A run as a report sees it: everything is read from its files, and what cannot be read is told."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ganengine.errors import UserError
from ganengine.losses.equilibrium import equilibrium
from ganengine.plugins import registry
from ganengine.report.charts import Lines
from ganengine.report.frames import BUDGET, COUNT, Frame, read_frames
from ganengine.report.history import History, number, read_history
from ganengine.runfolder import RunFolder
from ganengine.variant import Variant


@dataclass(frozen=True)
class Reading:
    """What the files of one run say."""

    folder: RunFolder
    options: Mapping[str, Any]
    """config.yaml."""
    environment: Mapping[str, Any]
    """environment.json; empty where it cannot be read."""
    history: History
    frames: list[Frame]
    previews: int
    """How many previews there are in all."""
    variant: Variant | None
    """None where it is not installed here, or lacks one of the options."""
    lines: Lines
    """Where curves stand at equilibrium."""
    warnings: list[str]
    notes: list[str]
    """What the user was told while it trained."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.path.resolve().name

    @property
    def images(self) -> float:
        """Images shown by the last line of the log."""
        return self.history.images[-1] if self.history.images else 0.0

    @property
    def horizon(self) -> float | None:
        """Images that the run is planned for, where that is known."""
        return number(self.environment.get("horizon")) or number(self.options.get("horizon"))

    def last(self, column: str) -> float | None:
        """Return the last number of a column of the log's `time`."""
        return next((v for v in reversed(self.history.series["time"].get(column, [])) if v is not None), None)


def read_run(folder: RunFolder, frames: int = COUNT, budget: int = BUDGET) -> Reading:
    """Read a run, which may be under way.

    Args:
        folder: the run.
        frames: at most so many previews.
        budget: bytes that they may take together.

    Raises:
        UserError: config.yaml is damaged.
    """
    options = folder.read_options()
    history = read_history(folder.log)
    pictures, previews, faults = read_frames(folder.samples, frames, budget)
    environment, told = _environment(folder)
    variant, lines, more = _variant(folder, options)
    return Reading(
        folder=folder,
        options=options,
        environment=environment,
        history=history,
        frames=pictures,
        previews=previews,
        variant=variant,
        lines=lines,
        warnings=[*_skipped(history), *history.faults, *faults, *told, *more],
        notes=_notes(folder),
    )


def _environment(folder: RunFolder) -> tuple[dict[str, Any], list[str]]:
    path = folder.path / "environment.json"
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ["environment.json is missing: what the run was trained on is not known."]
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return {}, ["environment.json is damaged: what the run was trained on is not known."]
    return record, []


def _notes(folder: RunFolder) -> list[str]:
    """Return what the user was told meanwhile."""
    found = []
    for raw in folder.notes.read_bytes().splitlines() if folder.notes.is_file() else ():
        with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError):
            note = json.loads(raw)
            found.append(f"Step {note['step']}: {note['text']}")
    return found


def _variant(folder: RunFolder, options: Mapping[str, Any]) -> tuple[Variant | None, Lines, list[str]]:
    """Return the run's variant where it is installed, the lines of equilibrium, and why they are not known."""
    by_name = equilibrium(str(options.get("adversarial")))
    level = None if by_name is None else by_name.reading
    lines: Lines = {} if level is None else {"d": {"real": level, "fake": level}}
    try:
        # A parser that does not know an option of the run prints its usage.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            settings = folder.read_config(registry())
    except (UserError, SystemExit):
        named = options["variant"]
        return None, lines, [f"Variant {named} with these options is not installed here: some lines may be missing."]
    variant = settings.variant
    if variant.equilibrium is None:
        return variant, lines, []
    try:
        stated = variant.builder("equilibrium")(settings.config)
        lines = {
            group: {name: float(value) for name, value in stated[group].items()}
            for group in ("loss", "d")
            if group in stated
        }
    except Exception as error:  # a plugin's code may raise anything
        return variant, lines, [f"Variant {variant.name}: its lines of equilibrium failed ({error})."]
    return variant, lines, []


def _skipped(history: History) -> list[str]:
    last = history.skipped[-1] if history.skipped else 0
    if not last:
        return []
    first = next(step for step, count in zip(history.step, history.skipped, strict=True) if count)
    told = f"{last:,.0f} update(s) were left out because a gradient was not finite, the first by step {first:,.0f}."
    return [f"{told} A smaller learning rate or --precision fp32 may help."]
