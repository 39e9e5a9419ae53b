"""`ganengine plugins doctor`, `new` and `test`: what is left out, and why; a template; the conformance kit."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.new import new
from ganengine.errors import PluginError, nearest
from ganengine.plugins import KINDS, Registry, registry
from ganengine.variant import Variant, load_object

USAGE = """usage: ganengine plugins COMMAND

  doctor [--deep] [--json]    plugins that are left out, and why
  new NAME [--out DIR] [--summary TEXT] [--json]
                              write a plugin to start from: a small GAN that trains, with tests and CI
  test NAME [--json]          does variant NAME keep the contract? (the conformance kit, takes seconds)"""


@dataclass(frozen=True)
class _DoctorOptions:
    json: bool = False
    """Print one JSON object."""
    deep: bool = False
    """Import every builder too (this imports torch)."""


@dataclass(frozen=True)
class _TestOptions:
    variant: tyro.conf.Positional[str]
    """Name of the variant."""
    json: bool = False
    """Print one JSON object."""


def plugins(argv: Sequence[str]) -> int:
    """Dispatch `ganengine plugins COMMAND`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    commands = {"doctor": _doctor, "new": new, "test": _test}
    if argv[0] not in commands:
        raise PluginError(f'expected doctor, new or test, got "{argv[0]}".{nearest(argv[0], commands)}')
    return commands[argv[0]](argv[1:])


def _test(argv: Sequence[str]) -> int:
    options = parse(_TestOptions, argv, "ganengine plugins test", "Check that a variant keeps the contract.")
    registry().variant(options.variant)
    from ganengine.testing import check_variant

    try:
        report = check_variant(options.variant)
    except AssertionError as error:
        if options.json:
            print(json.dumps({"schema": 1, "variant": options.variant, "passed": False, "reason": str(error)}))
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"schema": 1, "variant": report.variant, "passed": True, "checks": list(report.passed)}))
    else:
        print(f"{report.variant} keeps the contract: {', '.join(report.passed)}")
    return 0


def _doctor(argv: Sequence[str]) -> int:
    options = parse(_DoctorOptions, argv, "ganengine plugins doctor", "Show plugins that are left out, and why.")
    loaded = registry()
    deep = _deep(loaded) if options.deep else []
    record = {
        "schema": 1,
        "plugins": [dataclasses.asdict(origin) for origin in loaded.origins],
        "blocked": [dataclasses.asdict(origin) for origin in loaded.blocked],
        "unblocked": loaded.unblocked,
        "faults": [
            {**dataclasses.asdict(fault.origin), "reason": fault.reason, "remedy": fault.remedy}
            for fault in loaded.faults
        ],
        "builders": deep,
    }
    if options.json:
        print(json.dumps(record))
    else:
        for origin in loaded.origins:
            print(f"ok       {origin.name} ({origin})")
        for origin in loaded.blocked:
            print(f"blocked  {origin.name} ({origin}) by GANENGINE_BLOCK")
        for name in loaded.unblocked:
            print(f"nobody   {name}, which GANENGINE_BLOCK names: no installed plugin is called so")
        for fault in loaded.faults:
            print(f"LEFT OUT {fault.origin.name} ({fault.origin})\n  {fault.reason}\n  {fault.remedy}")
        for problem in deep:
            print(f"BROKEN   {problem}")
    return 1 if loaded.faults or deep else 0


def _deep(loaded: Registry) -> list[str]:
    """Import every builder and return what cannot be."""
    problems = []
    for entry in loaded.entries["variant"].values():
        for what in Variant.BUILDERS:
            try:
                entry.record.builder(what)
            except PluginError as error:
                problems.append(str(error))
    for kind in KINDS:
        if kind == "variant":
            continue
        for entry in loaded.entries[kind].values():
            try:
                load_object(entry.record.build, f"{kind} {entry.record.name}")
            except PluginError as error:
                problems.append(str(error))
    return problems
