"""The command as a process of its own: exit status, streams, and what is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TORCHLESS = [
    [],
    ["--help"],
    ["--version"],
    ["list"],
    ["list", "--json"],
    ["info", "pix2pix"],
    ["info", "pix2pix", "--json"],
    ["plugins", "doctor"],
    ["data", "--help"],
    ["run", "--help"],
    ["run", "pix2pix", "--help"],
    ["resume", "--help"],
    ["sample", "--help"],
    ["translate", "--help"],
    ["eval", "--help"],
    ["doctor", "--help"],
    ["run", "pix2pux"],
    ["run", "pix2pix", "--lambda-l2", "3"],
    ["run", "pix2pix", "--batch", "two"],
    ["run", "pix2pix", "--preset", "papre"],
    ["trian"],
]

LOOK = """
import contextlib, io, json, sys
from ganengine.cli import main
found = []
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(argv)
    found.append([name for name in ("torch", "torchvision", "matplotlib") if name in sys.modules])
print(json.dumps(found))
"""


def process(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_what_needs_no_torch_imports_none() -> None:
    """One process for all: what one command imports would be seen at it and after it."""
    done = process("-c", LOOK, json.dumps(TORCHLESS))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(TORCHLESS)
    assert {" ".join(argv): names for argv, names in zip(TORCHLESS, found, strict=True) if names} == {}


@pytest.mark.parametrize(
    ("argv", "status", "out", "err"),
    [
        (["--help"], 0, "usage: ganengine COMMAND", ""),
        (["run", "pix2pux", "nowhere"], 2, "", 'ganengine run: No variant is called "pix2pux". Did you mean pix2pix'),
        (["run", "pix2pix", "--batch", "two"], 2, "", "Error parsing --batch"),
        (["data", "inspect", "nowhere"], 2, "", "ganengine data: nowhere: no such folder"),
    ],
)
def test_status_and_streams(argv: list[str], status: int, out: str, err: str, tmp_path: Path) -> None:
    done = process("-m", "ganengine", *argv, cwd=tmp_path)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith(out)
    assert err in done.stderr
    assert bool(done.stdout) == bool(out)
    assert bool(done.stderr) == bool(err)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ganengine", "info", "pix2pix", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1
