"""`ganengine translate`: pictures in, translated pictures out, of any size."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.outputs import check_outputs
from ganengine.config import Precision, check_ranges
from ganengine.errors import UserError, printable

if TYPE_CHECKING:
    from ganengine.translation.places import Job, Plan
    from ganengine.translation.reading import Picture
    from ganengine.translation.translator import Advance, Translator

BITS: dict[str, Literal[8, 16] | None] = {"auto": None, "8": 8, "16": 16}


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    source: tyro.conf.Positional[Path]
    """A picture, a folder of pictures and folders, or a zip file of these."""
    target: tyro.conf.Positional[Path]
    """Where to write: a folder, a .zip file, or a .png file for one picture."""
    view: str | None = None
    """Which translation of the variant; None: its first."""
    overwrite: bool = False
    """Replace pictures that are there already."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm is used; running: the training's."""
    tile: int | None = None
    """Translate larger pictures in tiles of at most this side in pixels, to save memory; None: whole."""
    overlap: int | None = None
    """Pixels by which tiles overlap, at least; None: a quarter of a tile."""
    bits: Literal["auto", "8", "16"] = "auto"
    """Bits per channel of results; auto: as each picture has."""
    alpha: Literal["keep", "drop"] = "keep"
    """keep: a result has the transparency of its picture; drop: it has none."""
    bad_images: Literal["skip", "fail"] = "skip"
    """What to do with unreadable pictures: name them at the end, or stop at the first."""
    seed: int | None = None
    """Seed of the noise; None: the run's own."""
    batch: int = 8
    """At most so many pictures of one size at once."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    threads: int | None = None
    """CPU threads; None: one per core."""
    precision: Precision = "auto"
    """auto: bfloat16 where the hardware multiplies it fast and pictures differ from those in float32 by less than a
    level of 255 on average; in fp32 batch mates change a picture by rounding at most."""


def translate(argv: Sequence[str]) -> int:
    """Translate a picture, a folder or a zip file; return 1 if something in it could not be read."""
    options = parse(_Options, argv, "ganengine translate", "Translate pictures of any size with a trained run.")
    check_ranges(options)
    if options.overlap is not None and options.tile is None:
        raise UserError("--overlap: expected --tile too; without it pictures are translated whole.")
    from ganengine.plugins import stated
    from ganengine.runfolder import RunFolder
    from ganengine.trained import Trained
    from ganengine.translation.places import plan
    from ganengine.translation.tiles import Tiling
    from ganengine.translation.translator import Translator

    folder = RunFolder.open(options.run)
    todo = plan(options.source, options.target)
    trained = Trained(
        folder,
        device=options.device,
        seed=options.seed,
        statistics=options.stats,
        threads=options.threads,
        precision=options.precision,
    )
    known = {name: view.kind for name, view in trained.sampler.views.items()}
    if "translate" not in known.values():
        listed = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "none"
        again = f"ganengine sample {shlex.quote(str(folder))}{stated()}"
        raise UserError(
            f"{folder}: expected a run that translates pictures; {trained.settings.variant.name} does not. "
            f"Its views are {listed}: `{again}` draws them."
        )
    view = trained.sampler.view("translate", options.view)
    trained.settle(view)
    translator = Translator(
        trained,
        view,
        batch=options.batch,
        tiling=None if options.tile is None else Tiling(options.tile, options.overlap, view.multiple, view.minimum),
        bits=BITS[options.bits],
        keep_alpha=options.alpha == "keep",
    )
    if trained.spec.channels(view.target) > 4:
        todo = todo.as_arrays()  # more than a picture file holds
    check_outputs(todo.outputs, options.overwrite)
    failed = {**todo.left_out, **_translate_all(translator, todo, stop=options.bad_images == "fail")}
    for path, reason in failed.items():
        print(f"{printable(path)}: {reason}", file=sys.stderr)
    if trained.note:
        print(trained.note, file=sys.stderr)
    total = len(todo.jobs) + len(todo.left_out)
    print(f"{total - len(failed)} of {total} pictures translated to {options.target}", file=sys.stderr)
    return 1 if failed else 0


def _translate_all(translator: Translator, todo: Plan, *, stop: bool) -> dict[str, str]:
    """Translate and write; return which could not be read, and why."""
    from ganengine.data.dataset import BadPictureError
    from ganengine.translation.writing import writer

    sizes, failed = _sizes(todo.jobs, stop=stop)
    total = sum(height * width * len(jobs) for (height, width), jobs in sizes.items())
    with _orderly_end(), writer(todo.target, packed=todo.packed) as write, _progress(total) as advance:
        for (height, width), jobs in sizes.items():
            count = translator.together(height, width)
            for start in range(0, len(jobs), count):
                readable: list[tuple[Job, Picture]] = []
                for job in jobs[start : start + count]:
                    try:
                        readable.append((job, translator.read(job)))
                    except BadPictureError as error:
                        if stop:
                            raise
                        failed[str(job.file)] = error.reason
                        advance(height * width)
                for job, result in translator.translate(readable, advance):
                    write(job.result, result)
    return failed


def _sizes(jobs: Sequence[Job], *, stop: bool) -> tuple[dict[tuple[int, int], list[Job]], dict[str, str]]:
    """Group pictures by height and width, read from their headers; return these, and why others were not read."""
    from ganengine.data.dataset import BadPictureError
    from ganengine.data.headers import read_headers

    headers, bad = read_headers(job.file for job in jobs)
    failed = {str(file): reason for file, reason in bad.items()}
    if failed and stop:
        raise BadPictureError(*next(iter(failed.items())))
    groups: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        if job.file in headers:
            header = headers[job.file]
            groups.setdefault((header.height, header.width), []).append(job)
    return groups, failed


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Have SIGTERM unwind, so that what is half-written is removed."""
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(pixels: int) -> Iterator[Advance]:
    """Show how far it is, how fast and how long still, where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{(task.finished_speed or task.speed or 0) / 1e6:.2f} megapixels/s")

    console = Console(stderr=True)
    columns = ("translating", BarColumn(), TaskProgressColumn(), Speed(), "time left", TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=pixels)
        yield lambda done: progress.update(task, advance=done)
