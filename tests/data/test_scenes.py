"""Scenes: tables of tracks with all that can be wrong in them, windows, drawn crossings, and ragged batches."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.builtin import ganengine_data_sources
from ganengine.data import DataOptions, Loader, crossings, inspect, open_data, tracks
from ganengine.data.dataset import Dataset
from ganengine.data.scenes import SceneDataset
from ganengine.errors import DataError, UserError
from ganengine.variant import DataSpec, FieldSpec

OPTIONS = DataOptions()
SOURCES = {source.name: source for source in ganengine_data_sources()}
Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Write a table: table("train,a,0,1.5,2", ...) -> its folder."""

    def write(*lines: str, head: str = "split,track,step,x,y", name: str = "tracks.csv") -> Path:
        (tmp_path / name).write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
        return tmp_path

    return write


def walk(name: str, steps: range, split: str = "train", speed: float = 1.0) -> list[str]:
    return [f"{split},{name},{step},{speed * step},{step % 3}" for step in steps]


# -- windows -------------------------------------------------------------------------------------------------------


def test_a_track_is_cut_into_windows_that_begin_at_every_step(table: Table) -> None:
    folder = table(*walk("a", range(5, 12)), *walk("b", range(4), "test"), *walk("c", range(20, 23), "test"))
    data = tracks.build(f"{folder},2,2", OPTIONS)
    assert data.splits == {"train": 4, "test": 1}  # 7 - 4 + 1; c is too short
    assert data.names("train") == ["a/5", "a/6", "a/7", "a/8"]
    assert data.layout == "tracks of 2 + 2 steps, in units of the file"
    sample = data.read("train", 1, None)
    # steps 6, 7, 8, 9 at (6, 0) (7, 1) (8, 2) (9, 0), relative to where it was last seen
    assert sample["observed"].tolist() == [[[-1, -1], [0, 0]]]
    assert sample["future"].tolist() == [[[1, 1], [2, -1]]]
    assert data.spec.fields["observed"] == FieldSpec("points", (2, 2), ragged=True, scale=data.scale)
    ways = [math.hypot(1, dy) ** 2 for s in range(5, 9) for dy in [(t + 1) % 3 - t % 3 for t in range(s, s + 3)]]
    assert data.scale == pytest.approx(math.sqrt(sum(ways) / len(ways)))


def test_a_gap_ends_a_window(table: Table) -> None:
    folder = table(*walk("a", range(4)), *walk("a", range(5, 9)))
    assert tracks.build(f"{folder},2,2", OPTIONS).names("train") == ["a/0", "a/5"]


def test_tracks_of_one_scene_move_together(table: Table) -> None:
    lines = [
        f"s,{track},{step},{step},{row}"
        for row, (track, n) in enumerate({"a": 5, "b": 4, "c": 3}.items())
        for step in range(n)
    ]
    data = tracks.build(f"{table(*lines, head='scene,track,step,x,y')},2,2", OPTIONS)
    assert data.names("train") == ["s/0", "s/1"]
    assert [len(scene) for scene in data.scenes["train"]] == [2, 1]  # c never has four steps
    assert data.read("train", 0, None)["observed"][:, 1].tolist() == [[0, -0.5], [0, 0.5]]  # around their middle


