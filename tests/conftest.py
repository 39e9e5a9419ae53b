"""What every test starts from."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

# Read when torch is first imported, here and in every process that a test starts. By default the threads of OpenMP spin
# while they wait for each other: where the machine has other work, two are several times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a worker for each core

import torch

from ganengine import ops

MODE = ops.mode()
THREADS = torch.get_num_threads()


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what the whole session needs: thousands of tests, and all of torch.

    Each search of everything would take half a second of it otherwise, and the bench asks for one before each timing.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANENGINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _choices() -> Iterator[None]:
    """Undo what a run in this process has chosen by --ops and --threads."""
    yield
    ops.set_mode(MODE)
    if torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)
