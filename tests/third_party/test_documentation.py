"""docs/writing-a-plugin.md leads to the distribution that stands beside this file, whole and word for word."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganengine import hookspecs
from ganengine.plugins import add_path, registry
from ganengine.testing import check_variant

DOTS = Path(__file__).parent / "distributions" / "dots"
TEXT = (Path(__file__).parents[2] / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^In `([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILES = [path for suffix in ("py", "toml") for path in sorted(DOTS.rglob(f"*.{suffix}"))]


def lines(text: str) -> list[str]:
    """Return the lines that say something: a page leaves out the blank ones between its pieces."""
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DOTS).as_posix())
def test_the_page_holds_every_file(path: Path) -> None:
    name = path.relative_to(DOTS).as_posix()
    pieces = [code for file, code in BLOCK.findall(TEXT) if file == name]
    assert lines("".join(pieces)) == lines(path.read_text(encoding="utf-8"))


def test_the_page_shows_no_file_that_is_not_there() -> None:
    assert {file for file, _ in BLOCK.findall(TEXT)} == {path.relative_to(DOTS).as_posix() for path in FILES}
    assert TEXT.count("```") == 2 * len(BLOCK.findall(TEXT))


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("ganengine_")])
def test_the_page_lists_every_hook_with_its_signature(hook: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"| `{hook}{signature}` |" in TEXT


@pytest.fixture
def _dots() -> Iterator[None]:
    before, path = set(sys.modules), sys.path[:]
    add_path(DOTS)
    yield
    registry.cache_clear()
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("ganengine_dots"):
            del sys.modules[name]


@pytest.mark.usefixtures("_dots")
def test_the_plugin_passes_the_kit_that_the_page_tells_to_run() -> None:
    assert check_variant("dots").variant == "dots"