def test_longitude_and_latitude_become_kilometres_across_the_date_line(table: Table) -> None:
    lines = ["a,0,179.5,60", "a,1,-179.5,60", "a,2,-178.5,61"]
    data = tracks.build(f"{table(*lines, head='track,step,lon,lat')},2,1", OPTIONS)
    degree = 2 * math.pi * 6371 / 360
    assert data.layout.endswith("in kilometres")
    sample = data.read("train", 0, None)
    np.testing.assert_allclose(sample["observed"][0], [[-degree / 2, 0], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(sample["future"][0], [[degree / 2, degree]], rtol=1e-5)


def test_a_zip_file_and_a_file_are_read_in_place(table: Table, tmp_path: Path) -> None:
    folder = table(*walk("a", range(20)))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.write(folder / "tracks.csv", "storms/tracks.csv")
    prints = {
        open_data(str(place), ("observed", "future"), OPTIONS, SOURCES).fingerprint
        for place in (folder, folder / "tracks.csv", tmp_path / "packed.zip")
    }
    assert len(prints) == 1
    table(*walk("a", range(20), speed=1.001))
    assert tracks.build(str(folder), OPTIONS).fingerprint not in prints


WRONG = {
    "a line is short": (["train,a,0,1"], "line 2: expected 5 values, as the first line has, got 4"),
    "no number": (["train,a,0,one,2"], 'line 2: x: expected a number from -1e+09 to 1e+09, got "one"'),
    "not finite": (["train,a,0,1,nan"], 'line 2: y: expected a number from -1e+09 to 1e+09, got "nan"'),
    "too far": (["train,a,0,1e12,0"], 'line 2: x: expected a number from -1e+09 to 1e+09, got "1e12"'),
    "half a step": (["train,a,0.5,1,2"], 'line 2: step: expected a whole number that counts up by 1, got "0.5"'),
    "a step twice": (["train,a,0,1,2", "train,a,0,1,3"], "line 3: track a has step 0 twice. Remove one"),
    "a leak": (["train,a,0,1,2", "test,a,1,1,3"], "line 3: track a is in the split train too. Keep all of it in one"),
    "a split": (["trian,a,0,1,2"], 'line 2: split: expected train, val or test, got "trian"'),
    "nothing": ([], "expected lines below the names of the columns, got none"),
    "too short": (
        walk("a", range(7)),
        "expected tracks of at least 20 steps in a row (8 observed, 12 predicted), the longest has 7",
    ),
}


@pytest.mark.parametrize(("lines", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_named(table: Table, lines: list[str], message: str) -> None:
    folder = table(*lines)
    assert tracks.recognise(folder)
    with pytest.raises(DataError) as caught:
        tracks.build(str(folder), OPTIONS)
    assert message in str(caught.value)
    found = inspect(folder)
    assert (found["source"], found["problem"]) == ("tracks", str(caught.value))


@pytest.mark.parametrize("numbers", ["8", "8,12,3", "-8,12", "8.5,12", ""])
def test_other_than_two_whole_numbers_are_refused(table: Table, numbers: str) -> None:
    with pytest.raises(DataError, match="tracks: expected FOLDER,OBSERVE,PREDICT with two whole numbers, got"):
        tracks.build(f"{table('train,a,0,1,2')},{numbers}", OPTIONS)


def test_latitudes_end_at_the_poles(table: Table) -> None:
    folder = table("a,0,1,91", head="track,step,lon,lat")
    with pytest.raises(DataError, match='lat: expected a number from -90 to 90, got "91"'):
        tracks.build(str(folder), OPTIONS)


def test_other_files_are_refused(table: Table, tmp_path: Path) -> None:
    folder = table("1,2", head="a,b")
    assert not tracks.recognise(folder)
    with pytest.raises(DataError, match=r"tracks.csv: expected tracks.csv with the columns .*, got the columns a, b"):
        open_data(str(folder), ("observed", "future"), OPTIONS, SOURCES)
    (folder / "tracks.csv").unlink()
    (folder / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"got no \.csv file\. Name one file"):
        open_data(str(folder), ("observed", "future"), OPTIONS, SOURCES)
    (folder / "0.png").unlink()
    for name in ("a.csv", "b.csv"):
        table(*walk("a", range(20)), name=name)
    with pytest.raises(DataError, match=r"got 2 of them\. Name one file"):
        tracks.build(str(folder), OPTIONS)
    (folder / "a.csv").write_bytes(b"track,step,x,y\n\xff\xfe")
    with pytest.raises(DataError, match="expected text in UTF-8; byte 15 is none"):
        tracks.build(str(folder / "a.csv"), OPTIONS)
    with pytest.raises(DataError, match="at least 2 observed steps and 1 to predict, got 1 and 3"):
        tracks.build(f"{folder},1,3", OPTIONS)


def test_a_split_without_a_window_is_said(table: Table) -> None:
    data = tracks.build(f"{table(*walk('a', range(4)), *walk('b', range(3), 'test'))},2,2", OPTIONS)
    assert data.splits == {"train": 1}
    assert data.notes == ["The split test is left aside: none of its tracks has 4 steps in a row."]


def test_inspect_knows_tracks(table: Table) -> None:
    found = inspect(table(*walk("a", range(21)), *walk("b", range(20), "test")))
    assert found["problem"] is None
    assert (found["source"], found["splits"]) == ("tracks", {"train": 2, "test": 1})
    assert found["layout"] == "tracks of 8 + 12 steps, in units of the file"
    assert {name: (field["steps"], field["rows"]) for name, field in found["fields"].items()} == {
        "observed": (8, {"1": 3}),
        "future": (12, {"1": 3}),
    }


@pytest.mark.parametrize(
    ("head", "lines", "problem", "repairs"),
    [
        (
            "track,step,x,y",
            [line.partition(",")[2] for line in walk("a", range(20))],
            None,
            "Write test into the column split of some tracks (add it where there is none, and train for the rest)",
        ),
        ("split,track,step,x,y", walk("a", range(20)), None, "Write test into the column split of some tracks"),
        (
            "split,track,step,x,y",
            walk("a", range(20), "test"),
            "Write train into the column split of some tracks: there is nothing to train on.",
            None,
        ),
        ("x,y", ["1,2"], "expected tracks.csv with the columns track, step, and lon, lat or x, y", None),
    ],
)
def test_inspect_says_what_a_table_lacks(
    table: Table, head: str, lines: list[str], problem: str | None, repairs: str | None
) -> None:
    found = inspect(table(*lines, head=head) / "tracks.csv")
    assert (found["problem"] is None) == (problem is None)
    assert (problem or repairs or "") in found["repairs"][0]
    assert len(found["repairs"]) == 1


# -- drawn walkers -------------------------------------------------------------------------------------------------


def test_crossings_are_the_same_each_time_and_whatever_the_count() -> None:
    data, again, more = (
        crossings.build(count, DataOptions(seed=seed)) for count, seed in (("3", 0), ("3", 7), ("260", 0))
    )
    assert data.fingerprint == again.fingerprint
    assert data.splits == {"train": 3, "test": 500}
    assert all(np.array_equal(a, b) for a, b in zip(data.scenes["train"], more.scenes["train"], strict=False))
    people = [len(scene) for scene in more.scenes["train"]]
    assert (min(people), max(people)) == (2, 6)


def test_both_sides_are_as_likely_and_nobody_tells_before() -> None:
    scenes = [scene for scene in crossings.build("500", OPTIONS).scenes["train"] if len(scene) == 2]
    turns = []
    for scene in scenes:
        way = scene[:, 7] - scene[:, 4]
        beside = scene[:, 13] - scene[:, 7]
        turns.append(np.sign(way[:, 0] * beside[:, 1] - way[:, 1] * beside[:, 0]).sum())
    assert 0.3 < np.mean(np.array(turns) > 0) < 0.7
    assert np.mean(np.abs(turns) == 2) > 0.7  # both of a pair give way to one side
    walked = np.concatenate([np.diff(scene[:, :8], axis=1).reshape(-1, 2) for scene in scenes])
    speeds = np.linalg.norm(walked, axis=1) / 0.4
    assert 0.9 < speeds.mean() < 1.6


@pytest.mark.parametrize("word", ["0", "-3", "1.5", "many", "9" * 9])
def test_a_count_is_a_whole_number(word: str) -> None:
    with pytest.raises(UserError, match="crossings: expected crossings:COUNT, a whole number"):
        crossings.build(word, OPTIONS)


# -- ragged batches ------------------------------------------------------------------------------------------------


def counted(counts: list[int]) -> SceneDataset:
    scenes = [np.arange(count * 8.0).reshape(count, 4, 2) + number for number, count in enumerate(counts)]
    return SceneDataset({"train": scenes}, 2, layout="made up")


@settings(deadline=None, max_examples=25)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=7), seed=st.integers(0, 9), world=st.integers(1, 3))
def test_a_batch_holds_the_rows_of_its_samples(counts: list[int], seed: int, world: int) -> None:
    data, count = counted(counts), len(counts) + 1
    with Loader(data, DataOptions(seed=seed)) as loader:
        batch = loader.draw(0, count)
        shares = [loader.draw(0, count, rank=rank, world=world) for rank in range(world)]
    for name, of in (("observed", slice(0, 2)), ("future", slice(2, 4))):
        parts = [torch.from_numpy(data.scenes["train"][index][:, of]) for index in batch.index.tolist()]
        assert torch.equal(batch[name], torch.cat(parts))
        assert batch.starts(name).diff().tolist() == [len(part) for part in parts]
        assert torch.equal(torch.cat([share[name] for share in shares]), batch[name])
        assert torch.cat([share.starts(name).diff() for share in shares]).tolist() == batch.starts(name).diff().tolist()


def test_fixed_samples_are_ragged_too() -> None:
    with Loader(counted([2, 1, 3]), OPTIONS) as loader:
        batch = loader.fixed("train", 2)
        assert loader.fixed("train", 0).observed.shape == (0, 2, 2)
    assert batch.starts("observed").tolist() == [0, 2, 3]
    assert batch.index.tolist() == [0, 1]


class _Square(Dataset):
    spec = DataSpec({"observed": FieldSpec("points", (3, 2), ragged=True)}, 2)

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        return {"observed": np.zeros((3, 2))}


def test_rows_of_another_shape_are_a_fault_of_the_data_set() -> None:
    with (
        Loader(_Square(), OPTIONS) as loader,
        pytest.raises(DataError, match=r"any number of rows of \[3, 2\], got \[3, 2\]"),
    ):
        loader.draw(0, 1)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_spec_survives_json(ragged: bool, scale: float) -> None:
    spec = DataSpec({"path": FieldSpec("points", (3, 2), ragged=ragged, scale=scale)}, 5)
    record = spec.to_dict()
    assert DataSpec.from_dict(record) == spec
    assert ("ragged" in record["fields"]["path"], "scale" in record["fields"]["path"]) == (ragged, scale != 1)
