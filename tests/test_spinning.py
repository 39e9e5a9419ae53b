"""How long threads wait awake: said before torch is there, by how busy the machine is, never against a user's word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ganengine.spinning import BUSY, QUIET, SPINS, THEIRS, wait_briefly

PLAIN = {name: value for name, value in os.environ.items() if name not in THEIRS}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THEIRS:
        monkeypatch.setenv(name, "")  # noted, so that it is as before in the end
        monkeypatch.delenv(name)


def test_it_is_said_before_torch_is_imported() -> None:
    script = (
        "import os, sys\n"
        "from ganengine import cli\n"
        "assert 'torch' not in sys.modules\n"
        "cli.main(['--version'])\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['GOMP_SPINCOUNT'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=PLAIN, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in (QUIET, BUSY)


@pytest.mark.parametrize(("load", "turns"), [(0.9, QUIET), (2.1, BUSY)])
def test_a_busy_machine_is_spared(load: float, turns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert wait_briefly() == f"{SPINS}={turns}"
    assert os.environ[SPINS] == turns


def test_where_no_load_is_known_the_machine_counts_as_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.getloadavg")
    assert wait_briefly() == f"{SPINS}={QUIET}"


@pytest.mark.parametrize("theirs", THEIRS)
def test_what_the_user_says_holds(theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(theirs, "1")
    assert wait_briefly() == f"{theirs}=1"
    assert [name for name in THEIRS if name in os.environ] == [theirs]
