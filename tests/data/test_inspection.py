"""The report of `ganengine data inspect`."""

from __future__ import annotations

import json

import pytest

from ganengine.data import inspect
from ganengine.errors import DataError


def test_a_sound_folder(tmp_path, paint):
    for name in ("A/train/0.png", "A/train/1.png", "A/test/2.png"):
        paint(name, mode="L")
        paint(name.replace("A", "B"))
    paint("A/train/3.png", 32, 32, mode="L")
    paint("B/train/3.png", 32, 32)
    (tmp_path / "README.md").touch()
    report = inspect(tmp_path)
    assert json.loads(json.dumps(report)) == report
    assert report == {
        "schema": 1,
        "path": str(tmp_path),
        "layout": "pairs in A/train, B/train",
        "source": "pairs",
        "fields": {
            "A": {"channels": 1, "sizes": {"16x8": 3, "32x32": 1}, "modes": {"L": 4}},
            "B": {"channels": 3, "sizes": {"16x8": 3, "32x32": 1}, "modes": {"RGB": 4}},
        },
        "splits": {"train": 3, "test": 1},
        "odd": [{"path": str(tmp_path / "README.md"), "reason": "no picture: ignored"}],
        "problem": None,
        "repairs": [],
    }


@pytest.mark.parametrize(
    ("names", "width", "source"), [(["0.png", "1.png"], 16, "pairs"), (["0.png", "1.png"], 12, "images")]
)
def test_flat_folders_are_told_apart_by_shape(tmp_path, paint, names, width, source):
    for name in names:
        paint(name, width, 8)
    report = inspect(tmp_path)
    assert report["source"] == source
    assert report["splits"] == {"train": 2}
    assert "test/" in report["repairs"][0]


def test_problems_and_bad_pictures_are_reported_not_raised(tmp_path, paint):
    paint("A/0.png")
    paint("B/0.png", 8, 8)
    paint("A/1.png")
    paint("B/1.png").write_bytes(b"no picture")
    report = inspect(tmp_path)
    assert "1 of 1 pair is of unequal size" in report["problem"]
    assert report["repairs"][0] == report["problem"]
    assert report["odd"] == [
        {"path": str(tmp_path / "B/1.png"), "reason": "this is no picture, or its header is damaged"}
    ]
    assert report["fields"] == report["splits"] == {}


def test_a_missing_partner_folder(tmp_path, paint):
    paint("trainA/0.png")
    assert "has no partner" in inspect(tmp_path)["problem"]


def test_only_test_pictures(tmp_path, paint):
    paint("test/0.png")
    assert inspect(tmp_path)["repairs"] == ["Add a folder train/: there is nothing to train on."]


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), ("empty", "the folder is empty")])
def test_nothing_to_look_at(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        inspect(tmp_path / name)
