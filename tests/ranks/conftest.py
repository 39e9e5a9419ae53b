"""Runs by two ranks in one group, and what one rank makes of the same commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ganengine.cli import main
from ganengine.plugins import add_path

from .launch import GAME, together

GAMES: dict[str, list[str]] = {
    "alternating": ["--max-steps", "6", "--spectral-norm", "D"],
    "contiguous": ["--max-steps", "4", "--channels-last", "off"],
    "simultaneous": ["--max-steps", "4", "--order", "simultaneous", "--optimizer", "sgd"],
    "augmented": [
        "--max-steps",
        "7",
        "--augment",
        "ada",
        "--ada-target=-1",
        "--ada-images",
        "40",
        "--instance-noise",
        "0.1",
    ],
    "whole": ["--max-steps", "3", "--term", "whole"],
    "broken": ["--max-steps", "4", "--broken-at", "1"],
}
"""Options of games that two ranks must play as one does."""


@pytest.fixture(autouse=True, scope="session")
def _game() -> Iterator[None]:
    add_path(GAME)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


Command = Callable[..., int]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs go."""
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="session")
def ones(place: Path) -> Path:
    """The games as one rank plays them, and a run of which one rank did a half."""
    assert "WORLD_SIZE" not in os.environ
    for name, options in GAMES.items():
        assert main(["run", "many-ranks", "--out", str(place / "one" / name), *options]) == 0
    half = [*GAMES["alternating"], "--max-steps", "3"]
    assert main(["run", "many-ranks", "--out", str(place / "one-then-two"), *half]) == 0
    return place / "one"


@pytest.fixture(scope="session")
def twos(place: Path, ones: Path) -> dict[str, list[dict[str, Any]]]:
    """What two ranks told of each command, in order of rank."""
    half = [*GAMES["alternating"], "--max-steps", "3"]
    commands: dict[str, list[object]] = {
        name: ["run", "many-ranks", "--out", place / "two" / name, *options] for name, options in GAMES.items()
    }
    commands["half"] = ["run", "many-ranks", "--out", place / "halves", *half]
    commands["other half"] = ["resume", place / "halves", "--max-steps", "6"]
    commands["two of one"] = ["resume", place / "one-then-two", "--max-steps", "6"]
    commands["first half of one"] = ["run", "many-ranks", "--out", place / "two-then-one", *half]
    commands["minutes"] = ["run", "many-ranks", "--out", place / "minutes", "--max-minutes", "0.001"]
    commands["share"] = ["run", "many-ranks", "--out", place / "share", "--max-steps", "3", "--term", "share"]
    commands["odd"] = ["run", "many-ranks", "--out", place / "odd", "--max-steps", "3", "--batch", "5"]
    done = together(2, list(commands.values()))
    return {name: [of_rank[number] for of_rank in done] for number, name in enumerate(commands)}
