"""What a user sees while a run trains: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, track
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from ganengine.clock import Clock
    from ganengine.config import Budget
    from ganengine.trainer import Position as At

T = TypeVar("T")

TOLD = 0.01
"""Least share of the time spent waiting for data that the progress line tells of."""
SPEED_WINDOW = 200
"""Steps over which the speed is averaged."""


def clock_text(seconds: float) -> str:
    """Return seconds as h:mm:ss.ss."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}"


def bar(what: str) -> Callable[[Iterable[T], int], Iterable[T]]:
    """Return fn(steps, how many) that shows work on standard error, where that is a terminal, as steps are taken."""

    def shown(steps: Iterable[T], count: int) -> Iterable[T]:
        console = Console(stderr=True)
        return track(steps, what, count, console=console, disable=not console.is_terminal, transient=True)

    return shown


class PatientConsole(Console):
    """A console whose reader may go away: rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Say so to whoever printed."""
        raise BrokenPipeError


class Display:
    """Shows progress; keeps the speed, which the log uses too."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or PatientConsole(highlight=False)
        self.quiet = quiet
        self._marks: deque[tuple[float, int]] = deque(maxlen=SPEED_WINDOW)
        self._bar: Progress | None = None
        self._task: Any = None
        self._goal: Budget | None = None
        self._clock: Clock | None = None
        self._epoch: _Epoch | None = None
        self._told: list[str] = []
        self._keep: Callable[[str], None] = self._told.append

    @contextmanager
    def running(self, goal: Budget, at: At, clock: Clock) -> Iterator[None]:
        """Show a run while the block runs."""
        self._goal, self._clock = goal, clock
        self._marks.clear()
        self._marks.append((time.monotonic(), at.images))
        self._epoch = _Epoch(clock.here())
        if self.console.is_terminal and not self.quiet:
            self._bar = Progress(
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                _Left(self),
                TextColumn("{task.fields[losses]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
                console=self.console,
                refresh_per_second=4,
            )
            total, unit = self._total()
            self._task = self._bar.add_task("training", total=total, unit=unit, losses="")
            with self._bar:
                yield
            self._bar = None
        else:
            yield
        if not self.quiet:
            self._print(f"Training time: {clock_text(clock.here())}")

    def _total(self) -> tuple[float, str]:
        goal = self._goal
        if goal is None or goal.max_steps is not None:
            return (float(goal.max_steps or 0) if goal else 0.0), "steps"
        if goal.max_images is not None:
            return float(goal.max_images), "images"
        return 60 * float(goal.max_minutes or 0), "s"

    def _done(self, at: At) -> float:
        _, unit = self._total()
        seconds = self._clock.here() if self._clock else 0.0
        return {"steps": float(at.step), "images": float(at.images), "s": float(int(seconds))}[unit]

    def step(self, at: At) -> None:
        """Count a step."""
        self._marks.append((time.monotonic(), at.images))
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done(at))

    def speed(self) -> float:
        """Return images per second over the last steps."""
        if len(self._marks) < 2:
            return 0.0
        (then, before), (now, images) = self._marks[0], self._marks[-1]
        return (images - before) / max(1e-9, now - then)

    def left(self) -> float | None:
        """Return the seconds left, or None while unknown."""
        if self._bar is None or self._clock is None:
            return None
        task = self._bar.tasks[0]
        total, unit = self._total()
        if unit == "s":
            return max(0.0, total - self._clock.here())
        (then, first), (now, last) = self._marks[0], self._marks[-1]
        steps = len(self._marks) - 1
        done = (last - first if unit == "images" else steps) / max(1e-9, now - then)
        return (total - task.completed) / done if done > 0 else None

    def tick(self, line: Mapping[str, Any], preview: Path | None) -> None:
        """Show the means of a tick. On no terminal: [epoch/EPOCHS EPOCHS, iter ITER] G:.., D:.., further terms."""
        if self.quiet:
            return
        totals = ", ".join(f"{name}:{value:.3f}" for name, value in line["totals"].items())
        share = line["time"]["data_wait"]
        waits = f", {share:.0%} waiting for data" if share >= TOLD else ""
        if self._bar is not None:
            self._bar.update(self._task, losses=totals + waits)
            return
        epochs = max(1, round(line["horizon"] / max(1, line["count"])))
        terms = {name: value for name, value in line["loss"].items() if "." in name}
        terms |= {f"D({name})": value for name, value in line["d"].items()}
        extra = "".join(f", {name}:{value:.4f}" for name, value in terms.items())
        speed = f" ({line['time']['images_per_s']:.1f} images/s{waits})"
        epoch = int(line["epoch"])
        self._end_epoch(epoch, line)
        self._print(f"[{epoch}/{epochs} EPOCHS, iter {line['step']}] {totals}{extra}{speed}")

    def _end_epoch(self, epoch: int, line: Mapping[str, Any]) -> None:
        tally, clock = self._epoch, self._clock
        if tally is None or clock is None:
            return
        tally.add(line["totals"])
        if tally.number is not None and epoch > tally.number:
            means = tally.means()
            players = (("G", "gen"), ("D", "disc"))
            told = "".join(f", {word} loss={means[name]:.4f}" for name, word in players if name in means)
            self._print(f"Epoch {epoch}{told}, {clock_text(clock.here() - tally.began)}")
            self._epoch = tally = _Epoch(clock.here())
        tally.number = epoch

    def note(self, text: str) -> None:
        """Say something in between."""
        self._keep(text)
        if not self.quiet:
            self._print(text)

    def keep_notes(self, write: Callable[[str], None]) -> None:
        """Hand all notes to `write` as well, those from before there was a run's folder first."""
        for text in self._told:
            write(text)
        self._told.clear()
        self._keep = write

    def _print(self, text: str) -> None:
        try:
            self.console.print(text, markup=False, soft_wrap=True)
        except BrokenPipeError:
            # Whoever read along has gone; the run goes on without saying more.
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Epoch:
    """Means over the ticks of one epoch."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.number: int | None = None
        self._sums: dict[str, float] = {}
        self._ticks = 0

    def add(self, totals: Mapping[str, float]) -> None:
        self._ticks += 1
        for name, value in totals.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: total / self._ticks for name, total in self._sums.items()}


class _Left(ProgressColumn):
    """Speed and time left."""

    def __init__(self, display: Display) -> None:
        super().__init__(Column(no_wrap=True))
        self._display = display

    def render(self, task: Bar) -> Text:
        left = self._display.left()
        remaining = "" if left is None else f", {clock_text(left)[:-3]} left"
        return Text(f"{self._display.speed():.1f} images/s{remaining}")
