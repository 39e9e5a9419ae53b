"""The record: torch-free, and described by the README."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from ganengine.cli import main
from ganengine.config import RunOptions
from ganengine.plugins import add_path, check_options, registry
from ganengine.variant import Variant
from PIL import Image

from ganengine_infogan import plugin
from ganengine_infogan.config import InfoGANConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_engine_finds_it_with_its_builders() -> None:
    add_path(ROOT)  # by the entry point in pyproject.toml; does nothing where it is installed
    (record,) = plugin.ganengine_variants()
    assert registry().variant("infogan") == record
    check_options(record)
    for what in (*Variant.BUILDERS, "equilibrium"):
        assert callable(record.builder(what))


@pytest.mark.parametrize("option", [name.replace("_", "-") for name in InfoGANConfig.__annotations__])
def test_readme_lists_every_option_of_its_own_with_its_default(option: str) -> None:
    default = getattr(InfoGANConfig(), option.replace("-", "_"))
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    assert re.search(rf"^\| `--{option}` \| `{re.escape(shown)}` \|", README, re.MULTILINE), f"{option}: {shown}"


def test_readme_names_no_option_or_preset_that_does_not_exist() -> None:
    known = {f.name for record in (InfoGANConfig, RunOptions) for f in dataclasses.fields(record)}
    used = {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z0-9-]+)", README)}
    of_sample = {"sweep", "view", "interpolate", "gif", "n", "help"}
    assert used <= known | of_sample
    (record,) = plugin.ganengine_variants()
    assert set(re.findall(r"--preset ([a-z-]+)", README)) == set(record.presets)


def test_a_batch_of_one_is_refused_as_batch_norm_needs_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_path(ROOT)
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    for number in range(2):
        Image.new("L", (8, 8), 100 * number).save(data / f"{number}.png")
    small = plugin.ganengine_variants()[0].smallest | {"batch": 1, "threads": 1}
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    assert main(["run", "infogan", str(data), *words, "--out", str(out)]) == 2
    assert "--batch: expected more than one sample at once" in capsys.readouterr().err
    assert not out.exists()
