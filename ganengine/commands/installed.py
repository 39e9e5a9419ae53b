"""`ganengine list` and `info`: what is installed, from metadata, without torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from ganengine.commands.arguments import parse
from ganengine.config import RunOptions, flatten
from ganengine.plugins import KINDS, Registry, registry
from ganengine.variant import DataSource, Variant


@dataclass(frozen=True)
class _ListOptions:
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class _InfoOptions:
    variant: tyro.conf.Positional[str]
    """Name of the variant."""
    json: bool = False
    """Print one JSON object."""


def show_list(argv: Sequence[str]) -> int:
    """Print what is installed, as a tree by family."""
    options = parse(_ListOptions, argv, "ganengine list", "Show what is installed.")
    loaded = registry()
    if options.json:
        print(json.dumps(_listed(loaded)))
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    console = Console(highlight=False)
    tree = Tree("variants" if loaded.entries["variant"] else "variants: none installed")
    families: dict[str, Tree] = {}
    for entry in _sorted(loaded, "variant"):
        record: Variant = entry.record
        branch = families.setdefault(record.family, Tree(record.family))
        origin = escape(f"{record.paper} ({entry.origin})")
        branch.add(f"[bold]{record.name}[/]  {escape(record.summary)}  [dim]{origin}[/]")
    for branch in families.values():
        tree.children.append(branch)
    console.print(tree)
    sources = Tree("data sources")
    for entry in _sorted(loaded, "data source"):
        source: DataSource = entry.record
        gives = ", ".join([*source.fields, *(f"{name} if it is there" for name in source.optional)])
        sources.add(f"[bold]{source.name}[/]  gives {gives}: {escape(source.summary)}")
    console.print(sources)
    if loaded.faults:
        console.print(f"{len(loaded.faults)} plugin(s) left out: see `ganengine plugins doctor`.", style="yellow")
    return 0


def _listed(loaded: Registry) -> dict[str, Any]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        rows = []
        for entry in _sorted(loaded, kind):
            row = {"name": entry.record.name, "summary": entry.record.summary}
            if isinstance(entry.record, Variant):
                row |= {"family": entry.record.family, "paper": entry.record.paper, "fields": [*entry.record.fields]}
            if isinstance(entry.record, DataSource):
                row |= {"fields": [*entry.record.fields], "optional": [*entry.record.optional]}
            rows.append({**row, "distribution": entry.origin.distribution, "version": entry.origin.version})
        kinds[kind] = rows
    return {
        "schema": 1,
        "variants": kinds.pop("variant"),
        "data_sources": kinds.pop("data source"),
        "components": kinds,
        "faults": len(loaded.faults),
    }


def _sorted(loaded: Registry, kind: str) -> list[Any]:
    return sorted(loaded.entries[kind].values(), key=lambda entry: str(entry.record.name))


def show_info(argv: Sequence[str]) -> int:
    """Print what is known of one variant: options, presets, fields, origin."""
    options = parse(_InfoOptions, argv, "ganengine info", "Show one variant.")
    loaded = registry()
    variant = loaded.variant(options.variant)
    origin = loaded.entries["variant"][variant.name].origin
    record: dict[str, Any] = {
        "schema": 1,
        "name": variant.name,
        "summary": variant.summary,
        "family": variant.family,
        "paper": variant.paper,
        "fields": [*variant.fields],
        "data": variant.data,
        "distribution": origin.distribution,
        "version": origin.version,
        "options": _options(variant.config),
        "defaults": dict(variant.defaults),
        "presets": {name: dict(preset) for name, preset in variant.presets.items()},
    }
    if options.json:
        print(json.dumps(record, default=str))
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{variant.name}[/]  {escape(variant.summary)}")
    console.print(f"paper {variant.paper or '-'}, family {variant.family}, from {origin}", markup=False)
    console.print(f"needs data with fields {', '.join(variant.fields)}; own data: {variant.data or 'none'}")
    table = Table("option", "default", "meaning")
    for option in record["options"]:
        table.add_row(f"--{option['name']}", escape(str(option["default"])), escape(option["help"]))
    console.print(table)
    parts = (RunOptions(), variant.config())
    known = {f.name: getattr(part, f.name) for part in parts for f in dataclasses.fields(part)}
    for name, preset in {"defaults": variant.defaults, **variant.presets}.items():
        shown = escape(" ".join(flatten(preset, known)))
        console.print(f"{'preset ' if name != 'defaults' else ''}[bold]{name}[/]: {shown}", soft_wrap=True)
    engine = len(dataclasses.fields(RunOptions))
    console.print(f"The engine's {engine} options: `ganengine run {variant.name} --help`.")
    return 0


def _options(config: type) -> list[dict[str, Any]]:
    import tyro._docstrings as docs

    default = config()
    return [
        {
            "name": field.name.replace("_", "-"),
            "default": getattr(default, field.name),
            "help": docs.get_field_docstring(config, field.name, ()) or "",
        }
        for field in dataclasses.fields(config)
    ]
