"""The real command, interrupted: killed outright, asked to stop, Ctrl-C; what is finished equals an unbroken run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ganengine.cli import main
from ganengine.plugins import registry

from .lab import final_files, log_of

PLUGIN = Path(__file__).parent / "tiny_gan"
STEPS = 200
OPTIONS = [
    *("--max-steps", str(STEPS), "--tick-every", "1", "--checkpoint-every", "20", "--horizon", "4000"),
    *("--threads", "1", "--device", "cpu", "--precision", "fp32", "--preview", "0", "--plugin", str(PLUGIN)),
]


def start(place: Path, *argv: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "ganengine", *argv],
        cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def unbroken(out: Path) -> None:
    """Train without an interruption, in this process, and forget the plugin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        try:
            assert main(["run", "tiny-gan", "--out", str(out), *OPTIONS]) == 0
        finally:
            registry.cache_clear()
            for name in [name for name in sys.modules if name.partition(".")[0] == "tiny_gan"]:
                del sys.modules[name]


def interrupt(process: subprocess.Popen[str], run: Path, number: int, wait: float) -> tuple[int, str]:
    """Send a signal once a few steps were done, and wait for the end."""
    log = run / "log.jsonl"
    begun: int | None = None
    while process.poll() is None:
        lines = log.read_bytes().count(b"\n") if log.exists() else 0
        # A run that goes on cuts the log first, so lines are counted from the fewest seen.
        begun = lines if begun is None else min(begun, lines)
        if lines >= begun + 25:
            time.sleep(wait)
            process.send_signal(number)
            break
        time.sleep(0.002)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_run_that_is_interrupted_again_and_again_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    run = tmp_path / "broken"
    moments = random.Random(os.getpid())
    process = start(tmp_path, "run", "tiny-gan", "--out", "broken", *OPTIONS)
    for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        got, output = interrupt(process, run, number, moments.uniform(0, 0.02))
        assert got == status, output
        if status > 0:
            assert "Traceback" not in output
            assert f"Stopped: {signal.Signals(number).name}" in output
        process = start(tmp_path, "resume", "broken", "--plugin", str(PLUGIN))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"Stopped: {STEPS} steps reached" in output
    unbroken(tmp_path / "unbroken")
    assert final_files(run) == final_files(tmp_path / "unbroken")
    assert log_of(run) == log_of(tmp_path / "unbroken")
    assert not list((run / "checkpoints").glob(".*")), "nothing half-written is left"
