"""`ganengine translate`: any size, names kept, and a result that depends on the picture and its name alone."""

from __future__ import annotations

import errno
import os
import re
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
from PIL import Image

from ganengine.translation import writing

Go = Callable[..., Any]
Paint = Callable[..., Path]
Tree = Callable[[Path], dict[str, Any]]

SIZES = {
    "0.png": (16, 16),
    "sub/wide.jpg": (50, 9),
    "sub/deep/tall.bmp": (3, 40),
    "dot.png": (1, 1),
    "odd.png": (33, 17),
}
"""Width and height."""
MATES = {f"mate{number}.png": (16, 16) for number in range(9)}


@pytest.fixture
def source(tmp_path: Path, paint: Paint) -> Path:
    """Return a folder of pictures of many sizes, some of them alike."""
    for number, (name, size) in enumerate({**SIZES, **MATES}.items()):
        paint(tmp_path / "in" / name, *size, seed=number)
    return tmp_path / "in"


@pytest.fixture
def translate(go: Go, trained: Path) -> Callable[..., Any]:
    """Translate in float32, where not asked for otherwise, and expect success."""

    def command(*argv: object, precision: str = "fp32", status: int = 0) -> Any:
        done = go("translate", trained, *argv, "--precision", precision, "--threads", "1")
        assert done.status == status, done.err
        return done

    return command


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_any_size_keeps_its_name_place_and_size(source: Path, translate: Go, tmp_path: Path, tree: Tree) -> None:
    (source / "notes.txt").write_text("not a picture: left alone\n")
    done = translate(source, tmp_path / "out")
    assert done.out == ""
    assert "14 of 14 pictures translated" in done.err
    expected = {str(Path(name).with_suffix(".png")): size for name, size in {**SIZES, **MATES}.items()}
    made = {name for name, content in tree(tmp_path / "out").items() if content is not None}
    assert made == set(expected)
    for name, (width, height) in expected.items():
        assert pixels(tmp_path / "out" / name).shape == (height, width, 3), name


@pytest.mark.parametrize("stats", ["own", "running"])
def test_a_result_does_not_depend_on_batch_mates_or_on_the_folder(
    source: Path, translate: Go, tmp_path: Path, paint: Paint, stats: str, tree: Tree
) -> None:
    translate(source, tmp_path / "eight", "--stats", stats, "--batch", "8")
    translate(source, tmp_path / "one", "--stats", stats, "--batch", "1")
    assert tree(tmp_path / "eight") == tree(tmp_path / "one")
    # Alone, in another folder, under the same relative name.
    paint(tmp_path / "elsewhere" / "0.png", 16, 16, seed=0)
    translate(tmp_path / "elsewhere", tmp_path / "alone", "--stats", stats)
    assert (tmp_path / "alone" / "0.png").read_bytes() == (tmp_path / "one" / "0.png").read_bytes()
    # A single file is named as it would be in a folder.
    translate(tmp_path / "elsewhere" / "0.png", tmp_path / "single.png", "--stats", stats)
    assert (tmp_path / "single.png").read_bytes() == (tmp_path / "one" / "0.png").read_bytes()


def test_the_statistics_are_what_was_asked_for(source: Path, translate: Go, tmp_path: Path) -> None:
    for stats in ("own", "running"):
        translate(source / "0.png", tmp_path / f"{stats}.png", "--stats", stats)
    translate(source / "0.png", tmp_path / "default.png")
    assert (tmp_path / "default.png").read_bytes() == (tmp_path / "own.png").read_bytes()
    assert not np.array_equal(pixels(tmp_path / "own.png"), pixels(tmp_path / "running.png"))


