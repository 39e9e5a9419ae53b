"""`ganengine translate`: pictures in, translated pictures out, of any size."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.sample import check_outputs
from ganengine.config import Precision, check_ranges
from ganengine.errors import DataError, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ganengine.trained import Trained
    from ganengine.variant import View

PIXELS = 1 << 21
"""At most so many pixels are translated at once; a larger picture goes alone."""


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    source: tyro.conf.Positional[Path]
    """A picture, or a folder of pictures and folders."""
    target: tyro.conf.Positional[Path]
    """Where to write: a folder, or a .png file for one picture."""
    view: str | None = None
    """Which translation of the variant; None: its first."""
    overwrite: bool = False
    """Replace pictures that are there already."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm is used; running: the training's."""
    seed: int | None = None
    """Seed of the noise; None: the run's own."""
    batch: int = 8
    """At most so many pictures of one size at once."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    threads: int | None = None
    """CPU threads; None: one per core."""
    precision: Precision = "fp32"
    """fp32 gives a picture the same bits whatever its batch mates; bf16 and auto are faster and do not."""


def translate(argv: Sequence[str]) -> int:
    """Translate a picture or a folder; return 1 if some could not be read."""
    options = parse(_Options, argv, "ganengine translate", "Translate pictures of any size with a trained run.")
    check_ranges(options)
    from ganengine.runfolder import RunFolder
    from ganengine.trained import Trained

    folder = RunFolder.open(options.run)
    jobs = plan(options.source, options.target)
    trained = Trained(
        folder,
        device=options.device,
        seed=options.seed,
        statistics=options.stats,
        threads=options.threads,
        precision=options.precision,
    )
    view = trained.sampler.view("translate", options.view)
    if trained.spec.channels(view.target) > 4:
        jobs = {path: out.with_suffix(".npy") for path, out in jobs.items()}  # more than a picture file holds
    check_outputs(list(jobs.values()), options.overwrite)
    failed = _translate_all(trained, view, jobs, options)
    for path, reason in failed.items():
        print(f"{path}: {reason}", file=sys.stderr)
    done = len(jobs) - len(failed)
    print(f"{done} of {len(jobs)} pictures translated to {options.target}", file=sys.stderr)
    return 1 if failed else 0


def plan(source: Path, target: Path) -> dict[Path, Path]:
    """Return which picture goes where: relative paths are kept, the suffix becomes .png.

    Raises:
        UserError: there is no such file or folder, no picture in it, or two pictures would have one name.
    """
    from ganengine.data.files import SUFFIXES, is_picture, list_files

    if source.is_file():
        if target.suffix.lower() == ".png" and not target.is_dir():
            return {source: target}
        if target.suffix and is_picture(target.name):
            raise UserError(f"{target}: expected a .png file or a folder to write to; other formats are not written.")
        return {source: target / f"{source.stem}.png"}
    if not source.is_dir():
        raise UserError(f"{source}: expected a picture or a folder of pictures; there is none.")
    pictures: Sequence[str] = list_files(source).pictures
    if target.is_dir() and target.resolve() != source.resolve():
        # OUT may lie inside IN: earlier results are not translated again.
        pictures = [name for name in pictures if not (source / name).resolve().is_relative_to(target.resolve())]
    if not pictures:
        kinds = " ".join(sorted(SUFFIXES))
        raise UserError(f"{source}: expected pictures ({kinds}); there are none in this folder.")
    jobs: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for name in pictures:
        path, out = source / name, (target / name).with_suffix(".png")
        if out in taken:
            raise UserError(f"{path} and {taken[out]} would both become {out}. Rename one of them.")
        taken[out] = path
        jobs[path] = out
    return jobs


def _translate_all(trained: Trained, view: View, jobs: dict[Path, Path], options: _Options) -> dict[Path, str]:
    from rich.console import Console
    from rich.progress import track

    from ganengine.data.pictures import save_picture, to_uint8

    failed: dict[Path, str] = {}
    console = Console(stderr=True)
    batches = list(_batches(list(jobs), options.batch, failed))
    for paths in track(batches, "translating", console=console, disable=not console.is_terminal):
        images, names, good = [], [], []
        for path in paths:
            try:
                images.append(_read(path, trained, view))
            except (DataError, OSError) as error:
                failed[path] = getattr(error, "reason", str(error))
                continue
            good.append(path)
            names.append(_name(path, options.source))
        for start, stack in _alike(images):
            outputs = to_uint8(_run(trained, view, stack, names[start : start + len(stack)]))
            for path, picture in zip(good[start:], outputs, strict=False):
                save_picture(jobs[path], picture)
    return failed


def _batches(paths: list[Path], most: int, failed: dict[Path, str]) -> Iterator[list[Path]]:
    """Group pictures of one size, read from their headers, into batches that fit memory."""
    from ganengine.data.headers import read_headers

    headers, bad = read_headers(paths)
    failed.update(bad)
    groups: dict[tuple[int, int], list[Path]] = {}
    for path, header in headers.items():
        groups.setdefault((header.height, header.width), []).append(path)
    for (height, width), members in groups.items():
        count = max(1, min(most, PIXELS // max(1, height * width)))
        for start in range(0, len(members), count):
            yield members[start : start + count]


def _read(path: Path, trained: Trained, view: View) -> Tensor:
    from ganengine.data.pictures import read_picture, to_tensor

    channels = trained.spec.channels(view.source)
    return to_tensor(read_picture(path, alpha=trained.settings.engine.alpha, channels=channels))


def _alike(images: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Stack neighbours of equal shape (a header's size may be that before an EXIF turn)."""
    import torch

    start = 0
    for index in range(1, len(images) + 1):
        if index == len(images) or images[index].shape != images[start].shape:
            yield start, torch.stack(images[start:index])
            start = index


def _run(trained: Trained, view: View, images: Tensor, names: Sequence[str]) -> Tensor:
    """Pad to what the networks take, translate, crop."""
    from torch.nn import functional as F

    height, width = images.shape[-2:]
    below, right = (
        max(-(-side // view.multiple) * view.multiple, view.minimum) - side for side in (height, width)
    )  # fmt: skip
    if below or right:
        images = F.pad(images, (0, right, 0, below), mode="replicate")
    return trained.sampler.translate(view, images, names)[..., :height, :width]


def _name(path: Path, source: Path) -> str:
    """Return what keys a picture's draws: its path below IN, so that moving the folder changes nothing."""
    return path.name if path == source else path.relative_to(source).as_posix()
