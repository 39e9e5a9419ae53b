"""Previews: evenly chosen, within their budget, damaged ones told."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganengine.report import frames
from ganengine.report.frames import evenly, read_frames


@given(st.integers(0, 200), st.integers(1, 50))
def test_evenly(length: int, count: int) -> None:
    chosen = evenly(range(length), count)
    assert len(chosen) == min(length, count)
    if length:
        assert chosen[-1] == length - 1
    if count > 1 and length:
        assert chosen[0] == 0
    steps = {b - a for a, b in itertools.pairwise(chosen)}
    assert not steps or max(steps) - min(steps) <= 1 < 1 + min(steps)


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_small_sheet_keeps_its_pixels(tmp_path: Path, write_preview: Callable[..., Path]) -> None:
    path = write_preview(tmp_path, 7, width=40)
    (frame,), count, faults = read_frames(path.parent)
    assert (frame.images, frame.width, frame.height, frame.zoom, count, faults) == (7, 40, 60, 8, 1, [])
    with Image.open(path) as before, picture(frame.uri) as after:
        np.testing.assert_array_equal(np.asarray(after.convert("RGB")), np.asarray(before))


def test_without_webp_it_is_jpeg(
    tmp_path: Path, write_preview: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_preview(tmp_path, 7).parent
    monkeypatch.setattr(frames.features, "check", lambda name: False)
    (frame,), _, _ = read_frames(folder)
    with picture(frame.uri) as decoded:
        assert (frame.uri.partition(";")[0], decoded.format, decoded.size) == ("data:image/jpeg", "JPEG", (40, 60))


def test_large_sheets_are_made_smaller_and_fewer(tmp_path: Path, write_preview: Callable[..., Path]) -> None:
    for images in range(6):
        folder = write_preview(tmp_path, images, width=1000 if images else 3000, height=400).parent
    every, count, _ = read_frames(folder, budget=1 << 40)
    assert count == len(every) == 6
    assert (every[0].width, every[0].height) == (1600, 213)
    budget = sum(len(frame.uri) for frame in every) // 2
    fewer, count, _ = read_frames(folder, budget=budget)
    assert 2 <= len(fewer) < 6 == count
    assert (fewer[0].images, fewer[-1].images) == (0, 5)
    assert sum(len(frame.uri) for frame in fewer) <= budget
    assert [frame.images for frame in read_frames(folder, budget=1)[0]] == [5]


def test_a_damaged_preview_is_told_and_others_stay(tmp_path: Path, write_preview: Callable[..., Path]) -> None:
    for images in (0, 8, 16):
        path = write_preview(tmp_path, images)
    path.write_bytes(path.read_bytes()[:300])
    (path.parent / "000000024.png").write_bytes(b"")
    (path.parent / "notes.png").write_bytes(b"no preview by its name")
    found, count, faults = read_frames(path.parent)
    assert ([frame.images for frame in found], count) == ([0, 8], 4)
    assert [fault.split(":")[0] for fault in faults] == ["Preview 000000016.png", "Preview 000000024.png"]


def test_no_folder_is_no_preview(tmp_path: Path) -> None:
    assert read_frames(tmp_path / "samples") == ([], 0, [])
