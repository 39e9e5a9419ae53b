"""Folders with captions.json: what is read, what is refused and why; and coloured digits with captions."""

from __future__ import annotations

import colorsys
import io
import json
import shutil

import numpy as np
import pytest
import torch

from ganengine.data import SOURCES, DataOptions, Loader, inspect, open_data
from ganengine.data.captions import MOST
from ganengine.data.text import LONGEST, decode
from ganengine.errors import DataError, UserError
from ganengine.variant import FieldSpec

BUILT_IN = {source.name: source for source in SOURCES}
OPTIONS = DataOptions(size=8)
ENTRIES = [
    {"image": "images/a.png", "split": "train", "captions": ["A red bird", "a bird"], "more": 1},
    {"image": "./images/b.png", "captions": ["a blue bird that sings"]},
    {"image": "images/c.png", "split": "validation", "captions": ["birds"]},
]


def open_captions(path, fields=("real", "captions"), options=OPTIONS):
    return open_data(str(path), fields, options, BUILT_IN)


@pytest.fixture
def birds(tmp_path, paint):
    """Write pictures and captions.json below tmp_path/birds, other entries where they are given."""

    def write(entries=ENTRIES, prefix=""):
        root = tmp_path / "birds" / prefix
        for name in "abc":
            paint(f"birds/{prefix}images/{name}.png")
        (root / "captions.json").write_text(entries if isinstance(entries, str) else json.dumps(entries))
        return tmp_path / "birds"

    return write


def texts(data, split="train"):
    rows = {name: data.read(split, i, 8)["captions"] for i, name in enumerate(data.names(split))}
    return {name: [decode(row) for row in found] for name, found in rows.items()}


@pytest.mark.parametrize("prefix", ["", "inner/"])
@pytest.mark.parametrize("packed", [False, True])
def test_captions_go_with_their_pictures(birds, prefix, packed):
    path = birds(prefix=prefix)
    if packed:
        path = shutil.make_archive(str(path), "zip", path)
    data = open_captions(path)
    assert dict(data.splits) == {"train": 2, "val": 1}
    assert data.spec.fields == {
        "real": FieldSpec("image", (3, 8, 8)),
        "captions": FieldSpec("ids", (2, 32), 97),
    }
    assert texts(data) == {
        "images/a.png": ["a red bird", "a bird"],
        "images/b.png": ["a blue bird that sings", ""],
    }
    assert texts(data, "val") == {"images/c.png": ["birds", ""]}
    with Loader(data, OPTIONS) as loader:
        for batch in (loader.draw(0, 3), loader.fixed("train", 2)):
            assert (batch.captions.shape[1:], batch.captions.dtype) == ((2, 32), torch.int64)
            for index, rows in zip(batch.index.tolist(), batch.captions.numpy(), strict=True):
                assert np.array_equal(rows, data.read("train", index, 8)["captions"])


def test_captions_are_part_of_the_fingerprint(birds):
    before = open_captions(birds()).fingerprint
    assert open_captions(birds()).fingerprint == before
    changed = [{**ENTRIES[0], "captions": ["a red bird!"]}, *ENTRIES[1:]]
    assert open_captions(birds(changed)).fingerprint != before


@pytest.mark.parametrize(
    ("caption", "mirrors"), [("on the LEFT", False), ("right, red", False), ("bright leftovers", True)]
)
def test_pictures_whose_captions_tell_sides_are_not_mirrored(birds, caption, mirrors):
    assert open_captions(birds([{**ENTRIES[0], "captions": [caption]}])).mirrors == mirrors


def test_what_is_cut_or_not_used_is_said(birds):
    data = open_captions(birds([{**ENTRIES[0], "captions": ["x" * (LONGEST + 1)] + ["y"] * MOST}]))
    assert data.spec.fields["captions"].shape == (MOST, LONGEST)
    assert data.notes == [
        f"1 caption longer than {LONGEST} characters: what is beyond is cut.",
        "2 pictures in no entry of captions.json: not used.",
        f"1 caption beyond the first {MOST} of a picture: not used.",
    ]