def test_noise_follows_from_seed_and_name(source: Path, translate: Go, tmp_path: Path, paint: Paint) -> None:
    """pix2pix keeps dropout in use as its noise."""
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        translate(source / "0.png", tmp_path / out, "--seed", seed)
    a, b, c = (pixels(tmp_path / out / "0.png") for out in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    paint(tmp_path / "other.png", 16, 16, seed=0)  # the same picture under another name
    translate(tmp_path / "other.png", tmp_path / "d", "--seed", 1)
    assert not np.array_equal(a, pixels(tmp_path / "d" / "other.png"))


def test_in_bfloat16_a_result_is_the_same_up_to_rounding(source: Path, translate: Go, tmp_path: Path) -> None:
    translate(source, tmp_path / "eight", "--batch", "8", precision="bf16")
    translate(source, tmp_path / "one", "--batch", "1", precision="bf16")
    for name in MATES:
        eight, one = (pixels(tmp_path / out / name).astype(int) for out in ("eight", "one"))
        # Of 8 significant bits one half unit in the last place at each of some ten layers: a few of 256 levels.
        assert np.abs(eight - one).max() <= 8


def test_the_precision_is_chosen_once_and_told(
    source: Path, go: Go, trained: Path, translate: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Tree
) -> None:
    """On any machine: as if it multiplied bfloat16 fast."""
    monkeypatch.setattr("ganengine.hardware.fast_bfloat16", lambda device: True)
    deep = np.random.default_rng(0).integers(0, 1 << 16, (16, 16 * 3), dtype=np.uint16)
    png.from_array(deep, "RGB;16").save(source / "deep.png")
    for level, chosen in ((256.0, "bf16"), (0.0, "fp32")):
        monkeypatch.setattr("ganengine.precision.LEVELS", level)
        done = go("translate", trained, source, tmp_path / f"auto-{chosen}", "--threads", "1")
        assert done.status == 0, done.err
        assert [line.partition(":")[0] for line in done.err.splitlines() if " levels on average" in line] == [chosen]
        translate(source, tmp_path / chosen, precision=chosen)
    exact = (tmp_path / "fp32" / "deep.png").read_bytes()
    assert tree(tmp_path / "auto-fp32") == tree(tmp_path / "fp32")
    # Results of 16 bits are those of float32 all the same.
    assert (tmp_path / "bf16" / "deep.png").read_bytes() != exact
    assert tree(tmp_path / "auto-bf16") == {**tree(tmp_path / "bf16"), "deep.png": exact}


def test_nothing_is_overwritten_unasked(source: Path, go: Go, translate: Go, tmp_path: Path, trained: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "wide.png").write_bytes(b"precious")
    refused = go("translate", trained, source, out)
    assert refused.status == 2
    assert "wide.png: expected names that are free; they exist. Use --overwrite" in refused.err
    assert [path.name for path in out.rglob("*.png")] == ["wide.png"]
    assert (out / "sub" / "wide.png").read_bytes() == b"precious"
    translate(source, out, "--overwrite")
    assert pixels(out / "sub" / "wide.png").shape == (9, 50, 3)


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(source: Path, translate: Go, tmp_path: Path) -> None:
    (source / "broken.png").write_bytes(b"no picture at all")
    whole = (source / "0.png").read_bytes()
    (source / "sub" / "cut.png").write_bytes(whole[: len(whole) // 2])
    done = translate(source, tmp_path / "out", status=1)
    told = done.err.splitlines()
    assert sum("broken.png: " in line for line in told) == 1
    assert sum("cut.png: " in line for line in told) == 1
    assert "14 of 16 pictures translated" in told[-1]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 14
    assert not (tmp_path / "out" / "broken.png").exists()
    # The neighbours are what they are without them.
    (source / "broken.png").unlink()
    (source / "sub" / "cut.png").unlink()
    translate(source, tmp_path / "clean")
    for path in (tmp_path / "clean").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "clean")).read_bytes()


def test_grey_and_transparent_pictures_are_taken_too(translate: Go, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "colour.png", 16, 16)
    (tmp_path / "in").mkdir()
    with Image.open(tmp_path / "colour.png") as picture:
        picture.convert("L").save(tmp_path / "in" / "grey.png")
        picture.convert("RGBA").save(tmp_path / "in" / "glass.png")
        picture.convert("P").save(tmp_path / "in" / "palette.gif")
    translate(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grey.png", "glass.png", "palette.png"}
    shapes = {"grey.png": (16, 16, 3), "glass.png": (16, 16, 4), "palette.png": (16, 16, 3)}
    assert {path.name: pixels(path).shape for path in (tmp_path / "out").iterdir()} == shapes
    translate(tmp_path / "in", tmp_path / "dropped", "--alpha", "drop")
    assert all(pixels(path).shape == (16, 16, 3) for path in (tmp_path / "dropped").iterdir())


def test_namesakes_are_all_kept(translate: Go, tmp_path: Path, paint: Paint) -> None:
    for name in ("a.png", "a.jpg", "a.bmp", "sub/a.bmp"):
        paint(tmp_path / "in" / name, 8, 8)
    translate(tmp_path / "in", tmp_path / "out")
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert made == {"a.png", "a.jpg.png", "a.bmp.png", "sub/a.png"}


@pytest.mark.parametrize(
    ("bits", "asked", "mode"), [(8, "auto", "RGB"), (16, "auto", "deep"), (16, "8", "RGB"), (8, "16", "deep")]
)
def test_bits_are_those_of_the_input_or_as_asked(
    translate: Go, tmp_path: Path, bits: int, asked: str, mode: str
) -> None:
    grey = np.random.default_rng(0).integers(0, 2**bits, (16, 16)).astype(f"uint{bits}")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    translate(tmp_path / "grey.png", tmp_path / "out", "--bits", asked)
    width, height, rows, info = png.Reader(bytes=(tmp_path / "out" / "grey.png").read_bytes()).read()
    assert (width, height, info["planes"], info["bitdepth"]) == (16, 16, 3, 16 if mode == "deep" else 8)
    assert len({number for row in rows for number in row}) > 16


def test_sixteen_bits_round_to_eight(translate: Go, tmp_path: Path, paint: Paint) -> None:
    picture = paint(tmp_path / "0.png", 16, 16)
    translate(picture, tmp_path / "8")
    translate(picture, tmp_path / "16", "--bits", "16")
    deep = np.vstack([np.array(row) for row in png.Reader(bytes=(tmp_path / "16" / "0.png").read_bytes()).read()[2]])
    assert np.abs(deep.reshape(16, 16, 3) / 257 - pixels(tmp_path / "8" / "0.png")).max() <= 0.51
    assert (deep % 257 != 0).mean() > 0.9  # more than eight bits are there


def test_a_zip_file_gives_what_its_folder_gives(
    source: Path, translate: Go, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "notes.txt").write_text("left alone\n")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted(source.rglob("*.*")):
            archive.write(path, path.relative_to(source))
    translate(source, tmp_path / "plain")
    translate(tmp_path / "in.zip", tmp_path / "unpacked")
    translate(tmp_path / "in.zip", tmp_path / "new" / "out.zip")
    translate(source, tmp_path / "again.zip")
    expected = tree(tmp_path / "plain")
    assert tree(tmp_path / "unpacked") == expected
    with zipfile.ZipFile(tmp_path / "new" / "out.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: content for name, content in expected.items() if content is not None
        }
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "new" / "out.zip").read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.zip"]


@pytest.mark.parametrize("out", ["out.zip", "out"])
@pytest.mark.parametrize("end", ["signal", "ctrl-c", "disk full"])
def test_an_end_in_the_middle_leaves_nothing_half_written(
    source: Path, go: Go, trained: Path, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, out: str, end: str
) -> None:
    encode, calls = writing.encode, []

    def ending(picture: np.ndarray, suffix: str) -> bytes:
        calls.append(suffix)
        if len(calls) == 3:
            if end == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            raise KeyboardInterrupt if end != "disk full" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return encode(picture, suffix)

    monkeypatch.setattr(writing, "encode", ending)
    before = signal.getsignal(signal.SIGTERM)
    done = go("translate", trained, source, tmp_path / out, "--threads", "1")
    assert done.status == {"signal": 143, "ctrl-c": 130, "disk full": 2}[end]
    if end == "disk full":
        assert re.search(rf"{out}\S*: No space left on device", done.err)
    assert signal.getsignal(signal.SIGTERM) is before
    left = {name: content for name, content in tree(tmp_path).items() if name.startswith(("out", "."))}
    if out == "out.zip":
        assert not left
    else:
        files = [name for name, content in left.items() if content is not None]
        assert len(files) == 2
        for name in files:
            pixels(tmp_path / name)


def test_bad_images_fail_stops(source: Path, go: Go, trained: Path, tmp_path: Path) -> None:
    (source / "broken.png").write_bytes(b"no picture at all")
    done = go("translate", trained, source, tmp_path / "out.zip", "--bad-images", "fail")
    assert done.status == 2
    assert "broken.png: this is no picture" in done.err
    assert not list(tmp_path.glob("*out*"))
    # One that only decoding shows to be bad.
    whole = (source / "0.png").read_bytes()
    (source / "broken.png").write_bytes(whole[: len(whole) // 2])
    done = go("translate", trained, source, tmp_path / "out.zip", "--bad-images", "fail")
    assert done.status == 2
    assert "broken.png: damaged" in done.err
    assert not list(tmp_path.glob("*out*"))


def test_links_that_lead_outside_are_named(source: Path, translate: Go, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "secret.png", 8, 8)
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    done = translate(source, tmp_path / "out", status=1)
    assert "link.png: a link that leads out of the data" in done.err
    assert "14 of 15 pictures translated" in done.err


def test_a_large_picture_goes_in_tiles(translate: Go, tmp_path: Path, paint: Paint) -> None:
    """What is no larger than a tile stays as it is."""
    (tmp_path / "in").mkdir()
    deep = np.random.default_rng(0).integers(0, 65536, (90, 150, 4)).astype(np.uint16)
    (tmp_path / "in" / "large.png").write_bytes(writing.encode(deep, ".png"))
    paint(tmp_path / "in" / "small.png", 64, 50)
    translate(tmp_path / "in", tmp_path / "whole")
    translate(tmp_path / "in", tmp_path / "tiled", "--tile", "64", "--overlap", "16")
    width, height, rows, info = png.Reader(bytes=(tmp_path / "tiled" / "large.png").read_bytes()).read()
    assert (width, height, info["planes"], info["bitdepth"]) == (150, 90, 4, 16)
    assert np.array_equal(np.vstack(list(map(np.uint16, rows))).reshape(90, 150, 4)[:, :, 3], deep[:, :, 3])
    whole, tiled = ((tmp_path / out / "small.png").read_bytes() for out in ("whole", "tiled"))
    assert whole == tiled
    # The same noise at every call, another at every tile.
    translate(tmp_path / "in", tmp_path / "again", "--tile", "64", "--overlap", "16", "--batch", "1")
    assert (tmp_path / "again" / "large.png").read_bytes() == (tmp_path / "tiled" / "large.png").read_bytes()


def test_what_memory_does_not_hold_is_told(
    go: Go, trained: Path, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")

    monkeypatch.setattr("ganengine.sampling.Sampler.translate", full)
    done = go("translate", trained, paint(tmp_path / "0.png", 30, 20), tmp_path / "out", "--precision", "fp32")
    assert done.status == 2
    assert "memory does not suffice for 30x20 pixels at once. Use --tile 512" in done.err
