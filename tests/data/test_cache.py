"""Decoded samples on disk: right whatever happened to their files, shared between processes, bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganengine.data import DataOptions
from ganengine.data import cache as module
from ganengine.data.cache import ENTRY, PixelCache, cache_root
from ganengine.data.dataset import BadPictureError
from ganengine.data.pairs import build

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of Unix")

COUNT = 10
ROOM = 1 << 30

READ_ALL = """
import sys
from ganengine.data import DataOptions
from ganengine.data.pairs import build
data = build(sys.argv[1], DataOptions(size=16))
print("ready", flush=True)
sys.stdin.readline()
for index in range(data.spec.count):
    data.read("train", index, 16)
    print(index, flush=True)
"""


@pytest.fixture
def folder(tmp_path, paint) -> Path:
    for number in range(COUNT):
        paint(f"pairs/train/{number:02d}.png", 64, 32, mode="RGB" if number % 3 else "L")
    return tmp_path / "pairs"


def truth(folder, size=16, **options):
    """Every sample as it is decoded without a cache."""
    data = build(str(folder), DataOptions(size=size, cache_mib=0, **options))
    return [data.read("train", index, size) for index in range(data.spec.count)]


def samples(folder, size=16, **options):
    data = build(str(folder), DataOptions(size=size, **options))
    return [data.read("train", index, size) for index in range(data.spec.count)]


def same(ones, twos):
    return len(ones) == len(twos) and all(
        one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) and one[k].dtype == two[k].dtype for k in one)
        for one, two in zip(ones, twos, strict=True)
    )


def files(cache, suffix):
    return sorted((cache / "pixels").glob(f"*{suffix}"))


def entries(cache):
    return sum(path.stat().st_size // ENTRY.size for path in files(cache, ".index"))


@pytest.fixture
def undecoded(monkeypatch):
    """Forbid decoding from here on."""

    def forbid():
        def decode(path, **_):
            raise AssertionError(f"{path} was decoded")

        monkeypatch.setattr("ganengine.data.folders.read_picture", decode)

    return forbid


def test_decoded_once_for_all_later_runs_wherever_the_data_lies(folder, cache, undecoded, tmp_path):
    expected = truth(folder)
    assert not list(cache.iterdir())
    assert same(samples(folder), expected)
    undecoded()
    assert same(samples(folder), expected)
    folder.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.png"):
        path.touch()
    found = samples(tmp_path / "moved")
    assert same(found, expected)
    assert not found[0]["A"].flags.writeable
    assert entries(cache) == COUNT


def test_an_edited_picture_is_decoded_anew_even_at_the_same_size_and_time(folder, cache):
    path = folder / "train/00.ppm"
    for value in (1, 2):
        path.write_bytes(b"P6 64 32 255 " + bytes([value]) * 64 * 32 * 3)
        os.utime(path, (0, 0))
        found = samples(folder)
        assert same(found, truth(folder))
        assert any(np.all(sample["A"] == value) for sample in found)
    assert len(files(cache, ".pixels")) == 1


@pytest.mark.parametrize(
    "options", [{"resize": "crop"}, {"size": 8}, {"alpha": "keep"}, {"alpha": "black"}, {"size": 16}]
)
def test_whatever_changes_the_pixels_has_records_of_its_own(folder, paint, options):
    paint("pairs/train/90.png", 64, 32, mode="RGBA")
    samples(folder)
    assert same(samples(folder, **options), truth(folder, **options))


def test_sizes_modes_and_depths(tmp_path, paint):
    paint("pairs/0.png", 100, 20)
    np.save(tmp_path / "pairs/1.npy", np.arange(20 * 100 * 3, dtype=np.uint16).reshape(20, 100, 3))
    for _ in range(2):
        found = samples(tmp_path / "pairs", resize="crop")
        assert same(found, truth(tmp_path / "pairs", resize="crop"))
    assert [sample["A"].dtype for sample in found] == ["uint8", "float32"]


def test_bad_pictures_stay_bad(folder, truncate):
    truncate(folder / "train/01.png")
    for _ in range(2):
        data = build(str(folder), DataOptions(size=16))
        with pytest.raises(BadPictureError, match=r"01\.png: damaged"):
            data.read("train", 1, 16)
    (folder / "train/02.png").unlink()
    with pytest.raises(BadPictureError, match=r"02\.png: no such file"):
        data.read("train", 2, 16)


def damage_tail(path):
    path.write_bytes(path.read_bytes()[: -ENTRY.size // 2])


def add_half_an_entry(path):
    path.write_bytes(path.read_bytes() + b"x" * (ENTRY.size // 2))


def add_nonsense(path):
    path.write_bytes(path.read_bytes() + ENTRY.pack(b"k" * 16, 1 << 60, 64, 1 << 50, 0) + os.urandom(ENTRY.size))


def flip(path):
    data = bytearray(path.read_bytes())
    for place in range(70, min(len(data), 20_000), 997):
        data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".index", damage_tail),
        (".index", add_half_an_entry),
        (".index", add_nonsense),
        (".index", flip),
        (".index", Path.unlink),
        (".index", lambda path: path.write_bytes(b"")),
        (".pixels", flip),
        (".pixels", Path.unlink),
        (".pixels", lambda path: os.truncate(path, 5000)),
        (".pixels", lambda path: path.write_bytes(b"")),
    ],
)
def test_damaged_files_give_the_right_pixels_and_mend(folder, cache, undecoded, suffix, damage):
    expected = truth(folder)
    samples(folder)
    (path,) = files(cache, suffix)
    damage(path)
    assert same(samples(folder), expected)
    assert same(samples(folder), expected)
    undecoded()
    assert same(samples(folder), expected)


def test_files_that_are_deleted_while_in_use_do_no_harm(cache, tmp_path):
    used = None
    for value in (1, 2):  # of the same names and sizes: the same files of the cache
        for number in range(3):
            np.save(tmp_path / f"{number}.npy", np.full((32, 64, 3), 10 * value + number, np.uint8))
        expected = truth(tmp_path)
        used = used or (samples(tmp_path), expected)
        assert same(samples(tmp_path), expected)
        for path in files(cache, ".index"):
            path.unlink()
    assert same(*used)


def reader(folder):
    return subprocess.Popen(
        [sys.executable, "-c", READ_ALL, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_at_once(folder, cache, undecoded):
    expected = truth(folder)
    both = [reader(folder), reader(folder)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    assert same(samples(folder), expected)
    for process in both:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert entries(cache) == COUNT  # none was written twice
    undecoded()
    assert same(samples(folder), expected)


@pytest.mark.parametrize("after", [0, 3])
def test_a_writer_killed_at_any_moment(folder, cache, undecoded, after):
    expected = truth(folder)
    process = reader(folder)
    process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    for _ in range(after):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert same(samples(folder), expected)
    undecoded()
    assert same(samples(folder), expected)
    assert {path.suffix for path in (cache / "pixels").iterdir()} == {".pixels", ".index", ""}


def test_a_writer_that_was_stopped_with_the_lock_is_not_waited_for(folder, cache, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    expected = truth(folder)
    samples(folder)
    (index,) = files(cache, ".index")
    index.write_bytes(b"")
    with index.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert same(samples(folder), expected)
    assert index.stat().st_size == 0
    with (cache / "pixels/.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert same(samples(folder), expected)


def test_where_nothing_can_be_written_pictures_are_decoded(folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANENGINE_CACHE", str(tmp_path / "file"))
    assert same(samples(folder), truth(folder))


def test_a_full_disk_ends_writing(folder, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "pwrite", full)
    assert same(samples(folder), truth(folder))
    assert entries(cache) == 0


def test_it_does_not_grow_when_the_disk_is_nearly_full(folder, cache, monkeypatch):
    monkeypatch.setattr(module, "SPARE", 1 << 62)
    assert same(samples(folder), truth(folder))
    assert [path.stat().st_size for path in files(cache, ".pixels")] == [0]


def test_files_take_the_room_of_their_records_only(folder, cache):
    samples(folder)
    (path,) = files(cache, ".pixels")
    assert path.stat().st_size == module.SEGMENT
    assert path.stat().st_blocks * 512 < 1 << 20


def sample(value, size=1000):
    return {"real": np.full((size, 1, 1), value, np.uint8)}


def test_records_do_not_cross_segments_and_stop_at_the_limit(cache, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT", 4096)  # three records of 64 + 1024 bytes
    kept = PixelCache.open("x", 3 * 4096)
    for number in range(12):
        kept.write(b"%016d" % number, sample(number))
    kept.write(b"z" * 16, sample(0, 5000))  # larger than a segment
    again = PixelCache.open("x", 3 * 4096)
    for number in range(12):
        found = again.read(b"%016d" % number)
        assert (found is not None) == (number < 9)
        assert found is None or np.array_equal(found["real"], sample(number)["real"])
    assert again.read(b"z" * 16) is None


def test_the_least_recently_used_data_sets_go_first(cache):
    for number, name in enumerate(("old", "older", "new")):
        kept = PixelCache.open(name, ROOM)
        kept.write(b"k" * 16, sample(number, 100_000))
        age = {"old": 20, "older": 30, "new": 10}[name]
        for path in (cache / "pixels").glob(f"{name}.*"):
            os.utime(path, (time.time() - age,) * 2)
    held = PixelCache.open("older", ROOM)  # used again: now the newest
    for path in (cache / "pixels").glob("older.*"):
        os.utime(path, (time.time() - 30,) * 2)
    PixelCache.open("fresh", 250_000)
    assert {path.stem for path in files(cache, ".pixels")} == {"old", "new", "fresh"}
    assert np.array_equal(held.read(b"k" * 16)["real"], sample(1, 100_000)["real"])  # who has it open keeps it
    PixelCache.open("old", ROOM)
    PixelCache.open("fresh", 150_000)
    assert {path.stem for path in files(cache, ".pixels")} == {"old", "fresh"}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["A", "B", "real"]),
        st.sampled_from([np.uint8, np.float32, np.int64]).flatmap(
            lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
        ),
        min_size=1,
    ),
    st.binary(min_size=16, max_size=16),
)
def test_any_arrays_come_back(cache, record, key):
    PixelCache.open("x", ROOM).write(key, record)
    found = PixelCache.open("x", ROOM).read(key)
    assert found is not None
    for path in (cache / "pixels").iterdir():
        path.unlink()
    assert list(found) == list(record)
    for name, array in record.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
        assert found[name].shape == array.shape


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GANENGINE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "ganengine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "ganengine"
