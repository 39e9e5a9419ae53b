"""The record: torch-free, and described by the README."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from ganengine.config import RunOptions
from ganengine.plugins import add_path, check_options, registry
from ganengine.variant import Variant

from ganengine_progan import plugin
from ganengine_progan.config import ProGANConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_engine_finds_it_with_its_builders() -> None:
    add_path(ROOT)  # by the entry point in pyproject.toml; does nothing where it is installed
    (record,) = plugin.ganengine_variants()
    assert registry().variant("progan") == record
    check_options(record)
    for what in Variant.BUILDERS:
        assert callable(record.builder(what))


@pytest.mark.parametrize("option", [name.replace("_", "-") for name in ProGANConfig.__annotations__])
def test_readme_lists_every_option_of_its_own_with_its_default(option: str) -> None:
    default = getattr(ProGANConfig(), option.replace("-", "_"))
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    assert re.search(rf"^\| `--{option}` \| `{re.escape(shown)}` \|", README, re.MULTILINE), f"{option}: {shown}"


def test_readme_names_no_option_or_preset_that_does_not_exist() -> None:
    known = {f.name for record in (ProGANConfig, RunOptions) for f in dataclasses.fields(record)}
    used = {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z0-9-]+)", README)}
    of_sample = {"gif", "interpolate", "neighbours", "step", "truncation", "help"}
    assert used <= known | of_sample
    (record,) = plugin.ganengine_variants()
    assert set(re.findall(r"--preset ([a-z-]+)", README)) == set(record.presets)
