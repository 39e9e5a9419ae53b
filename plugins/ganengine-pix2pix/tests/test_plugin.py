"""The record: torch-free, accepted by the engine, and described by the README."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ganengine.config import RunOptions, parse
from ganengine.plugins import add_path, check_options, registry
from ganengine.variant import Variant

from ganengine_pix2pix import plugin
from ganengine_pix2pix.config import Pix2PixConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def variant() -> Variant:
    (record,) = plugin.ganengine_variants()
    return record


def test_importing_the_plugin_imports_no_torch() -> None:
    code = "import sys, ganengine_pix2pix.plugin as p; p.ganengine_variants(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_engine_finds_it_and_it_keeps_the_contract() -> None:
    from ganengine.testing import check_variant

    add_path(ROOT)  # by the entry point in pyproject.toml; does nothing where it is installed
    assert registry().variant("pix2pix") == variant()
    assert registry().get("data source", "openmoji-line").fields == ("A", "B")
    check_variant("pix2pix")


def test_builders_and_options_are_those_of_the_contract() -> None:
    record = variant()
    assert plugin.GANENGINE_API == 1
    check_options(record)
    for what in (*Variant.BUILDERS, "baseline"):
        assert callable(record.builder(what))


def test_paper_preset_is_the_papers_recipe() -> None:
    settings = parse(variant(), ["--preset", "paper"], "ganengine run pix2pix")
    engine, config = settings.engine, settings.config
    assert (engine.batch, engine.size, engine.load_size, engine.flip, engine.epochs) == (1, 256, 286, True, 200)
    assert (engine.ema_images, engine.precision) == (0, "fp32")
    assert config == Pix2PixConfig(
        g_filters=64,
        d_filters=64,
        norm="batch",
        receptive_field=70,
        lr=2e-4,
        d_lr=2e-4,
        dropout=0.5,
        lr_ramp="constant",
    )
    edges = parse(variant(), ["--preset", "edges"], "ganengine run pix2pix")
    assert (edges.engine.batch, edges.engine.epochs) == (4, 15)


# -- README --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [field.name.replace("_", "-") for field in dataclasses.fields(Pix2PixConfig)])
def test_readme_lists_every_option_with_its_default(option: str) -> None:
    default = getattr(Pix2PixConfig(), option.replace("-", "_"))
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    assert re.search(rf"^\| `--{option}` \| `{re.escape(shown)}` \|", README, re.MULTILINE), f"{option}: {shown}"


def test_readme_names_no_option_or_preset_that_does_not_exist() -> None:
    known = {f.name for record in (Pix2PixConfig, RunOptions) for f in dataclasses.fields(record)}
    used = {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z0-9-]+)", README)}
    other_commands = {"split", "metrics", "json", "stats", "overwrite"}
    assert used <= known | other_commands
    presets = set(re.findall(r"--preset ([a-z]+)", README))
    assert presets == set(variant().presets)
