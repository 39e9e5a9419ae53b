"""`ganengine report`: one HTML page of a run, or of several side by side, from their files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.outputs import check_outputs
from ganengine.errors import UserError


@dataclass(frozen=True)
class _Options:
    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of runs, which may be under way; several are put side by side."""
    out: Path | None = None
    """File to write, .html; None: RUN/report.html, or report.html here for several runs."""
    overwrite: bool = False
    """Replace a file that is there already."""


def report(argv: Sequence[str]) -> int:
    """Write the page and print where it is."""
    description = "Show a run, or several side by side, in one HTML file that needs nothing else."
    options = parse(_Options, argv, "ganengine report", description)
    from ganengine.report.comparison import LIMIT, comparison
    from ganengine.report.page import page
    from ganengine.runfolder import RunFolder, write_whole

    if not options.runs:
        raise UserError("expected the folder of a run, or of several; got none.")
    if len(options.runs) > LIMIT:
        raise UserError(f"expected at most {LIMIT} runs in one page, got {len(options.runs)}. Write several pages.")
    folders = [RunFolder.open(path) for path in options.runs]
    places = [folder.path.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{folder}: expected different runs; got this one twice. Name it once.")
    alone = folders[0] if len(folders) == 1 else None
    out = options.out or (alone.path / "report.html" if alone else Path("report.html"))
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        what = "a folder" if out.is_dir() else f'"{out.name}"'
        raise UserError(f"--out {out}: expected the name of an .html file, got {what}.")
    check_outputs([out], options.overwrite)
    document = page(alone) if alone else comparison(folders)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, document)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}.") from error
    print(out)
    return 0
