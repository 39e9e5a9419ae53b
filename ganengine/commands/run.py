"""`ganengine run` and `ganengine resume`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ganengine import config
from ganengine.commands.arguments import parse
from ganengine.config import Budget
from ganengine.errors import GanengineError, TrainingError, UserError
from ganengine.plugins import registry

if TYPE_CHECKING:
    from ganengine.runfolder import RunFolder
    from ganengine.session import Session


@dataclass(frozen=True)
class _ResumeOptions(Budget):
    run: tyro.conf.Positional[Path] = field(kw_only=True)
    """Folder of the run."""


def run(argv: Sequence[str]) -> int:
    """Train a variant."""
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            print(_usage())
            return 0
        raise UserError(f"expected the name of a variant first. {_installed()}")
    variant = registry().variant(argv[0])
    settings = config.parse(variant, argv[1:], f"ganengine run {variant.name}").anchored()
    # Torch is imported from here on, when everything that can be checked without it has been.
    from ganengine.runfolder import RunFolder

    RunFolder.check_free(settings.engine.out)
    from ganengine.session import Session

    with Session.new(settings) as session:
        folder = RunFolder.create(settings.engine.out, variant.name)
        try:
            with folder.locked():
                session.begin(folder)
                return _train(session, folder, settings.engine)
        except TrainingError:
            raise  # what was reached is told and kept
        except BaseException:
            if session.trainer.position.step == 0:
                folder.remove()  # nothing was trained: leave nothing behind
            raise


def resume(argv: Sequence[str]) -> int:
    """Go on with a run, exactly."""
    options = parse(_ResumeOptions, argv, "ganengine resume", "Go on with a run, exactly where it stopped.")
    config.check_ranges(options)
    from ganengine.runfolder import RunFolder

    folder = RunFolder.open(options.run)
    settings = folder.read_config(registry())
    from ganengine.session import Session

    with folder.locked(), Session.resumed(settings, folder) as session:
        budget: Budget = options if options.stated() else settings.engine
        if done := session.nothing_left(budget):
            print(f"{folder} is complete: {done}. Go on with a larger one, for example --max-images.")
            return 0
        return _train(session, folder, budget)


def _train(session: Session, folder: RunFolder, budget: Budget) -> int:
    session.display.note(session.greeting(folder))
    try:
        reason = session.trainer.train(folder, budget)
    except KeyboardInterrupt:
        if session.trainer.position.step:
            print(f"Ended at once. `ganengine resume {folder}` goes on at the last checkpoint.", file=sys.stderr)
        raise
    except GanengineError:
        if session.trainer.position.step:
            print(f"The run stays in {folder}; `ganengine resume {folder}` goes on with it.", file=sys.stderr)
        raise
    print(session.farewell(folder, reason))
    number = session.trainer.interrupt.number
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
