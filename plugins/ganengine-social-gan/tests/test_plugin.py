"""The record: torch-free, and described by the README."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from ganengine.config import RunOptions
from ganengine.plugins import add_path, check_options, registry
from ganengine.variant import Variant

from ganengine_social_gan import plugin
from ganengine_social_gan.config import SocialGANConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_engine_finds_it_with_its_builders() -> None:
    add_path(ROOT)  # by the entry point in pyproject.toml; does nothing where it is installed
    (record,) = plugin.ganengine_variants()
    assert registry().variant("social-gan") == record
    check_options(record)
    for what in (*Variant.BUILDERS, "equilibrium"):
        assert callable(record.builder(what))


@pytest.mark.parametrize("option", [name.replace("_", "-") for name in SocialGANConfig.__annotations__])
def test_readme_lists_every_option_with_its_default(option: str) -> None:
    default = getattr(SocialGANConfig(), option.replace("-", "_"))
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    shown = "that of G" if shown == "None" else shown
    assert re.search(rf"^\| `--{option}` \| `?{re.escape(shown)}`? \|", README, re.MULTILINE), f"{option}: {shown}"


def test_readme_names_no_option_or_preset_that_does_not_exist() -> None:
    known = {f.name for record in (SocialGANConfig, RunOptions) for f in dataclasses.fields(record)}
    used = {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z0-9-]+)", README)}
    assert used <= known | {"max_minutes", "futures", "gif", "help", "n", "no_residual"}
    (record,) = plugin.ganengine_variants()
    assert set(re.findall(r"--preset ([a-z-]+)", README)) == set(record.presets)
