"""`ganengine report` as it is called: statuses, files, no torch; and a run that really trained."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganengine.cli import main
from ganengine.commands import report

DOCS = Path(__file__).parents[2] / "docs" / "commands.md"


def test_it_writes_one_file_and_says_which(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    before = sorted(path.name for path in run.iterdir())
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr() == (f"{run / 'report.html'}\n", "")
    assert sorted(path.name for path in run.iterdir()) == sorted([*before, "report.html"])
    out = run.parent / "made" / "page.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"<!DOCTYPE html>")


def test_it_overwrites_only_when_asked(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    (run / "report.html").write_text("mine")
    assert main(["report", str(run)]) == 2
    assert "expected names that are free; they exist. Use --overwrite" in capsys.readouterr().err
    assert (run / "report.html").read_text() == "mine"
    assert main(["report", str(run), "--overwrite"]) == 0
    assert len((run / "report.html").read_text()) > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "nowhere: expected the folder of a run; there is no such folder"),
        ("empty", "empty: expected the folder of a run; it has no config.yaml"),
        ("RUN --out page.txt", 'expected the name of an .html file, got "page.txt"'),
        ("RUN --out empty", "expected the name of an .html file, got a folder"),
        ("RUN --out file/page.html", "file: expected a folder to write to; it is a file"),
        ("RUN --seed 3", "Unrecognized options: --seed, 3"),
        ("", "expected the folder of a run, or of several; got none"),
    ],
)
def test_wrong_use(
    words: str,
    message: str,
    make_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run()
    monkeypatch.chdir(run.parent)
    Path("empty").mkdir()
    Path("file").write_text("")
    before = sorted(run.parent.rglob("*"))
    try:
        status: object = main(["report", *words.replace("RUN", run.name).split()])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert message in " ".join(err.replace("\u2502", " ").split())
    assert sorted(run.parent.rglob("*")) == before


def test_a_report_that_cannot_be_written_leaves_nothing(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    (run / "report.html").write_text("before")

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    before = sorted(run.iterdir())
    assert main(["report", str(run), "--overwrite"]) == 2
    assert "report.html cannot be written: No space left on device." in capsys.readouterr().err
    assert sorted(run.iterdir()) == before
    assert (run / "report.html").read_text() == "before"


def test_it_imports_no_torch(make_run: Callable[..., Path]) -> None:
    look = "import sys; from ganengine.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", look, "report", str(make_run())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_every_option_is_documented_with_its_default() -> None:
    (section,) = (part for part in DOCS.read_text().split("\n## ") if part.startswith("report\n"))
    for option in dataclasses.fields(report._Options):
        if option.name != "runs":
            default = {"None": "", "False": "off"}[str(option.default)]
            assert f"| `--{option.name}` | {default} |" in section


def test_a_run_that_trained_tells_its_memory_and_what_it_said(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("test", 1)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / split / f"{number}.png")
    broken = tmp_path / "data" / "train" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    run = tmp_path / "run"
    small = "--size 16 --batch 2 --g-filters 2 --d-filters 2 --receptive-field 16 --threads 1 --tick-every 2"
    train = ["run", "pix2pix", str(tmp_path / "data"), *small.split(), "--max-steps", "5", "--out", str(run)]
    assert main(train) == 0
    assert main(["resume", str(run), "--max-steps", "6"]) == 0
    clocks = [json.loads(line)["time"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert [50 < clock["memory_mb"] < 50_000 for clock in clocks] == [True] * 3
    notes = [json.loads(line) for line in (run / "notes.jsonl").read_text().splitlines()]
    assert any("3.png" in note["text"] for note in notes)
    assert {"step": 5, "text": "Going on at step 5, 10 images."} in notes
    assert main(["report", str(run)]) == 0
    text = (run / "report.html").read_text()
    for told in ("Step 5: Going on at step 5, 10 images.", "memory_mb", "Preview after 12 images"):
        assert told in text
