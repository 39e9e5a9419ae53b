"""Which modes does a variant reach? It is trained on a mixture of Gaussians whose centres are known."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganengine.clock import Clock
from ganengine.config import Budget, Settings, parse
from ganengine.data.pictures import save_picture
from ganengine.diagnose.pictures import contact_sheet, panel
from ganengine.display import Display
from ganengine.errors import DataError, TrainingError, UserError
from ganengine.film import write_film
from ganengine.latents import one_hot
from ganengine.metrics.modes import CollapseDetector, Modes, count_modes
from ganengine.plugins import Registry
from ganengine.runfolder import RunFolder
from ganengine.session import Session
from ganengine.trainer import Trainer

SAMPLES = 2500
"""Drawn at each tick, from the same latents."""
POINTS = "points"
"""The preset of a variant that is made for points of the plane."""
COLUMNS = 6
"""Ticks shown in the picture, evenly chosen; the film shows all."""
FRAME_MS = 200
"""Milliseconds that a frame of the film stays."""


@dataclass(frozen=True)
class Tick:
    """What a variant reached by some time."""

    step: int
    images: int
    seconds: float
    """Of training alone."""
    modes: Modes
    collapsed: bool
    points: Tensor = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return {
            "step": self.step,
            "images": self.images,
            "covered": self.modes.covered,
            "good": self.modes.good,
            "counts": self.modes.counts.tolist(),
            "collapsed": self.collapsed,
            "time": {"elapsed_s": round(self.seconds, 3)},
        }


@dataclass
class Contender:
    """A variant with its options, and what became of it."""

    name: str
    """As the user wrote it."""
    settings: Settings
    ticks: list[Tick] = field(default_factory=list)
    fault: str = ""
    """Why its training ended early."""

    def record(self) -> dict[str, Any]:
        """Return what is known, for JSON."""
        return {"name": self.name, "fault": self.fault or None, "ticks": [tick.record() for tick in self.ticks]}


def contenders(names: Sequence[str], data: str, seed: int, threads: int | None, plugins: Registry) -> list[Contender]:
    """Work out the options of each variant: `NAME`, or "NAME --option value ..." in one word.

    A variant's preset `points`, made for such data, is taken where the words name no preset. Precision is float32
    unless stated otherwise: bfloat16 has steps of 0.008 near 2, where a mode is 0.02 wide.

    Raises:
        UserError: no such variant, or an option that it does not have.
    """
    found = []
    for name in names:
        words = shlex.split(name)
        if not words:
            raise UserError("expected the name of a variant, got nothing.")
        variant = plugins.variant(words[0])
        named = any(word.partition("=")[0] == "--preset" for word in words)
        preset = ["--preset", POINTS] if POINTS in variant.presets and not named else []
        given = [data, "--seed", str(seed), "--precision", "fp32", *preset, *words[1:]]
        if threads is not None:
            given += ["--threads", str(threads)]
        settings = parse(variant, given, f"ganengine run {words[0]}")
        found.append(Contender(name, settings))
    return found


def compete(
    rivals: Sequence[Contender],
    out: Path,
    goals: Sequence[Budget],
    detector: CollapseDetector,
    on_tick: Callable[[Contender, Tick], None],
) -> int:
    """Train one variant after the other, measure it at each goal, and draw pictures into `out`.

    Args:
        rivals: their ticks are filled in.
        out: folder to make; each run is kept in it.
        goals: of minutes since the tick before, or of steps since the beginning.
        detector: its share and number of ticks.
        on_tick: told of each measurement.

    Returns:
        the signal that ended it early, or 0.

    Raises:
        UserError: a variant that cannot be trained on points of the plane; nothing is on disk then.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session.new(rival.settings, Display(quiet=True))) for rival in rivals]
        for rival, session in zip(rivals, sessions, strict=True):
            _check(rival, session)
        real = torch.from_numpy(sessions[0].loader.fixed("train", 1000)["real"].numpy())
        stopped = 0
        for number, (rival, session) in enumerate(zip(rivals, sessions, strict=True)):
            folder = RunFolder.create(out / f"{number + 1}-{rival.settings.variant.name}", "")
            watched = dataclasses.replace(detector, low=0)
            try:
                session.begin(folder)
                for tick in watch(session, folder, goals, watched):
                    rival.ticks.append(tick)
                    on_tick(rival, tick)
            except TrainingError as error:
                rival.fault = str(error)
            except BaseException:
                if session.trainer.position.step == 0:
                    folder.remove()  # nothing was trained: leave nothing behind
                raise
            stopped = session.trainer.interrupt.number
            if stopped:
                break
    draw(rivals, real, out)
    return stopped


