"""`ganengine sample --sweep`, and previews, of a variant whose latent has named parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganengine.cli import main
from ganengine.plugins import add_path, registry

INFOGAN = Path(__file__).parents[2] / "plugins" / "ganengine-infogan"
SMALLEST = [
    *("--size", "8", "--batch", "4", "--noise", "3", "--categories", "3", "--hidden", "8", "--q-hidden", "4"),
    *("--g-filters", "2", "--d-filters", "2", "--threads", "1", "--precision", "fp32", "--preview", "7"),
]

Go = Callable[..., Any]


@pytest.fixture(scope="module")
def infogan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "infogan" not in registry().entries["variant"]:
        add_path(INFOGAN)
    data = tmp_path_factory.mktemp("data")
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(data / f"{number}.png")
    run = tmp_path_factory.mktemp("runs") / "infogan"
    assert main(["run", "infogan", str(data), *SMALLEST, "--max-steps", "2", "--out", str(run)]) == 0
    return run


@pytest.fixture
def run(infogan: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(infogan, tmp_path / "run"))


def shape(path: Path) -> tuple[int, ...]:
    with Image.open(path) as picture:
        return np.asarray(picture).shape


def test_previews_have_a_row_for_each_value(run: Path) -> None:
    pictures = list((run / "samples").iterdir())
    assert pictures
    assert all(shape(path) == (3 * 10 + 2, 2 * 10 + 2) for path in pictures)  # 7 // 3 columns, margins of 2


def test_a_category_is_one_sheet_with_its_numbers(go: Go, run: Path) -> None:
    done = go("sample", run, "--sweep", "category", "--n", "5")
    assert done.status == 0
    path = Path(done.out.splitlines()[0])
    assert path.name == "000000008-sweep-category-15.png"
    assert shape(path) == (3 * 10 + 2, 5 * 10 + 2)
    assert set(json.loads(path.with_suffix(".json").read_text())) == {"schema", "of_part", "of_rest"}
    assert go("sample", run, "--sweep", "category", "--n", "5").status == 2  # nothing is overwritten unasked


def test_codes_have_a_sheet_each(go: Go, run: Path) -> None:
    done = go("sample", run, "--sweep", "codes", "--n", "3", "--seed", "2")
    assert done.out.splitlines()[0] == f"2 pictures in {run / 'drawn'}"
    names = sorted(path.name for path in (run / "drawn").glob("*.png"))
    assert names == [f"000000008-sweep-codes-{number}-27-seed2.png" for number in (1, 2)]
    assert all(shape(run / "drawn" / name) == (3 * 10 + 2, 9 * 10 + 2) for name in names)
    (numbers,) = (run / "drawn").glob("*.json")
    assert {"codes-1_of_part", "codes-2_of_rest"} <= set(json.loads(numbers.read_text()))


def test_single_pictures_of_a_sweep_are_numbered_through(go: Go, run: Path, tmp_path: Path) -> None:
    assert go("sample", run, "--sweep", "codes", "--n", "1", "--separate", "--out", tmp_path / "made").status == 0
    assert len(list((tmp_path / "made").glob("*.png"))) == 2 * 9


@pytest.mark.parametrize("words", [("--interpolate", "spherical"), ("--corners",), ("--truncation", "0.5")])
def test_other_sheets_are_legal(go: Go, run: Path, words: tuple[str, ...]) -> None:
    assert go("sample", run, *words).status == 0


def test_another_name_is_answered_with_those_that_there_are(go: Go, run: Path, trained: Path) -> None:
    before = sorted(run.rglob("*"))
    refused = go("sample", run, "--sweep", "categry")
    assert refused.status == 2
    assert "--sweep: expected a part of the latent: noise, category, codes; got" in refused.err
    assert "Did you mean category?" in refused.err
    assert go("sample", run, "--sweep", "noise", "--corners").status == 2
    assert go("sample", trained, "--sweep", "noise").status == 2  # starts from pictures
    assert sorted(run.rglob("*")) == before
