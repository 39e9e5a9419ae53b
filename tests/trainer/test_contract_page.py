"""docs/contract.md says what is there: every hook with its signature, every field, and examples that run."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from ganengine import errors, hookspecs, records, variant
from ganengine.plan import check_schedule
from ganengine.plugins import GROUP, KINDS, PREFIX
from ganengine.step import Step
from ganengine.testing import CHECKS
from ganengine.testing.data import FIELDS
from ganengine.variant import Schedule, Variant

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith(PREFIX)}
RECORDS = {
    name: record
    for module in (variant, records)
    for name, record in vars(module).items()
    if dataclasses.is_dataclass(record) and record.__module__ == module.__name__
}
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature(name: str) -> None:
    signature = str(inspect.signature(HOOKS[name])).replace("'", "")
    assert f"| `{name}{signature}` |" in PAGE


def test_no_hook_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(rf"`({PREFIX}\w+)\(", PAGE)) == set(HOOKS)
    assert {hook for hook, _ in KINDS.values()} <= set(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_says_what_it_is_for(name: str) -> None:
    assert re.match(r"(Return|Watch) .+\.$", HOOKS[name].__doc__ or "")


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_every_record_is_documented(name: str) -> None:
    assert re.search(rf"\*\*{name}\*\*|`{name}`", PAGE), name
    missing = [field.name for field in dataclasses.fields(RECORDS[name]) if f"`{field.name}`" not in PAGE]
    assert not missing


def test_everything_that_a_loss_reads_is_documented() -> None:
    public = {name for name in vars(Step) if not name.startswith("_")} - {"forget_shared", "holds_graphs"}
    missing = [name for name in public if not re.search(rf"`step\.{name}\b", PAGE)]
    assert not missing


def test_numbers_and_names_are_those_of_the_code() -> None:
    assert f"This is contract number {variant.API}:" in PAGE
    assert f"[project.entry-points.{GROUP}]" in PAGE
    assert all(f"`{check.name}`" in PAGE for check in CHECKS)
    assert all(f"`{name}`" in PAGE for name in FIELDS)
    assert all(f"| `{builder}` | (config" in PAGE for builder in (*Variant.BUILDERS, "baseline"))
    assert hasattr(errors, "StaleForwardError")


@pytest.mark.parametrize("example", EXAMPLES, ids=[text.splitlines()[0][:60] for text in EXAMPLES])
def test_examples_run(example: str) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "docs/contract.md", "exec", dont_inherit=True), names)
    if "schedule" in names:
        assert isinstance(names["schedule"], Schedule)
        check_schedule(names["schedule"], names["losses"])
        phases = [phase for stage in range(len(names["schedule"].stages)) for phase in names["schedule"].phases(stage)]
        assert {phase.loss for phase in phases} == set(names["losses"])


def test_there_is_an_example_for_each_hard_case() -> None:
    told = "\n".join(EXAMPLES)
    for words in (
        "Group(",
        "D.trunk",
        "when=",
        'weights={"fake": lambda',
        "hand_over",
        '("z",)',
        "repeats=",
        "every=16",
        '"hold": ("G0",)',
    ):
        assert words in told