def test_variants_without_text_take_the_pictures(birds):
    data = open_captions(birds(), ("real",))
    assert (data.layout, data.spec.count) == ("images", 3)


A = ENTRIES[0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[{", r"captions\.json: expected JSON in UTF-8; .* line 1 column"),
        ("{}", r"captions\.json: expected a list of entries, got a dict"),
        ("[]", r"expected a list of entries, got an empty list"),
        ([3], r"entry 0: expected an object, got 3"),
        ([A, {**A, "image": None}], r'entry 1: expected the path of a picture as "image", got null'),
        ([{**A, "image": "captions.json"}], r'expected the path of a picture as "image"'),
        ([{**A, "image": "images/d.png"}], r'no picture "images/d.png" below .* Did you mean .*images/a.png'),
        ([{**A, "image": "../a.png"}], r'no picture "\.\./a.png" below'),
        ([{**A, "split": "tset"}], r'\(images/a.png\): expected a "split" among train, val, test, got "tset"'),
        ([{**A, "split": 3}], r'expected a "split" among train, val, test, got 3'),
        ([{"image": "images/a.png"}], r'expected "captions", a list of one or more sentences, got null'),
        ([{**A, "captions": []}], r'expected "captions", a list of one or more sentences, got \[\]'),
        ([{**A, "captions": "a bird"}], r'expected "captions", .* got "a bird"'),
        ([{**A, "captions": ["a", " "]}], r'expected "captions", .* got \["a", " "\]'),
        ([A, A], r'entry 1: the picture "images/a.png" is listed twice'),
    ],
)
def test_wrong_entries_are_named(birds, entries, message):
    path = birds(entries)
    with pytest.raises(DataError, match=message):
        open_captions(path)
    found = inspect(path, quick=True)
    assert (found["source"], found["layout"]) == ("captions", None)
    assert found["problem"] in found["repairs"]


def test_a_folder_without_captions_is_told_what_is_missing(tmp_path, paint):
    paint("x/0.png")
    for word in (tmp_path, f"captions:{tmp_path}"):
        with pytest.raises(DataError, match=r"expected a file captions\.json that lists pictures, got none"):
            open_captions(word)


# -- embeddings ----------------------------------------------------------------------------------------------------


def embeddings(path, **arrays):
    named = {f"images/{name}.png": np.asarray(rows) for name, rows in arrays.items()}
    with io.BytesIO() as file:
        np.savez(file, **named)
        (path / "embeddings.npz").write_bytes(file.getvalue())


def test_embeddings_are_a_field_where_they_are_there(birds):
    path = birds()
    embeddings(path, a=[[1.0, 2, 3], [4, 5, 6]], b=[[7.0, 8, 9]], c=np.ones((2, 3), np.float16))
    data = open_captions(path, ("real", "captions", "embedding"))
    assert data.spec.fields["embedding"] == FieldSpec("vector", (2, 3))
    assert data.read("train", 0, 8)["embedding"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert data.read("train", 1, 8)["embedding"].tolist() == [[7, 8, 9], [0, 0, 0]]
    assert data.read("val", 0, 8)["embedding"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((1, 3)), "b": np.ones((1, 3))}, r"1 picture without one \(images/c.png\)"),
        (dict.fromkeys("abc", np.ones(3)), r"a.png: expected up to 16 rows of finite floats"),
        ({**dict.fromkeys("ab", np.ones((1, 3))), "c": np.ones((1, 4))}, r"c.png: .* of one width \[3\], got \[1, 4\]"),
        (
            dict.fromkeys("abc", np.full((1, 3), np.nan)),
            r"of float64, a row of which is zero or not finite",
        ),
        (dict.fromkeys("abc", np.ones((1, 3), int)), r"got \[1, 3\] of int64"),
        (dict.fromkeys("abc", np.zeros((1, 3))), r"not all zero"),
    ],
)
def test_wrong_embeddings_are_named(birds, arrays, message):
    path = birds()
    embeddings(path, **arrays)
    with pytest.raises(DataError, match=message):
        open_captions(path)


