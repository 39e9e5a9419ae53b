"""`ganengine data inspect`: what is in a folder, and how to repair what does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ganengine.commands.arguments import parse
from ganengine.errors import UserError, nearest


@dataclass(frozen=True)
class _Options:
    folder: tyro.conf.Positional[Path]
    """Folder to look at."""
    json: bool = False
    """Print one JSON object."""


def data(argv: Sequence[str]) -> int:
    """Dispatch `ganengine data COMMAND`."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: ganengine data inspect FOLDER [--json]\n\nTell what is in a folder of data.")
        return 0
    if argv[0] != "inspect":
        raise UserError(f'expected `ganengine data inspect FOLDER`, got "{argv[0]}".{nearest(argv[0], ["inspect"])}')
    options = parse(_Options, argv[1:], "ganengine data inspect", "Tell what is in a folder of data.")
    from ganengine.data.inspection import inspect

    found = inspect(options.folder)
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name == "schema":
            continue
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in value.items():
                print(f"  {key}: {item}")
        elif isinstance(value, list):
            print(f"{name}: {'none' if not value else ''}")
            for item in value:
                print(f"  {item}")
        else:
            print(f"{name}: {value}")
