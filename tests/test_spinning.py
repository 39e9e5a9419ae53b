"""How long threads wait awake: said before torch is there, and never against the user's own word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ganengine.spinning import SPINS, THEIRS, wait_briefly

PLAIN = {name: value for name, value in os.environ.items() if name not in THEIRS}


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
    assert done.stdout.splitlines()[-1] == SPINS


@pytest.mark.parametrize("theirs", THEIRS)
def test_what_the_user_says_holds(theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THEIRS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(theirs, "1")
    assert wait_briefly() == f"{theirs}=1"
    assert [name for name in THEIRS if name in os.environ] == [theirs]
