"""`ganengine report`: one HTML page of a run, from its files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.sample import check_outputs
from ganengine.errors import UserError


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run; it may be under way."""
    out: Path | None = None
    """File to write, .html; None: RUN/report.html."""
    overwrite: bool = False
    """Replace a file that is there already."""


def report(argv: Sequence[str]) -> int:
    """Write the page and print where it is."""
    options = parse(_Options, argv, "ganengine report", "Show a run in one HTML file that needs nothing else.")
    from ganengine.report.page import page
    from ganengine.runfolder import RunFolder, write_whole

    folder = RunFolder.open(options.run)
    out = options.out or folder.path / "report.html"
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        what = "a folder" if out.is_dir() else f'"{out.name}"'
        raise UserError(f"--out {out}: expected the name of an .html file, got {what}.")
    check_outputs([out], options.overwrite)
    document = page(folder)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, document)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}.") from error
    print(out)
    return 0
