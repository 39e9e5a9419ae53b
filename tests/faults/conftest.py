"""The tiny GAN from the command line, inside this process; runs of it to damage; disks that are full or read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ganengine.cli import main
from ganengine.plugins import add_path, registry

TINY = Path(__file__).parents[1] / "trainer" / "tiny_gan"
STEPS = 14
"""Length of the run that nobody disturbed."""
OPTIONS = [
    *("--threads", "1", "--device", "cpu", "--precision", "fp32", "--horizon", "4000", "--tick-every", "1"),
    *("--checkpoint-every", "2", "--preview", "2"),
]


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


Go = Callable[..., Done]


@pytest.fixture(autouse=True, scope="module")
def _tiny() -> Iterator[None]:
    """Have the tiny GAN at hand, and nobody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY.parent)
        add_path(TINY)
        yield
    registry.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tiny_gan"]:
        del sys.modules[name]


@pytest.fixture
def go(capsys: pytest.CaptureFixture[str]) -> Go:
    """Run a command: go("resume", run)."""

    def command(*argv: object) -> Done:
        capsys.readouterr()
        try:
            status = main([str(word) for word in argv])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        return Done(status, *capsys.readouterr())

    return command


@pytest.fixture
def start(go: Go) -> Go:
    """Begin a run of the tiny GAN: start(folder, 6, "--seed", 1)."""

    def command(out: Path, steps: int, *argv: object) -> Done:
        return go("run", "tiny-gan", "--out", out, "--max-steps", steps, *OPTIONS, *argv)

    return command


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the runs are that all modules share."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def made(runs: Path, _tiny: None) -> Path:
    """Return a folder of runs: `whole` of 14 steps, `begun` of 6, and `other`, a longer one with another seed."""
    for name, steps, seed in (("whole", STEPS, 0), ("begun", 6, 0), ("other", 10, 1)):
        words = ["run", "tiny-gan", "--out", str(runs / name), "--max-steps", str(steps), "--seed", str(seed)]
        assert (runs / name).exists() or main([*words, *OPTIONS]) == 0
    return runs


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """Return a run that was stopped at step 6, with checkpoints of steps 4 and 6."""
    return Path(shutil.copytree(made / "begun", tmp_path / "run"))


@pytest.fixture
def whole(made: Path) -> dict[str, Any]:
    """Return what the run that nobody disturbed left at step 14."""
    return remains(made / "whole")


def remains(run: Path) -> dict[str, bytes]:
    """Return networks and state of step 14 as bytes."""
    last = run / "checkpoints" / f"step-{STEPS:09d}"
    return {name: (last / name).read_bytes() for name in ("networks.safetensors", "state.pt")}


@pytest.fixture(name="remains")
def _remains() -> Callable[[Path], dict[str, bytes]]:
    return remains


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, bytes | None]]:
    """Return every file below a folder with its contents, and every folder."""

    def tree(folder: Path) -> dict[str, bytes | None]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")
        }

    return tree


# -- disks ----------------------------------------------------------------------------------------------------------


class Disk:
    """A small file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, spare: int = 0) -> None:
        """Leave so many KiB free."""
        free = shutil.disk_usage(self.path).free - (spare << 10)
        (self.path / "ballast").write_bytes(b"x" * max(0, free))

    def empty(self) -> None:
        """Take the ballast off."""
        (self.path / "ballast").unlink()

    def protect(self) -> None:
        """Make it read-only."""
        _mount("-o", "remount,ro", str(self.path))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a file system of 512 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    with ExitStack() as stack:
        _mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path))
        stack.callback(subprocess.run, ["umount", "-l", str(path)], check=True)
        yield Disk(path)


def _mount(*words: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
