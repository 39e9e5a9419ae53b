"""Two processes on one run, and terminals that cannot show its name."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Go = Callable[..., Any]

HOLD = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print(1, flush=True); input()"


@pytest.mark.skipif(sys.platform == "win32", reason="locks of Unix")
def test_the_second_of_two_processes_is_refused_until_the_first_is_dead(go: Go, run: Path, tree: Any) -> None:
    before = tree(run)
    words = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "1\n"
        done = go("resume", run, "--max-steps", 14)
        assert done.status == 2
        assert done.err == (
            f"ganengine resume: {run}: another process trains this run. Wait until it ends, or stop it.\n"
        )
        assert tree(run) == before
        assert go("sample", run, "--out", run / "pictures").status == 0, "to look at it is no harm"
        first.kill()
    assert go("resume", run, "--max-steps", 7).status == 0, "the lock goes with its process"


def test_a_file_system_without_locks_is_used_without(go: Go, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("ganengine.runfolder.fcntl.flock", unknown)
    assert go("resume", run, "--max-steps", 7).status == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_cannot_show_a_name_ends_no_run(
    start: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """As under PYTHONIOENCODING=ascii, or with a name that is no UTF-8."""
    out = tmp_path / os.fsdecode(b"r\xc3\xa4ksm\xc3\xb6rg\xc3\xa5s \xe2\x98\x83 \xff")
    try:
        out.mkdir()
        out.rmdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    done = start(out, 2)
    assert done.status == 0, done.err
    stream.flush()
    told = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "Stopped: 2 steps reached" in told
    assert (r"\xe4ksm" if encoding == "ascii" else "r\u00e4ksm") in told
