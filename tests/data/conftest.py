"""Folders of small pictures, made anew for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Paint = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for derived data, empty at the start of each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANENGINE_CACHE", str(folder))
    return folder


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Write a picture below tmp_path whose pixels follow from its name: paint("train/0.png", 16, 8, mode="L")."""

    def write(name: str, width: int = 16, height: int = 8, mode: str = "RGB") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(name.encode())
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def truncate() -> Callable[[Path], None]:
    """Cut a picture off so that its header is whole and its pixels are not."""

    def cut(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])

    return cut
