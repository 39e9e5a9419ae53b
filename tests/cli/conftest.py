"""The command line inside this process, and a tiny trained run to use it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganengine.cli import main
from ganengine.plugins import add_path, registry

PIX2PIX = Path(__file__).parents[2] / "plugins" / "ganengine-pix2pix"
SMALLEST = [
    *("--size", "16", "--batch", "2", "--g-filters", "2", "--d-filters", "2", "--receptive-field", "16"),
    *("--norm", "batch", "--dropout", "0.5", "--threads", "1", "--precision", "fp32", "--ops", "reference"),
]


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


Go = Callable[..., Done]


@pytest.fixture(autouse=True)
def _pix2pix() -> None:
    """Have the variant at hand where it is not installed."""
    if "pix2pix" not in registry().entries["variant"]:
        add_path(PIX2PIX)


@pytest.fixture
def go(capsys: pytest.CaptureFixture[str]) -> Go:
    """Run a command: go("eval", run, "--json")."""

    def command(*argv: object) -> Done:
        capsys.readouterr()
        try:
            status = main([str(word) for word in argv])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        return Done(status, *capsys.readouterr())

    return command


def paint(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """Write a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(name="paint")
def _paint() -> Callable[..., Path]:
    return paint


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pairs side by side, 16 pixels high: 4 to train on, 2 to look at, 3 to test with."""
    folder = tmp_path_factory.mktemp("data") / "pairs"
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for number in range(count):
            paint(folder / split / f"{number}.png", 32, 16, seed=hash_of(f"{split}/{number}"))
    return folder


def hash_of(word: str) -> int:
    return int.from_bytes(word.encode(), "little")


@pytest.fixture(scope="session")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a run of pix2pix of three steps; tests leave it as it is."""
    if "pix2pix" not in registry().entries["variant"]:
        add_path(PIX2PIX)
    run = tmp_path_factory.mktemp("runs") / "pix2pix"
    assert main(["run", "pix2pix", str(pairs), *SMALLEST, "--max-steps", "3", "--lr", "0.01", "--out", str(run)]) == 0
    before = tree(run)
    yield run
    assert tree(run) == before


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file below a folder with its contents, and every folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }  # fmt: skip


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, bytes | None]]:
    return tree


@pytest.fixture(scope="session")
def smallest() -> list[str]:
    """Return the options of the smallest pix2pix."""
    return SMALLEST
