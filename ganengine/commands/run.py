"""`ganengine run` and `ganengine resume`."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ganengine import config
from ganengine.commands.arguments import parse
from ganengine.config import Budget
from ganengine.errors import GanengineError, UserError
from ganengine.plugins import add_path, registry

if TYPE_CHECKING:
    from ganengine.runfolder import RunFolder
    from ganengine.session import Session


@dataclass(frozen=True)
class _ResumeOptions(Budget):
    run: tyro.conf.Positional[Path] = Path()
    """Folder of the run."""
    plugin: tuple[str, ...] = ()
    """Plugin under development: a file or folder (may be repeated)."""


def run(argv: Sequence[str]) -> int:
    """Train a variant."""
    rest, early = config.take_options(argv, ("plugin",))
    for path in early["plugin"]:
        add_path(Path(path))
    if not rest or rest[0].startswith("-"):
        if rest and rest[0] in ("-h", "--help"):
            print(_usage())
            return 0
        raise UserError(f"expected the name of a variant first. {_installed()}")
    variant = registry().variant(rest[0])
    settings = config.parse(variant, rest[1:], f"ganengine run {variant.name}")
    settings = dataclasses.replace(
        settings, engine=dataclasses.replace(settings.engine, plugin=tuple(early["plugin"]))
    )  # fmt: skip
    from ganengine.runfolder import RunFolder

    RunFolder.check_free(settings.engine.out)
    # Torch is imported from here on, when everything that can be checked without it has been.
    from ganengine.session import Session

    with Session.new(settings) as session:
        folder = RunFolder.create(settings.engine.out, variant.name)
        try:
            session.begin(folder)
        except BaseException:
            # Nothing was trained: leave nothing behind.
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        return _train(session, folder, settings.engine)


def resume(argv: Sequence[str]) -> int:
    """Go on with a run, exactly."""
    rest, early = config.take_options(argv, ("plugin",))
    options = parse(_ResumeOptions, rest, "ganengine resume", "Go on with a run, exactly where it stopped.")
    config.check_ranges(options)
    if options.run == Path():
        raise UserError("expected the folder of a run, as in `ganengine resume runs/pix2pix`.")
    from ganengine.runfolder import RunFolder

    folder = RunFolder.open(options.run)
    for path in early["plugin"]:
        add_path(Path(path))
    settings = folder.read_config(registry())
    from ganengine.session import Session

    with Session.resumed(settings, folder) as session:
        budget: Budget = options if options.stated() else settings.engine
        if done := session.nothing_left(budget):
            print(f"{folder} is complete: {done}. Go on with a larger one, for example --max-images.")
            return 0
        return _train(session, folder, budget)


def _train(session: Session, folder: RunFolder, budget: Budget) -> int:
    try:
        reason = session.trainer.train(folder, budget)
    except GanengineError:
        print(f"The run stays in {folder}.", file=sys.stderr)
        raise
    print(session.farewell(folder, reason))
    number = session.trainer.signal
    return 128 + number if number in (signal.SIGINT, signal.SIGTERM) else 0


def _installed() -> str:
    names = sorted(registry().entries["variant"])
    return f"Installed: {', '.join(names)}." if names else "No variant is installed: add a plugin with pip."


def _usage() -> str:
    return (
        "usage: ganengine run VARIANT [DATA] [OPTIONS]\n\n"
        f"Train a variant on a folder of pictures. {_installed()}\n"
        "`ganengine run VARIANT --help` lists its options."
    )
