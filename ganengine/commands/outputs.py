"""Where commands write to: nothing that is there is lost unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganengine.errors import UserError


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