def test_a_file_that_holds_no_arrays(birds):
    path = birds()
    (path / "embeddings.npz").write_bytes(b"PK none")
    with pytest.raises(DataError, match=r"embeddings\.npz: expected arrays of numbers, written by numpy\.savez"):
        open_captions(path)


# -- inspect -------------------------------------------------------------------------------------------------------


def test_inspect_tells_of_captions_and_embeddings(birds):
    path = birds(ENTRIES[:2])
    embeddings(path, a=np.ones((2, 3)), b=np.ones((1, 3)))
    (path / "README.md").touch()
    found = inspect(path)
    assert (found["source"], found["layout"], found["problem"]) == ("captions", "pictures with captions", None)
    assert found["fields"]["captions"] == {"per_picture": {"2": 1, "1": 1}, "longest": 22}
    assert found["fields"]["embedding"] == {"shape": [2, 3]}
    assert found["fields"]["real"]["channels"] == 3
    assert [entry["path"] for entry in found["odd"]] == [f"{path}/README.md"]
    assert "1 picture in no entry of captions.json: not used." in found["repairs"]


# -- coloured digits -----------------------------------------------------------------------------------------------


def glyphs(word="captioned-glyphs", size=32):
    pytest.importorskip("matplotlib", reason="its fonts are drawn from")
    return open_data(word, ("real", "captions", "label"), DataOptions(size=size), BUILT_IN)


def test_a_digit_is_what_its_captions_say():
    from ganengine.data.captioned_glyphs import DIGITS, HUES, PLACES

    data = glyphs()
    assert (data.mirrors, data.natural_side, data.classes) == (False, 32, list(DIGITS))
    for index in range(20):
        sample = data.read("train", index, 32)
        words = [set(decode(row).replace(",", "").replace(":", "").split()) for row in sample["captions"]]
        (digit,), (colour,), (place,) = (
            [w for w in known if all(w in said for said in words)] for known in (DIGITS, HUES, PLACES)
        )
        assert DIGITS[int(sample["label"])] == digit
        ink = sample["real"].reshape(-1, 3) / 255
        bright = ink[ink.max(1) > 0.5]
        hues = [360 * colorsys.rgb_to_hsv(*rgb)[0] for rgb in bright]
        assert max(abs((hue - HUES[colour] + 180) % 360 - 180) for hue in hues) < 14
        weights = sample["real"].max(2).astype(float)
        middle = (weights.sum(0) * (np.arange(32) - 15.5)).sum() / weights.sum() / 32
        assert abs(middle - PLACES[place]) < 0.09


def test_the_test_split_has_the_combinations_that_training_lacks():
    data = glyphs()
    train, test = (set(data.turns[split]) for split in ("train", "test"))
    assert (len(train), len(test), train & test) == (100, 50, set())
    assert {(digit, colour) for digit, colour, _ in train} == {(d, c) for d in range(10) for c in range(5)}
    assert {(digit, colour) for digit, colour, _ in test} == {(d, c) for d in range(10) for c in range(5)}


def test_samples_follow_from_the_index_alone():
    data, again = glyphs("captioned-glyphs:50"), glyphs("captioned-glyphs:50", 16)
    assert dict(data.splits) == {"train": 50, "test": 1000}
    assert data.fingerprint == again.fingerprint != glyphs().fingerprint
    for index in (0, 49):
        one, other = (np.asarray(d.read("train", index, 32)["real"]) for d in (data, again))
        assert np.array_equal(one, other)
        assert one.shape == (32, 32, 3)
    assert not np.array_equal(data.read("train", 0, 32)["real"], data.read("train", 100, 32)["real"])


@pytest.mark.parametrize("word", ["x", "0", "-1", "99999999999"])
def test_a_wrong_count_is_refused(word):
    with pytest.raises(
        UserError, match=f'expected captioned-glyphs, or captioned-glyphs:COUNT; got "captioned-glyphs:{word}"'
    ):
        glyphs(f"captioned-glyphs:{word}")
