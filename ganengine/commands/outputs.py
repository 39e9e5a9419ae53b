"""Where commands write to: nothing that is there is lost unasked."""

from __future__ import annotations

import contextlib
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
        UserError: a file stands where a folder is needed, or one of the files exists and that was not asked for.
    """
    for folder in {path.parent for path in paths}:
        lowest = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        if not lowest.is_dir():
            what = "a file" if lowest.exists() else "a link that leads nowhere"
            raise UserError(f"{lowest}: expected a folder to write to; it is {what}. Use another OUT.")
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more}: expected names that are free; they exist. Use --overwrite, or another OUT.")
