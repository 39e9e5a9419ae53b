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

from ganengine_cyclegan import plugin
from ganengine_cyclegan.config import CycleGANConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def variant() -> Variant:
    (record,) = plugin.ganengine_variants()
    return record


def test_importing_the_plugin_imports_no_torch() -> None:
    code = "import sys, ganengine_cyclegan.plugin as p; p.ganengine_variants(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_engine_finds_it() -> None:
    add_path(ROOT)  # by the entry point in pyproject.toml; does nothing where it is installed
    assert registry().variant("cyclegan") == variant()
    assert registry().get("data source", "sketched-letters").fields == ("A", "B")


def test_builders_and_options_are_those_of_the_contract() -> None:
    record = variant()
    assert plugin.GANENGINE_API == 1
    assert not record.aligned
    check_options(record)
    for what in (*Variant.BUILDERS, "baseline", "equilibrium"):
        assert callable(record.builder(what))


@pytest.mark.parametrize(
    ("preset", "sizes", "identity"),
    [("paper", (256, 286), 0.0), ("paper-128", (128, 143), 0.0), ("photo", (256, 286), 0.5)],
)
def test_presets_are_the_papers_recipes(preset: str, sizes: tuple[int, int], identity: float) -> None:
    settings = parse(variant(), ["--preset", preset], "ganengine run cyclegan")
    engine, config = settings.engine, settings.config
    assert (engine.size, engine.load_size) == sizes
    assert (engine.batch, engine.flip, engine.epochs, engine.ema_images, engine.precision) == (1, True, 200, 0, "fp32")
    assert config == CycleGANConfig(
        lambda_cycle=10.0,
        lambda_identity=identity,
        adversarial="ls",
        pool=50,
        blocks=None,
        g_filters=64,
        d_filters=64,
        receptive_field=70,
        norm="instance",
        lr=2e-4,
        d_lr=2e-4,
        betas=(0.5, 0.999),
        lr_ramp="linear",
        init_gain=0.02,
    )


# -- README --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [field.name.replace("_", "-") for field in dataclasses.fields(CycleGANConfig)])
def test_readme_lists_every_option_with_its_default(option: str) -> None:
    default = getattr(CycleGANConfig(), option.replace("-", "_"))
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    assert re.search(rf"^\| `--{option}` \| `{re.escape(shown)}` \|", README, re.MULTILINE), f"{option}: {shown}"


def test_readme_names_no_option_preset_or_view_that_does_not_exist() -> None:
    known = {f.name for record in (CycleGANConfig, RunOptions) for f in dataclasses.fields(record)}
    used = {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z0-9-]+)", README)}
    assert used <= known | {"split", "metrics", "json", "stats", "view"}
    assert set(re.findall(r"--preset ([a-z0-9-]+)", README)) == set(variant().presets)
    views = variant().builder("views")(CycleGANConfig())
    assert set(re.findall(r"--view ([A-Za-z]+)", README)) <= set(views)
    assert all(f"`{name}`" in README for name in views)
