"""`ganengine data inspect`: what is in a folder, and how to repair what does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ganengine.commands.arguments import parse
from ganengine.errors import UserError, nearest, printable

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12
"""At most so many rows of a kind are shown to people; `--json` gives all."""


@dataclass(frozen=True)
class _Options:
    folder: tyro.conf.Positional[Path]
    """Folder, zip file, array file (.npz) or table (.csv) to look at; nothing in it is changed."""
    quick: bool = False
    """Read headers only: pictures that are cut off and equal pictures are not found."""
    json: bool = False
    """Print one JSON object."""


def data(argv: Sequence[str]) -> int:
    """Dispatch `ganengine data COMMAND`."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: ganengine data inspect FOLDER [--quick] [--json]\n\nTell what is in a folder of data.")
        return 0
    if argv[0] != "inspect":
        raise UserError(f'expected `ganengine data inspect FOLDER`, got "{argv[0]}".{nearest(argv[0], ["inspect"])}')
    options = parse(_Options, argv[1:], "ganengine data inspect", "Tell what is in a folder of data.")
    from ganengine.data.inspection import inspect

    found = inspect(options.folder, quick=options.quick, progress=_progress)
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    return 1 if found["problem"] or found["bad"] else 0


def _progress(pictures: Iterable[Any], count: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        pictures, "looking at pictures", count, console=console, disable=not console.is_terminal, transient=True
    )


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(printable(found["path"]), style="bold")
    if found["layout"]:
        splits = ", ".join(f"{name} {count}" for name, count in found["splits"].items())
        console.print(f"{found['layout']} (data source {found['source']}); samples: {splits}")
    for name, field in found["fields"].items():
        console.print(f"\n{name}", style="bold")
        if "classes" in field:
            counts = {name: sum(found.values()) for name, found in field["classes"].items()}
            console.print(f"  {len(counts)} classes{'':11}{_counted(counts)}")
            continue
        if "per_picture" in field:
            counts = {f"{number} a picture": count for number, count in field["per_picture"].items()}
            console.print(f"  captions              {_counted(counts)}")
            console.print(f"  longest               {field['longest']} characters")
            continue
        if "shape" in field:
            console.print(f"  numbers               {'x'.join(map(str, field['shape']))}")
            continue
        if "steps" in field:
            console.print(f"  steps                 {field['steps']}")
            console.print(f"  paths of a scene      {_counted(field['rows'])}")
            console.print(f"  length of a step      {field['scale']:.4g} (root mean square in training)")
            continue
        console.print(f"  channels in training  {field['channels']}")
        console.print(f"  channels of files     {_counted(field['channel_counts'])}")
        console.print(f"  sizes of files        {_counted(field['sizes'])}")
        console.print(f"  modes of files        {_counted(field['modes'])}")
    _section(console, "odd", [f"{_short(entry['path'], found)}: {entry['reason']}" for entry in found["odd"]])
    _section(
        console,
        "equal pictures",
        [
            f"{' = '.join(_short(path, found) for path in group['paths'])} ({', '.join(group['splits'])})"
            for group in found["duplicates"]
        ],
    )
    if not found["decoded"]:
        console.print("\nLooked at headers only: pictures that are cut off and equal pictures are not listed.")
    _section(console, "to repair", found["repairs"])
    verdict = "This data cannot be trained on as it is." if found["problem"] else "This data can be trained on."
    console.print(f"\n{verdict}", style="bold")


def _section(console: Console, title: str, rows: list[str]) -> None:
    if rows:
        console.print(f"\n{title} ({len(rows)})", style="bold")
        for row in rows[:SHOWN]:
            console.print(f"  {printable(row)}")
        if len(rows) > SHOWN:
            console.print(f"  ... and {len(rows) - SHOWN} more (--json gives all)")


def _counted(counts: dict[str, int]) -> str:
    """Return "3 of 16x8, 1 of 32x32", the most frequent first."""
    shown = [f"{count} of {name}" for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (f", ... ({len(counts)} kinds)" if len(counts) > SHOWN else "")


def _short(path: str, found: dict[str, Any]) -> str:
    return path.removeprefix(f"{found['path']}/")
