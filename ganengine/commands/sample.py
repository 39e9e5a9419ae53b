"""`ganengine sample`: draw pictures from a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.config import check_ranges
from ganengine.errors import UserError


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    n: int = 16
    """How many samples."""
    seed: int | None = None
    """Seed of the noise; None: the run's own."""
    view: str | None = None
    """Which view of the variant; None: its first."""
    split: str | None = None
    """Split of the data to take inputs from; None: one that was not trained on, where there is one."""
    out: Path | None = None
    """Folder to write to; None: RUN/drawn."""
    separate: bool = False
    """Write single pictures 000000.png, 000001.png ... instead of one sheet."""
    overwrite: bool = False
    """Replace pictures that are there already."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm is used; running: the training's."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""


def sample(argv: Sequence[str]) -> int:
    """Write a sheet of samples, or single ones, of one view."""
    options = parse(_Options, argv, "ganengine sample", "Draw pictures from a trained run.")
    check_ranges(options)
    from ganengine.data.loader import Loader
    from ganengine.data.pictures import save_picture, sheet, to_uint8
    from ganengine.plugins import registry
    from ganengine.runfolder import RunFolder
    from ganengine.session import data_options, open_dataset
    from ganengine.trained import Trained

    folder = RunFolder.open(options.run)
    trained = Trained(folder, device=options.device, seed=options.seed, statistics=options.stats)
    view = trained.sampler.view("grid", options.view)
    engine = trained.settings.engine
    dataset, engine = open_dataset(trained.settings.variant, engine, registry())
    with Loader(dataset, data_options(engine)) as loader:
        batch = loader.fixed(options.split or dataset.shown_split, options.n)
    hardware = trained.hardware
    columns = trained.sampler.grid(view, batch.to(hardware.device, channels_last=hardware.channels_last), batch.size)
    out = options.out or folder.path / "drawn"
    if options.separate:
        last = "output" if "output" in columns else next(iter(columns))
        pictures = {out / f"{index:06d}.png": picture for index, picture in enumerate(to_uint8(columns[last]))}
    else:
        seed = "" if options.seed is None else f"-seed{options.seed}"
        pictures = {out / f"{trained.sampler.progress.images:09d}-{batch.size}{seed}.png": sheet(columns)}
    check_outputs(list(pictures), options.overwrite)
    for path, picture in pictures.items():
        save_picture(path, picture)
    print(next(iter(pictures)) if len(pictures) == 1 else f"{len(pictures)} pictures in {out}")
    return 0


def check_outputs(paths: Sequence[Path], overwrite: bool) -> None:
    """Check that files can be written.

    Raises:
        UserError: a file stands where a folder is needed, or one of the files exists and that was not asked for.
    """
    for folder in {path.parent for path in paths}:
        lowest = next(place for place in (folder, *folder.parents) if place.exists())
        if not lowest.is_dir():
            raise UserError(f"{lowest}: expected a folder to write to; it is a file. Use another OUT.")
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more}: expected names that are free; they exist. Use --overwrite, or another OUT.")
