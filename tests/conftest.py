"""What every test starts from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ganengine import ops

MODE = ops.mode()


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANENGINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _ops_mode() -> Iterator[None]:
    """Undo what a run in this process has chosen by --ops."""
    yield
    ops.set_mode(MODE)
