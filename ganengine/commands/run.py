"""`ganengine run` and `ganengine resume`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ganengine import config
from ganengine.commands.arguments import parse
from ganengine.config import Budget
from ganengine.errors import GanengineError, TrainingError, UserError
from ganengine.plugins import registry, stated

if TYPE_CHECKING:
    from ganengine.runfolder import RunFolder
    from ganengine.session import Session


@dataclass(frozen=True)
class _ResumeOptions(Budget):
    run: tyro.conf.Positional[Path] = field(kw_only=True)
    """Folder of the run."""


def run(argv: Sequence[str]) -> int:
    """Train a variant."""
    with _ranks():
        return _run(argv)


def resume(argv: Sequence[str]) -> int:
    """Go on with a run, exactly."""
    with _ranks():
        return _resume(argv)


def _ranks() -> AbstractContextManager[None]:
    """Join the other processes where torchrun has started several; torch is imported only then."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from ganengine.ranks import group

    return group()


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            print(_usage())
            return 0
        raise UserError(f"expected the name of a variant first. {_installed()}")
    variant = registry().variant(argv[0])
    settings = config.parse(variant, argv[1:], f"ganengine run {variant.name}").anchored()
    # Torch is imported from here on, when everything that can be checked without it has been.
    from ganengine import ranks
    from ganengine.runfolder import RunFolder

    if ranks.first():
        RunFolder.check_free(settings.engine.out)
    from ganengine.session import Session

    with Session.new(settings) as session:
        made = RunFolder.create(settings.engine.out, variant.name) if ranks.first() else None
        try:
            told = ranks.from_first((made.path, made.identity) if made else (Path(), ""))
            folder = made or RunFolder.joined(*told)
            with _locked(folder):
                if ranks.first():
                    session.begin(folder)
                return _train(session, folder, settings.engine)
        except TrainingError:
            raise  # what was reached is told and kept
        except BaseException:
            if made and session.trainer.position.step == 0:
                made.remove()  # nothing was trained: leave nothing behind
            raise


def _resume(argv: Sequence[str]) -> int:
    options = parse(_ResumeOptions, argv, "ganengine resume", "Go on with a run, exactly where it stopped.")
    config.check_ranges(options)
    from ganengine import ranks
    from ganengine.runfolder import RunFolder

    folder = RunFolder.open(options.run)
    settings = folder.read_config(registry())
    from ganengine.session import Session

    with _locked(folder), Session.resumed(settings, folder) as session:
        budget: Budget = options if options.stated() else settings.engine
        if done := session.nothing_left(budget):
            if ranks.first():
                again = f"ganengine resume {shlex.quote(str(folder))}{session.further()}{stated()}"
                print(f"{folder} is complete: {done}. `{again}` goes on.")
            return 0
        return _train(session, folder, budget)


def _locked(folder: RunFolder) -> AbstractContextManager[None]:
    """Keep a run to this process, or to the ranks beside it."""
    from ganengine import ranks

    return folder.locked() if ranks.first() else nullcontext()


def _train(session: Session, folder: RunFolder, budget: Budget) -> int:
    from ganengine import ranks

    session.display.note(session.greeting(folder))
    try:
        reason = session.trainer.train(folder, budget)
    except KeyboardInterrupt:
        if session.trainer.position.step:
            print(
                f"Ended at once. `ganengine resume {folder}{stated()}` goes on at the last checkpoint.", file=sys.stderr
            )
        raise
    except GanengineError:
        if session.trainer.position.step and ranks.speaks():
            print(f"The run stays in {folder}; `ganengine resume {folder}{stated()}` goes on with it.", file=sys.stderr)
        raise
    if ranks.first():
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
