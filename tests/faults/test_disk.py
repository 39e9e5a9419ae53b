"""A disk that is full or read-only: one message, status 2, nothing half-written, and the last good checkpoint stays."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganengine import checkpoint
from ganengine.checkpoint import listed
from ganengine.runfolder import RunFolder

Go = Callable[..., Any]

WRITERS = {
    "a checkpoint": (checkpoint, "write", "The checkpoint of step"),
    "a log line": (RunFolder, "append_log", "The log of step"),
    "a preview": (RunFolder, "save_sample", "The preview of step"),
}
QUIET = {
    "a checkpoint": [],
    "a log line": ["--checkpoint-every", 100, "--preview", 0],
    "a preview": ["--checkpoint-every", 100],
}
"""Options under which the disk fills up by what is looked at, and by nothing else."""


def whole_files(run: Path) -> None:
    """Check that nothing in a run is half-written."""
    assert list(run.rglob(".*")) == []
    for line in (run / "log.jsonl").read_text().splitlines(keepends=True):
        assert line.endswith("\n")
        json.loads(line)
    for path in listed(run / "checkpoints"):
        checkpoint.read(path)
    for path in (run / "samples").iterdir():
        with Image.open(path) as picture:
            picture.load()


def fails_once(done: Any, told: str, run: Path) -> None:
    assert done.status == 2
    assert "Traceback" not in done.err
    assert done.err.count("cannot be written") == 1
    assert told in done.err
    assert "No space left on device" in done.err
    assert f"`ganengine resume {run}" in done.err


@pytest.mark.parametrize("what", WRITERS)
def test_a_disk_that_fills_up_costs_nothing_that_was_saved(
    go: Go, start: Go, disk: Any, whole: Any, remains: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    owner, name, told = WRITERS[what]
    write, calls = getattr(owner, name), []

    def fill_first(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 2:  # the first of each kind belong to step 0 and 1
            disk.fill()
        return write(*args)

    run = disk.path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fill_first)
        done = start(run, 60, *QUIET[what])
    fails_once(done, told, run)
    whole_files(run)
    # To see what is wrong costs nothing either: the disk is still full.
    before = checkpoint.newest(run / "checkpoints")[0].step
    done = go("resume", run, "--max-steps", 60)
    assert done.status == 2
    assert "cannot be written" in done.err
    assert checkpoint.newest(run / "checkpoints")[0].step == before
    whole_files(run)
    disk.empty()
    done = go("resume", run, "--max-steps", 14)
    assert done.status == 0, done.err
    whole_files(run)
    if before <= 14:
        assert remains(run) == whole


@pytest.mark.parametrize("spare", [0, 4, 8, 12, 16, 24, 32])
def test_a_disk_that_is_full_from_the_start_keeps_nothing(start: Go, disk: Any, tree: Any, spare: int) -> None:
    disk.fill(spare)
    before = sorted(tree(disk.path))
    done = start(disk.path / "deep" / "run", 3)
    assert done.status == 2
    assert done.err.count("\n") == 1, "one message"
    assert "No space left on device" in done.err
    assert "resume" not in done.err, "there is nothing to resume"
    assert sorted(tree(disk.path)) == before


@pytest.mark.parametrize("what", WRITERS)
def test_an_error_of_the_system_is_told_like_a_full_disk(
    go: Go, start: Go, tmp_path: Path, whole: Any, remains: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What can be seen where no disk can be mounted: the fourth write of its kind fails in the middle."""
    calls: list[int] = []

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def half(*args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*args, **options)

        return half

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        if what == "a checkpoint":
            patch.setattr(checkpoint.torch, "save", failing(checkpoint.torch.save))
        elif what == "a preview":
            patch.setattr(Image.Image, "save", failing(Image.Image.save))
        else:
            patch.setattr(RunFolder, "append_log", failing(RunFolder.append_log))
        done = start(run, 14)
    fails_once(done, WRITERS[what][2], run)
    whole_files(run)
    assert go("resume", run).status == 0
    assert remains(run) == whole


DRAWN = {
    "pictures/000000024-4.png": [],
    "pictures/film.gif": ["--gif"],
}


@pytest.mark.parametrize(("file", "options"), DRAWN.items(), ids=DRAWN)
def test_what_a_full_disk_does_not_take_is_told_by_its_own_name(
    go: Go, run: Path, disk: Any, tree: Any, file: str, options: list[str]
) -> None:
    (disk.path / "pictures").mkdir()
    disk.fill()
    before = sorted(tree(disk.path))
    done = go("sample", run, *options, "--out", disk.path / "pictures")
    assert done.status == 2
    assert done.err == f"ganengine sample: {disk.path / file}: No space left on device.\n"
    assert sorted(tree(disk.path)) == before


def test_half_a_log_line_is_taken_back(tmp_path: Path, disk: Any) -> None:
    folder = RunFolder(disk.path)
    folder.append_log({"step": 1})
    disk.fill()
    told = 0
    for step in range(2, 400):  # until the page that the line lies in is full
        try:
            folder.append_log({"step": step, "loss": {"g": 0.5}})
        except OSError:
            told = step
            break
    lines = folder.log.read_bytes()
    assert told > 2
    assert lines.endswith(b"\n")
    assert [json.loads(line)["step"] for line in lines.splitlines()] == list(range(1, told))


# -- read-only ------------------------------------------------------------------------------------------------------


@pytest.fixture
def protected(run: Path, disk: Any) -> Path:
    """Return a run on a disk that is read-only."""
    place = Path(shutil.copytree(run, disk.path / "run"))
    disk.protect()
    return place


def test_a_read_only_run_is_told_before_anything_is_trained(go: Go, protected: Path, tree: Any, tmp_path: Path) -> None:
    before = tree(protected)
    done = go("resume", protected, "--max-steps", 14)
    assert done.status == 2
    assert done.err == (
        f"ganengine resume: {protected}: expected a folder that can be written to; it is read-only. Change its "
        "permissions, or copy the run to where you may write.\n"
    )
    assert tree(protected) == before
    # It can still be used.
    assert go("sample", protected, "--out", tmp_path / "pictures").status == 0
    done = go("report", protected)
    assert done.status == 2
    assert "cannot be written: Read-only file system" in done.err


def test_a_read_only_parent_is_told(start: Go, protected: Path) -> None:
    for out in (protected.parent / "new", protected.parent / "deep" / "new"):
        done = start(out, 1)
        assert done.status == 2
        assert done.err == f"ganengine run: The run's folder {out} cannot be made: Read-only file system.\n"


def test_a_read_only_cache_is_done_without(
    start: Go, protected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
    for name, cache in (("without", protected.parent / "cache"), ("with", tmp_path / "cache")):
        monkeypatch.setenv("GANENGINE_CACHE", str(cache))
        done = start(tmp_path / name, 3, tmp_path / "data")
        assert done.status == 0, done.err
        assert done.err == ""
    assert (tmp_path / "cache").is_dir()
    one, other = (
        (tmp_path / name / "checkpoints" / "step-000000003" / "state.pt").read_bytes() for name in ("with", "without")
    )
    assert one == other


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not hold for root")
def test_permissions_are_told_like_a_read_only_disk(go: Go, run: Path) -> None:
    run.chmod(0o555)
    done = go("resume", run, "--max-steps", 14)
    run.chmod(0o755)
    assert done.status == 2
    assert "it is read-only" in done.err
