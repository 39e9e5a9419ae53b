"""`ganengine plugins new NAME`: write a distribution with a variant that trains, its tests and its CI.

The template lies in ganengine/template, each file with `.txt` behind its name, so that no tool takes it for code of the
engine. It is what `ganengine plugins new my-gan` writes; another name and summary are put in place of its own.
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.outputs import folder_made
from ganengine.errors import UserError
from ganengine.plugins import registry

TEMPLATE = Path(__file__).parents[1] / "template"
NAME, SUMMARY = "my-gan", "An unconditional GAN on pictures."
"""Name and summary of the template itself."""

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME, LONGEST_SUMMARY = 40, 80
"""Longer ones would break the lines of what is written."""


@dataclass(frozen=True)
class _NewOptions:
    name: tyro.conf.Positional[str]
    """Name of the variant: small letters, digits, hyphens."""
    out: Path = Path()
    """Folder in which ganengine-NAME is made."""
    summary: str = SUMMARY
    """What the variant is, in one sentence."""
    json: bool = False
    """Print one JSON object."""


def new(argv: Sequence[str]) -> int:
    """Write the distribution `ganengine-NAME` and say what to do next.

    Raises:
        UserError: a name or a summary that does not fit, or a place that is taken.
    """
    description = "Write a plugin to start from: a small GAN that trains, with tests and CI."
    options = parse(_NewOptions, argv, "ganengine plugins new", description)
    check_name(options.name)
    check_summary(options.summary)
    files = fill(options.name, options.summary)
    folder = write(files, options.out, f"ganengine-{options.name}")
    if options.json:
        record = {"schema": 1, "variant": options.name, "folder": str(folder), "files": sorted(files)}
        print(json.dumps(record))
    else:
        print(f"{folder}: a plugin of {len(files)} files; its README.md tells where to change what. Next:\n")
        print(f"  pip install -e {shlex.quote(str(folder))}\n  ganengine run {options.name}")
    return 0


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a new variant.

    Raises:
        UserError: it is not in kebab case, too long, or taken.
    """
    if not KEBAB.fullmatch(name):
        raise UserError(
            "name: expected small letters and digits, a letter first, with single hyphens between words, "
            f'as in {NAME}; got "{name}".'
        )
    if len(name) > LONGEST_NAME:
        raise UserError(f"name: expected at most {LONGEST_NAME} characters, got {len(name)}. Shorten it.")
    if entry := registry().entries["variant"].get(name):
        raise UserError(f'name: expected one that is free; "{name}" is a variant of {entry.origin}. Choose another.')


def check_summary(summary: str) -> None:
    """Refuse a summary that cannot stand as it is in a string of Python and of TOML.

    Raises:
        UserError: it is empty, too long, has line ends, or characters that would have to be escaped.
    """
    if not summary.strip() or len(summary) > LONGEST_SUMMARY:
        raise UserError(f"--summary: expected a sentence of 1 to {LONGEST_SUMMARY} characters, got {len(summary)}.")
    if not summary.isprintable() or set(summary) & set('"\\'):
        raise UserError(f'--summary: expected one line without " or \\, got {summary!r}. Leave them out.')


def fill(name: str, summary: str) -> dict[str, str]:
    """Return the template's files for this name: relative path -> text."""
    # The summary last: what the user wrote stays as it is, also where it speaks of my-gan.
    words = {NAME: name, NAME.replace("-", "_"): name.replace("-", "_"), SUMMARY: summary}

    def put(text: str) -> str:
        for old, fresh in words.items():
            text = text.replace(old, fresh)
        return text

    paths = sorted(TEMPLATE.rglob("*.txt"))
    return {
        put(path.relative_to(TEMPLATE).as_posix().removesuffix(".txt")): put(path.read_text(encoding="utf-8"))
        for path in paths
    }


def write(files: Mapping[str, str], out: Path, name: str) -> Path:
    """Write `files` into the folder `name` in `out`, which appears whole or not at all, and return it.

    Raises:
        UserError: `out` is no folder and cannot become one, has something called `name` already, or takes no more.
    """
    folder = out / name
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: expected a name that is free; it exists. Choose another name or --out.")
    try:
        # Beside its final place, hence in one file system: the rename is atomic.
        with folder_made(out), tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as place:
            for path, text in files.items():
                target = Path(place, name, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            Path(place, name).rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder
