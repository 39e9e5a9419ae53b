"""The record: torch-free, described by the README; and sentences on the command line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from ganengine.cli import main
from ganengine.commands import sample
from ganengine.config import RunOptions
from ganengine.plugins import add_path, check_options, registry
from ganengine.variant import Variant
from PIL import Image

from ganengine_stackgan import plugin
from ganengine_stackgan.config import IntClsConfig, StackConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = (IntClsConfig, StackConfig)
OWN = {f.name: f.default for config in CONFIGS for f in dataclasses.fields(config)}


@pytest.fixture(autouse=True)
def _variants() -> None:
    add_path(ROOT)  # by the entry point in pyproject.toml; does nothing where it is installed


def test_the_engine_finds_them_with_their_builders() -> None:
    for record in plugin.ganengine_variants():
        assert registry().variant(record.name) == record
        check_options(record)
        for what in Variant.BUILDERS:
            assert callable(record.builder(what))


@pytest.mark.parametrize("name", OWN)
def test_readme_lists_every_option_of_its_own_with_its_default(name: str) -> None:
    default = OWN[name]
    values = default if isinstance(default, tuple) else (default,)
    shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    assert re.search(rf"^\| `--{name.replace('_', '-')}` \| `{re.escape(shown)}` \|", README, re.MULTILINE)


def test_readme_names_no_option_that_does_not_exist() -> None:
    known = set(OWN) | {f.name for record in (RunOptions, sample._Options) for f in dataclasses.fields(record)}
    used = {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z0-9-]+)", README)}
    assert used <= known | {"help"}


def test_sentences_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sheet for a caption; rows of captions over the same latents; and what is refused."""
    pytest.importorskip("matplotlib", reason="its fonts are drawn from")
    (smallest,) = (record.smallest for record in plugin.ganengine_variants() if record.name == "gan-int-cls")
    options = [word for name, value in smallest.items() for word in (f"--{name}", str(value))]
    run = tmp_path / "run"
    common = ["--threads", "1", "--max-steps", "3", "--preview", "16"]
    assert main(["run", "gan-int-cls", "captioned-glyphs:20", *common, *options, "--out", str(run)]) == 0
    with Image.open(run / "samples" / "000000000.png") as preview:
        assert preview.size == (8 * 18 + 2, 2 * 18 + 2)  # two captions of held-out data, eight latents
    rows = tmp_path / "rows.txt"
    rows.write_text(f"a red three, left\n\n{'a very long green eight ' * 4}\n")

    def drawn(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["sample", str(run), "--precision", "fp32", *map(str, words)])
        return (status, *capsys.readouterr())

    for words, name, size in (
        (("--caption", "A red three, LEFT", "--n", 3), "caption-A-red-three-LEFT-3", (2, 2)),
        (("--captions-file", rows, "--n", 3), "captions-file-rows-6", (3, 2)),
        (("--caption", "red", "--interpolate", "linear", "--n", 2), "caption-red-interpolate-linear-18", (9, 2)),
        (("--n", 4), "000000012-4", (2, 2)),
    ):
        status, out, err = drawn(*words, "--out", tmp_path / "drawn")
        assert (status, err) == (0, "")
        path = Path(out.splitlines()[0])
        assert name in path.name
        with Image.open(path) as picture:
            assert picture.size == (size[0] * 18 + 2, size[1] * 18 + 2)
    for words, message in (
        (("--caption", " "), "expected a sentence of 1 to 192 characters"),
        (("--caption", "x" * 193), "expected a sentence of 1 to 192 characters"),
        (("--captions-file", tmp_path / "none"), "expected a text file; it cannot be read"),
        (("--caption", "x", "--captions-file", rows), "expected one thing to draw, got --caption and --captions-file"),
        (("--caption", "x", "--class", 3), "takes no class"),
    ):
        status, _, err = drawn(*words, "--out", tmp_path / "none")
        assert status == 2
        assert message in err
