"""A folder full of what is wrong, watched while commands run in it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..cli.conftest import Done, Go, _pix2pix, go, pairs, trained
from .place import build

__all__ = ["_pix2pix", "go", "pairs", "trained"]

Tree = dict[str, tuple[int, ...]]


@pytest.fixture(scope="session")
def place(pairs: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with everything in it that can be wrong."""
    folder = tmp_path_factory.mktemp("place")
    build(folder, pairs, trained)
    return folder


@pytest.fixture
def wrong(
    place: Path, pairs: Path, trained: Path, tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a command that must be refused: wrong("run pix2pux DATA") -> its one message, as one line."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))  # --plugin FOLDER adds to it
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python's own __pycache__ beside a plugin is not ours
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    cache = Path(os.environ["GANENGINE_CACHE"])

    def state() -> list[Tree]:
        # Opening the cache marks it as used; what is in it stays.
        return [*(tree(folder) for folder in (place, pairs, trained, tmp_path)), tree(cache, times=False)]

    def refused(line: str, *words: str) -> str:
        before, modules = state(), set(sys.modules)
        named = (word.replace("DATA", str(pairs)).replace("RUN", str(trained)) for word in shlex.split(line))
        told = one_message(go(*named, *words))
        assert state() == before
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(place)):
                del sys.modules[name]  # a plugin of this folder: another test may have one of that name
        return told

    return refused


def one_message(done: Done) -> str:
    """Return what a refused command said, as one line, after checking that it is one message and no more."""
    assert done.status == 2, done
    assert done.out == ""
    told = " ".join(re.sub(r"[\u2500-\u257f]|-{5,}", " ", done.err).split())
    assert not re.search(r"Traceback|Errno|not subscriptable", told), told
    if told.startswith("ganengine"):
        assert done.err.count("\n") == 1, done.err
        assert told[-1] in ".?", told
    else:
        assert told.count("For full helptext") == 1, done.err  # the parser's own form
    return told


def tree(folder: Path, times: bool = True) -> Tree:
    """Return every file below a folder with its kind, size and time of change, and every folder with its kind."""
    found: Tree = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            state = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                found[entry.path] = (state.st_mode,)
                found |= tree(Path(entry.path), times)
            else:
                found[entry.path] = (state.st_mode, state.st_size, state.st_mtime_ns if times else 0)
    return found
