from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from .build import load_module


@pytest.fixture(scope="session")
def build_folder(pytestconfig: pytest.Config) -> Path:
    """Where compiled things outlive the session."""
    cache = pytestconfig.cache
    assert cache is not None
    return Path(cache.mkdir("ganengine-emulator"))


@pytest.fixture(scope="session")
def module(build_folder: Path) -> ModuleType:
    """The kernels of csrc/, run by the emulator."""
    return load_module(build_folder)
