"""docs/commands.md names every command and option that there is, with its default, and none that there is not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from ganengine.builtin import ganengine_commands
from ganengine.commands import evaluate, export, sample, translate
from ganengine.config import Budget, RunOptions
from ganengine.diagnose.command import DOptimum, ModesOptions

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")}
FORMS: dict[str, Any] = {
    "run": RunOptions,
    "resume": Budget,
    "sample": sample._Options,
    "translate": translate._Options,
    "eval": evaluate._Options,
    "export": export._Options,
}
DIAGNOSES = (DOptimum, ModesOptions)
POSITIONAL = {"run", "source", "target", "data"}
OTHERS = {"--json", "--deep", "--quick", "--help", "--plugin", "--lambda-l1", "--no-flip", "--direction", "--summary"}
OTHERS |= {"--no-plot"}

OPTIONS = [
    (command, f) for command, form in FORMS.items() for f in dataclasses.fields(form) if f.name not in POSITIONAL
]


def flag(name: str) -> str:
    return f"--{name.rstrip('_').replace('_', '-')}"


@pytest.mark.parametrize(("command", "field"), OPTIONS, ids=[f"{command} {f.name}" for command, f in OPTIONS])
def test_every_option_is_there_with_its_default(command: str, field: dataclasses.Field[Any]) -> None:
    assert f"`{flag(field.name)}`" in SECTIONS[command]
    if command != "resume":
        default = {"True": "on", "False": "off", "None": "", "": ""}.get(str(field.default), f"`{field.default}`")
        assert re.search(rf"^\| `{flag(field.name)}`.* \| {re.escape(default)} \| \w", SECTIONS[command], re.MULTILINE)


def test_no_option_is_there_that_is_not() -> None:
    known = {flag(f.name) for form in (*FORMS.values(), *DIAGNOSES) for f in dataclasses.fields(form)} | OTHERS
    assert set(re.findall(r"--[a-z][a-z0-9-]*", TEXT)) - known == {"--max-"} & set(re.findall(r"--[a-z-]+", TEXT))


def test_every_command_is_there() -> None:
    for component in ganengine_commands():
        assert re.search(rf"^    ganengine {component.name} ", TEXT, re.MULTILINE) or component.name == "doctor"
    assert "    ganengine doctor" in TEXT
