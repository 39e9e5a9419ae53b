"""The report of `ganengine data inspect`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from ganengine.commands.data import data as command
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
            "A": {
                "channels": 1,
                "channel_counts": {"1": 4},
                "sizes": {"16x8": 3, "32x32": 1},
                "modes": {"L": 4},
            },
            "B": {
                "channels": 3,
                "channel_counts": {"3": 4},
                "sizes": {"16x8": 3, "32x32": 1},
                "modes": {"RGB": 4},
            },
        },
        "splits": {"train": 3, "test": 1},
        "bad": [],
        "duplicates": [],
        "decoded": True,
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
    report = inspect(tmp_path)
    assert report["problem"] == "Add a folder train/: there is nothing to train on."
    assert report["repairs"] == [report["problem"]]
    assert command(["inspect", str(tmp_path)]) == 1


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), ("empty", "the folder is empty")])
def test_nothing_to_look_at(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        inspect(tmp_path / name)


def reasons(report, key="odd"):
    """{path below the folder: reason}"""
    return {Path(entry["path"]).relative_to(report["path"]).as_posix(): entry["reason"] for entry in report[key]}


def test_pictures_that_are_cut_off_are_found_by_decoding(tmp_path, paint, truncate):
    for number in range(3):
        paint(f"train/{number}.png", 64, 32)
    truncate(tmp_path / "train/1.png")
    (tmp_path / "train/2.png").write_bytes(b"")
    os.symlink("/etc/hostname", tmp_path / "train/3.png")
    report = inspect(tmp_path)
    assert reasons(report, "bad") == {
        "train/1.png": "damaged or cut off (image file is truncated)",
        "train/2.png": "the file is empty",
        "train/3.png": "a link that leads out of the data; put the file itself there",
    }
    assert "Replace or remove 3 unreadable pictures; training leaves them out." in report["repairs"]
    quick = inspect(tmp_path, quick=True)
    assert quick["decoded"] is False
    assert set(reasons(quick, "bad")) == {"train/2.png", "train/3.png"}


@pytest.mark.parametrize(
    ("names", "cut", "left"),
    [
        (["train/0.png", "train/1.png", "test/2.png"], ["train/0.png", "train/1.png"], False),
        (["train/0.png", "train/1.png", "test/2.png"], ["train/0.png", "test/2.png"], True),
        (["A/0.png", "A/1.png", "B/0.png", "B/1.png"], ["A/0.png", "B/1.png"], False),  # no pair is whole
        (["A/0.png", "A/1.png", "B/0.png", "B/1.png"], ["A/0.png", "B/0.png"], True),
        (["trainA/0.png", "trainA/1.png", "trainB/2.png"], ["trainB/2.png"], False),
        (["trainA/0.png", "trainA/1.png", "trainB/2.png"], ["trainA/0.png"], True),
    ],
)
def test_a_problem_is_that_no_training_sample_is_whole(tmp_path, paint, truncate, names, cut, left):
    for name in names:
        paint(name, 64, 32)
    for name in cut:
        truncate(tmp_path / name)
    problem = inspect(tmp_path)["problem"]
    assert (problem is None) == left
    assert left or "can be read whole: replace what is listed as odd." in problem
    assert inspect(tmp_path, quick=True)["problem"] is None  # nobody has looked


def test_equal_pictures_within_and_across_splits(tmp_path, paint):
    for name in ("train/0.png", "train/1.png", "test/2.png", "test/3.png"):
        paint(name)
    Image.open(tmp_path / "train/0.png").save(tmp_path / "train/0.bmp")  # other bytes, the same pixels
    (tmp_path / "test/copy.png").write_bytes((tmp_path / "train/1.png").read_bytes())
    report = inspect(tmp_path)
    places = [str(tmp_path / "train/1.png"), str(tmp_path / "test/copy.png")]
    copies = [str(tmp_path / "train/0.bmp"), str(tmp_path / "train/0.png")]
    assert report["duplicates"] == [
        {"paths": places, "splits": ["test", "train"]},
        {"paths": copies, "splits": ["train"]},
    ]
    assert any(line.startswith("Keep 1 picture in one split only") for line in report["repairs"])
    assert "Remove 1 copy, unless they are meant to count twice." in report["repairs"]
    assert inspect(tmp_path, quick=True)["duplicates"] == []


def test_equal_a_with_different_b_is_named_and_a_equal_to_b_is_not(tmp_path, paint):
    for name in ("A/0.png", "B/0.png", "B/1.png"):
        paint(name)
    for name in ("A/1.png", "A/2.png", "B/2.png"):
        (tmp_path / name).write_bytes((tmp_path / "A/0.png").read_bytes())
    (tmp_path / "B/3.png").write_bytes((tmp_path / "A/0.png").read_bytes())
    paint("A/3.png")
    (group,) = [group for group in inspect(tmp_path)["duplicates"] if "A" in group["paths"][0].split("/")[-2]]
    assert [Path(path).name for path in group["paths"]] == ["0.png", "1.png", "2.png"]


def test_odd_names(tmp_path, paint):
    for name in (
        "a.png",
        "A.PNG",
        "b .png",
        " c.png",
        "d:e.png",
        "f.jpg",
        "fine.png",
        "caf\u00e9.png",
        "cafe\u0301.png",
    ):
        paint(name, 16, 8)
    paint("x.png").rename(tmp_path / "f.jpg")
    for name in ("g.heic", "h.zip", "notes.txt"):
        (tmp_path / name).touch()
    assert reasons(inspect(tmp_path)) == {
        "g.heic": "a kind of picture that is not read: convert it to .png",
        "h.zip": "an archive inside: ignored; unpack it, or give it alone",
        "notes.txt": "no picture: ignored",
        " c.png": "its name begins or ends with a space",
        "a.png": "its name differs from A.PNG in upper and lower case or accents only",
        "b .png": "its name begins or ends with a space",
        "caf\u00e9.png": "its name differs from cafe\u0301.png in upper and lower case or accents only",
        "d:e.png": "its name has characters that other systems do not allow",
        "f.jpg": "its suffix says otherwise, but it is PNG; it is read all the same",
    }


def test_modes_and_channel_counts(tmp_path, paint):
    for number, mode in enumerate(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")):
        paint(f"{number}.{'tif' if mode == 'CMYK' else 'png'}", 12, 8, mode=mode)
    field = inspect(tmp_path)["fields"]["real"]
    assert field["modes"] == dict.fromkeys(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"), 1)
    assert field["channel_counts"] == {"1": 2, "4": 2, "3": 2, "2": 1}  # this palette has transparent colours
    assert field["channels"] == 3


def tree(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize("arguments", [[], ["--quick"], ["--json"]])
def test_the_command(tmp_path, paint, cache, capsys, arguments):
    for name in ("data/train/0.png", "data/train/1.png", "data/test/2.png"):
        paint(name)
    before = tree(tmp_path)
    assert command(["inspect", str(tmp_path / "data"), *arguments]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    if arguments == ["--json"]:
        assert json.loads(shown.out) == inspect(tmp_path / "data")
    else:
        assert "pairs side by side (data source pairs); samples: train 2, test 1" in shown.out
        assert "sizes of files        3 of 16x8" in shown.out
        assert shown.out.endswith("This data can be trained on.\n")
        assert not {"{", "["} & set(shown.out)
        assert ("headers only" in shown.out) == bool(arguments)
    assert tree(tmp_path) == before
    assert list(cache.iterdir()) == []


def test_the_command_tells_what_does_not_fit_by_its_status(tmp_path, paint, truncate, capsys):
    for number in range(30):
        (paint(f"cut/{number:02d}.png", 64, 32)).write_bytes(b"")
    truncate(paint("cut/99.png", 64, 32))
    paint("cut/98.png", 64, 32)
    assert command(["inspect", str(tmp_path / "cut")]) == 1
    shown = capsys.readouterr().out
    assert "odd (31)" in shown
    assert "00.png: the file is empty" in shown
    assert "... and 19 more (--json gives all)" in shown
    assert shown.endswith("This data can be trained on.\n")
    paint("A/0.png")
    paint("B/1.png")
    assert command(["inspect", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "to repair (" in shown
    assert "no name in common" in shown
    assert shown.endswith("This data cannot be trained on as it is.\n")
