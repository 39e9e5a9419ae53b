"""Where commands write to: nothing that is there is lost unasked."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

from ganengine.errors import UserError


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make the folder of `--out` and those above it that are missing; they are taken away again where the block fails.

    Raises:
        UserError: it cannot be made.
    """
    above = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            told = f"--out {folder}: expected a folder to write to; {error.strerror}. Choose another."
            raise UserError(told) from error
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for made in above:
                made.rmdir()
        raise


def check_outputs(paths: Sequence[Path], overwrite: bool) -> None:
    """Check that files can be written.

    Raises:
        UserError: a name is too long, a run keeps its own files there, a file stands where a folder is needed, or one
            of the files exists and that was not asked for.
    """
    for path in paths:
        try:
            path.lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise UserError(f"{path}: expected a name that a file can have; it is too long.") from error
    _check_apart(paths)
    for folder in {path.parent for path in paths}:
        lowest = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        if not lowest.is_dir():
            what = "a file" if lowest.exists() else "a link that leads nowhere"
            raise UserError(f"{lowest}: expected a folder to write to; it is {what}. Use another OUT.")
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more}: expected names that are free; they exist. Use --overwrite, or another OUT.")


def _check_apart(paths: Sequence[Path]) -> None:
    """Refuse what would stand among a run's checkpoints, or in the place of a file that makes it a run."""
    from ganengine.runfolder import run_of

    for path in paths:
        run = run_of(path)
        if run is not None:
            raise UserError(f"{path}: expected a place apart from what the run {run} keeps of itself. Use another OUT.")
