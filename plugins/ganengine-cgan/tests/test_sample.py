"""What `ganengine sample` draws from a run that makes pictures of noise, by class; names tell what was asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ganengine.cli import main
from ganengine.plugins import add_path
from PIL import Image

SMALL = ["--max-steps", "2", "--batch", "8", "--size", "8", "--preview", "16", "--threads", "1", "--tick-every", "1"]
PLACE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cgan on four classes of grey squares."""
    add_path(PLACE)
    data = tmp_path_factory.mktemp("data")
    for number in range(4):
        for split in ("train", "test"):
            (data / split / f"c{number}").mkdir(parents=True)
            for index in range(4):
                shade = np.full((8, 8), 50 * number + index, np.uint8)
                Image.fromarray(shade).save(data / split / f"c{number}" / f"{index}.png")
    out = tmp_path_factory.mktemp("runs") / "cgan"
    assert main(["run", "cgan", str(data), *SMALL, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(
    ("words", "name", "cells"),
    [
        (["--n", "4"], "000000016-4", (2, 2)),
        (["--class", "3", "--n", "4"], "000000016-class-3-4", (2, 2)),
        (["--class", "c2", "--n", "4"], "000000016-class-c2-4", (2, 2)),
        (["--class-grid", "--n", "3"], "000000016-class-grid-12", (4, 3)),
        (["--ablate", "noise", "--n", "3"], "000000016-ablate-noise-12", (4, 3)),
        (["--morph", "0,3", "--n", "2"], "000000016-morph-0-3-18", (2, 9)),
        (["--interpolate", "linear", "--n", "2", "--seed", "5"], "000000016-interpolate-linear-18-seed5", (2, 9)),
        (["--corners"], "000000016-corners-81", (9, 9)),
        (["--neighbours", "--n", "2"], "000000016-neighbours-10", (2, 5)),
        (["--truncation", "0.5", "--n", "1"], "000000016-truncation0.5-1", (1, 1)),
    ],
)
def test_each_has_its_name_and_form(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], name: str, cells: tuple[int, int]
) -> None:
    assert main(["sample", str(run), *words, "--out", str(tmp_path)]) == 0
    path = tmp_path / f"{name}.png"
    assert capsys.readouterr().out.splitlines()[0] == str(path)
    with Image.open(path) as picture:
        assert picture.size == (2 + 10 * cells[1], 2 + 10 * cells[0])
    if any(word in name for word in ("grid", "ablate", "interpolate", "neighbours")):
        assert json.loads(path.with_suffix(".json").read_text())["schema"] == 1


def test_without_noise_all_columns_are_equal(run: Path, tmp_path: Path) -> None:
    assert main(["sample", str(run), "--ablate", "noise", "--n", "3", "--separate", "--out", str(tmp_path)]) == 0
    cells = [np.asarray(Image.open(tmp_path / f"{index:06d}.png")) for index in range(12)]
    assert np.array_equal(cells[0], cells[1])
    assert not np.array_equal(cells[0], cells[3])


def test_a_film_has_a_frame_for_each_preview(run: Path, tmp_path: Path) -> None:
    assert main(["sample", str(run), "--gif", "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / "film.gif") as film:
        assert getattr(film, "n_frames", 1) == len(list((run / "samples").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class", "7"], "expected a number from 0 to 3"),
        (["--class", "cx"], "expected a number from 0 to 3 or one of c0, c1, c2, c3"),
        (["--class", "3", "--ablate", "label"], "expected one thing to draw, got --class and --ablate"),
        (["--morph", "1"], "expected two classes such as 3,7"),
        (["--truncation", "-1"], "expected a number from 0 to 10"),
        (["--view", "strips"], "it has samples"),
    ],
)
def test_what_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["sample", str(run), *words, "--out", str(tmp_path / "none")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_points_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_path(PLACE)
    assert main(["run", "cgan", "ring", *SMALL, "--out", str(tmp_path / "run")]) == 2
    assert "expected pictures, got data of kind vector" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
