"""Zip files as data: every layout, the same samples as from the folder, and hostile ones refused."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganengine.data import SOURCES, DataOptions, Loader, archives, inspect, open_data
from ganengine.data.archives import Archive, Member
from ganengine.data.dataset import BadPictureError
from ganengine.data.files import list_files
from ganengine.data.pictures import read_picture
from ganengine.errors import DataError

BUILT_IN = {source.name: source for source in SOURCES}
AB = ("A", "B")


def pack(folder: Path, name: str = "pairs.zip", root: str = "") -> Path:
    """Pack a folder into a zip file beside it, below `root` inside."""
    path = folder.parent / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, root + file.relative_to(folder).as_posix())
    return path


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


def options(**settings):
    return DataOptions(size=8, **settings)


LAYOUTS = [
    (["train/0.png", "train/1.png", "val/2.png", "test/3.png"], AB),
    (["0.png", "1.png"], AB),
    (["A/0.png", "B/0.png"], AB),
    (["A/x/0.png", "B/x/0.jpg"], AB),
    (["A/train/0.png", "B/train/0.png", "A/test/1.png", "B/test/1.png"], AB),
    (["train/A/0.png", "train/B/0.png", "test/A/1.png", "test/B/1.png"], AB),
    (["trainA/0.png", "trainB/0.png", "testA/1.png", "testB/1.png"], AB),
    (["0.png", "deep/er/1.bmp", "2.gif"], ("real",)),
    (["train/0.png", "train/more/1.webp", "test/2.tif"], ("real",)),
]


@pytest.mark.parametrize("root", ["", "inner/", "./", "outer/inner/"])
@pytest.mark.parametrize(("names", "fields"), LAYOUTS)
def test_a_zip_file_is_as_good_as_its_folder(tmp_path, paint, names, fields, root):
    for name in names:
        paint(f"data/{name}")
    np.save(tmp_path / "data" / Path(names[0]).with_suffix(".npy"), np.zeros((8, 16, 3), np.uint8))
    if "A/" in "".join(names) or "trainA" in names[0]:  # a partner for the array
        other = names[0].replace("A/", "B/")
        np.save(tmp_path / "data" / Path(other).with_suffix(".npy"), np.zeros((8, 16, 3), np.uint8))
        for name in (names[0], other):
            (tmp_path / "data" / name).unlink(missing_ok=True)
            (tmp_path / "data" / name).with_suffix(".jpg").unlink(missing_ok=True)
    for other in ("README.md", ".hidden.png", "__MACOSX/train/0.png"):
        path = tmp_path / "data" / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not a picture")
    folder = open_data(str(tmp_path / "data"), fields, options(), BUILT_IN)
    packed = open_data(str(pack(tmp_path / "data", root=root)), fields, options(), BUILT_IN)
    assert packed.layout == folder.layout
    assert packed.spec == folder.spec
    assert packed.fingerprint == folder.fingerprint
    assert packed.bad == {}
    for split, count in folder.splits.items():
        assert packed.names(split) == folder.names(split)
        for index in range(count):
            for size in (None, 8):
                one, two = folder.read(split, index, size), packed.read(split, index, size)
                assert all(np.array_equal(one[field], two[field]) for field in fields)
    with Loader(packed, options()) as loader:
        assert set(loader.draw(0, 2)) == set(fields)


def test_backslashes_of_old_packers(tmp_path, paint):
    data = paint("x.png").read_bytes()
    path = write(tmp_path / "x.zip", {"A|0.png": data, "B|0.png": data})
    path.write_bytes(path.read_bytes().replace(b"A|0", b"A\\0").replace(b"B|0", b"B\\0"))
    assert open_data(str(path), AB, options(), BUILT_IN).layout == "pairs in A, B"


def test_pictures_inside_are_named_and_skipped(tmp_path, paint, truncate):
    for number in range(4):
        paint(f"data/{number}.png", 64, 32)
    truncate(tmp_path / "data/1.png")
    (tmp_path / "data/2.png").write_text("no picture")
    path = pack(tmp_path / "data")
    data = open_data(str(path), AB, options(), BUILT_IN)
    assert data.bad == {f"{path}/2.png": "this is no picture, or its header is damaged"}
    with Loader(data, options()) as loader:
        assert sorted(set(loader.draw(0, 6).index.tolist())) == [0, 2]
        assert set(loader.bad) == {f"{path}/1.png", f"{path}/2.png"}
    with pytest.raises(BadPictureError, match=r"pairs\.zip/2\.png: this is no picture"):
        open_data(str(path), AB, options(bad_images="fail"), BUILT_IN)


def test_a_run_inside_is_no_data(tmp_path, paint):
    for name in ("0.png", "run/samples/000000001.png", "runs.png/1.png"):
        paint(f"data/{name}")
    (tmp_path / "data/run/config.yaml").touch()
    assert list_files(pack(tmp_path / "data")).pictures == ("0.png", "runs.png/1.png")


def test_a_member_whose_bytes_were_flipped_is_a_bad_picture(tmp_path, paint):
    data = paint("x.png", 64, 32).read_bytes()
    path = write(tmp_path / "x.zip", {"0.png": data})
    whole = bytearray(path.read_bytes())
    whole[whole.index(data) + len(data) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BadPictureError, match=r"x\.zip/0\.png: damaged in the archive \(Bad CRC-32"):
        read_picture(Member(Archive(path), "0.png"))


def test_a_member_that_states_a_smaller_size_is_read_no_further(tmp_path):
    path = write(tmp_path / "x.zip", {"0.npy": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    whole = bytearray(path.read_bytes())
    struct.pack_into("<I", whole, whole.rindex(b"PK\1\2") + 24, 10)
    path.write_bytes(whole)
    with pytest.raises(BadPictureError, match="damaged in the archive"):
        Member(Archive(path), "0.npy").read_bytes()


# What is refused.


def link(path: Path) -> None:
    info = zipfile.ZipInfo("0.png")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(info, "/etc/passwd")


def encrypted(path: Path) -> None:
    whole = bytearray(write(path, {"0.png": b"x"}).read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        whole[whole.index(mark) + offset] |= 1
    path.write_bytes(whole)


def method(path: Path) -> None:
    whole = bytearray(write(path, {"0.png": b"x"}).read_bytes())
    struct.pack_into("<H", whole, whole.index(b"PK\1\2") + 10, 97)
    path.write_bytes(whole)


def twice(path: Path) -> None:
    write(path, {"0.png": b"x", "1.png": b"y"})
    path.write_bytes(path.read_bytes().replace(b"1.png", b"0.png"))


def overlapping(path: Path) -> None:
    """Three entries of the directory point at the same packed bytes."""
    whole = write(path, {"0.png": bytes(1000)}).read_bytes()
    start, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
    entry = whole[start:end]
    entries = b"".join(entry.replace(b"0.png", b"%d.png" % number) for number in range(3))
    tail = bytearray(whole[end:])
    struct.pack_into("<HHI", tail, 8, 3, 3, len(entries))
    path.write_bytes(whole[:start] + entries + tail)


def cut(path: Path) -> None:
    write(path, {"0.png": bytes(1000)})
    path.write_bytes(path.read_bytes()[:500])


REFUSED = [
    *(
        (lambda path, name=name: write(path, {name: b"x"}), r"has a path that leads outside")
        for name in ("../0.png", "A/../../0.png", "/etc/0.png", "C:/0.png", "..\\0.png", "\\\\host\\0.png", "A/..")
    ),
    (link, "'0.png' is a link"),
    (encrypted, "'0.png' is encrypted"),
    (method, r"packed by a method that is not read \(97\)"),
    (twice, "'0.png' is in it twice"),
    (overlapping, "its files overlap, as in a zip bomb"),
    (cut, "expected a zip file; this one is damaged, cut off or something else"),
    (lambda path: path.write_text("no zip file"), "expected a zip file; this one is damaged"),
    (lambda path: path.touch(), "expected a zip file; this one is damaged"),
    (lambda path: write(path, {}), "the folder is empty"),
    (lambda path: write(path, {"notes.txt": b"x"}), r"no pictures among 1 file \(notes.txt\)"),
    (lambda path: write(path, {"in.zip": b"x"}), r"no pictures among 1 file \(in.zip\).*Unpack in.zip first"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("fields", [AB, ("real",)])
@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_zip_files_that_are_refused(tmp_path, make, message, fields):
    path = tmp_path / "x.zip"
    make(path)
    with pytest.raises(DataError, match=message) as caught:
        open_data(str(path), fields, options(), BUILT_IN)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(DataError, match=message):
        inspect(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize(
    ("member", "ratio", "message"),
    [
        (4000, 1, r"'0\.png' unpacks to 0\.0 GiB, which may be a zip bomb"),
        (6000, 50, r"expected at most 50 times its size when unpacked, got \d+ times"),
        (10_000, 50, None),  # small bombs harm nobody
        (6000, 2000, None),
    ],
)
def test_bombs(tmp_path, monkeypatch, member, ratio, message):
    monkeypatch.setattr(archives, "MEMBER_LIMIT", member)
    monkeypatch.setattr(archives, "RATIO_LIMIT", ratio)
    path = write(tmp_path / "x.zip", {"0.png": bytes(5000), "1.png": bytes(5000)}, zipfile.ZIP_DEFLATED)
    if message is None:
        Archive(path)
        return
    with pytest.raises(DataError, match=message):
        Archive(path)


def test_a_bomb_of_pixels_inside_is_named(tmp_path, paint, monkeypatch):
    for number, side in enumerate((4, 40)):
        paint(f"data/{number}.png", side, side)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    data = open_data(str(pack(tmp_path / "data")), ("real",), options(), BUILT_IN)
    assert data.names("train") == ["0.png"]
    assert re.search("more than 100 pixels", *data.bad.values())


def test_a_zip_file_that_was_replaced_is_read_anew(tmp_path, paint):
    for number in range(2):
        data = paint(f"{number}.png").read_bytes()
        write(tmp_path / "x.zip", {f"{k}.png": data for k in range(number + 1)})
        assert list_files(tmp_path / "x.zip").pictures == tuple(f"{k}.png" for k in range(number + 1))


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_give_an_error_that_names_the_file_or_the_right_pixels(tmp_path, paint, data):
    picture = tmp_path / "0.png"
    right = read_picture(picture if picture.exists() else paint("0.png"))
    path = write(tmp_path / "x.zip", {f"{k}.png": picture.read_bytes() for k in range(2)}, zipfile.ZIP_DEFLATED)
    whole = bytearray(path.read_bytes())
    at = st.integers(0, len(whole) - 1) | st.integers(whole.index(b"PK\1\2"), len(whole) - 1)
    for place in data.draw(st.lists(at, min_size=1, max_size=3)):
        whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    told, pictures = str(path), []
    try:
        archive = Archive(path)
        pictures = [read_picture(Member(archive, name)) for name in archive.members if name.endswith(".png")]
    except DataError as error:
        told = str(error)
    assert told.startswith(str(path))
    assert all(np.array_equal(pixels, right) for pixels in pictures)