def watch(session: Session, folder: RunFolder, goals: Sequence[Budget], detector: CollapseDetector) -> Iterator[Tick]:
    """Train to one goal after the other and measure at each, first of all before the first step.

    Raises:
        TrainingError: training cannot go on.
    """
    trainer, seconds = session.trainer, 0.0
    yield measure(session, seconds, detector)
    for goal in goals:
        trainer.clock = Clock(before=seconds)
        trainer.train(folder, goal)
        seconds += trainer.clock.here()
        yield measure(session, seconds, detector)
        if trainer.interrupt.number:
            return


def measure(session: Session, seconds: float, detector: CollapseDetector) -> Tick:
    """Draw samples and count the modes that they reach."""
    trainer, mixture = session.trainer, session.dataset
    points = samples(trainer, SAMPLES)
    centres = torch.as_tensor(mixture.centres)  # type: ignore[attr-defined]
    modes = count_modes(points, centres, mixture.deviation)  # type: ignore[attr-defined]
    at = trainer.position
    collapsed = at.step > 0 and detector.collapsed(modes.covered / len(centres))
    return Tick(at.step, at.images, seconds, modes, collapsed, points)


def samples(trainer: Trainer, count: int) -> Tensor:
    """Return points [count, 2] of the averaged networks, every class asked for equally often."""
    sampler = trainer.sampler()
    view = sampler.view("sample")
    classes = trainer.dataset.spec.classes(view.label)
    y = one_hot(torch.arange(count) % classes, classes) if classes else None
    return sampler.sample(view, sampler.latents(view, count), y)


def draw(rivals: Sequence[Contender], real: Tensor, out: Path) -> None:
    """Write modes.png, a row for each variant over time, and modes.gif, all variants at each tick."""
    shown = [rival for rival in rivals if rival.ticks]
    panels = [[panel(tick.points, real, _caption(rival, tick)) for tick in rival.ticks] for rival in shown]
    save_picture(out / "modes.png", contact_sheet([_spread(row) for row in panels]))
    longest = max(map(len, panels))
    frames = [contact_sheet([[row[min(place, len(row) - 1)] for row in panels]]) for place in range(longest)]
    # Points and density are drawn in few colours.
    write_film(out / "modes.gif", frames, frame_ms=FRAME_MS, colours=32)


def _spread(row: Sequence[Any]) -> list[Any]:
    """Return at most COLUMNS members, evenly chosen, the first and last among them."""
    count = min(COLUMNS, len(row))
    return [row[round(place * (len(row) - 1) / max(1, count - 1))] for place in range(count)]


def _caption(rival: Contender, tick: Tick) -> str:
    modes = tick.modes
    return f"{rival.name[:18]} step {tick.step}: {modes.covered}/{len(modes.counts)}, {modes.good:.0%} good"


def _check(rival: Contender, session: Session) -> None:
    if not hasattr(session.dataset, "centres") or not hasattr(session.dataset, "deviation"):
        raise DataError(
            f"{rival.settings.engine.data}: expected points of a mixture whose centres are known: ring, ring:MODES "
            "or grid25."
        )
    views = session.trainer.views.values()
    if not any(view.kind == "sample" for view in views):
        raise UserError(
            f"{rival.settings.variant.name}: expected a variant that makes samples of noise; it has none such view."
        )
