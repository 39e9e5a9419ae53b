"""Code that reads the data fails in the middle of a run: told, every step that was done saved, resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganengine.checkpoint import newest
from ganengine.data import Loader
from ganengine.data.store import Store
from ganengine.testing import Synthetic

Go = Callable[..., Any]


@pytest.mark.parametrize(
    "error",
    [KeyError("label"), MemoryError(), SystemExit(0), KeyboardInterrupt(), RuntimeError("can't start new thread")],
)
def test_a_reader_that_fails(
    go: Go, start: Go, tmp_path: Path, whole: Any, remains: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    draw, read, run = Loader.draw, Synthetic.read, tmp_path / "run"
    broken: list[bool] = []

    def draw_until(self: Loader, position: int, count: int, **options: Any) -> Any:
        if position == 20 and not broken:
            broken.append(True)
            self._pending.clear()  # what was read ahead does not help
        return draw(self, position, count, **options)

    def read_until(self: Synthetic, split: str, index: int, size: int | None) -> Any:
        if broken:
            raise error
        return read(self, split, index, size)

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "draw", draw_until)
        patch.setattr(Synthetic, "read", read_until)
        patch.setattr(Store, "holds", lambda *_: False)
        patch.setattr(Store, "read", lambda self, *at: self._read(*at))
        done = start(run, 14)
    assert done.status == 2
    assert "Traceback" not in done.err
    assert f"Reading the data failed after 20 images: {type(error).__name__}" in done.err
    assert "test_data.py, line" in done.err
    assert "Put right what Synthetic reads" in done.err
    assert f"`ganengine resume {run}" in done.err
    assert newest(run / "checkpoints")[0].step == 5, "step 6 had not begun; checkpoints were due at even steps"
    assert go("resume", run).status == 0
    assert remains(run) == whole
