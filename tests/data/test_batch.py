"""The record that the loader yields."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.data import Batch
from ganengine.ragged import starts_of


def make() -> Batch:
    return Batch({"A": torch.arange(24.0).reshape(2, 3, 2, 2), "label": torch.tensor([4, 5])}, torch.tensor([7, 9]))


def test_fields_are_read_by_name_and_by_attribute():
    batch = make()
    assert list(batch) == ["A", "label"]
    assert batch["A"] is batch.A
    assert batch.size == 2
    assert batch.index.tolist() == [7, 9]


def test_a_missing_field_names_those_there_are():
    with pytest.raises(AttributeError, match="no field 'B'; it has A, label"):
        _ = make().B


@pytest.mark.parametrize("name", ["size", "index", "to", "narrow", "keys", "fields", "offsets", "starts", "owner"])
def test_a_field_cannot_hide_what_a_batch_has_itself(name):
    with pytest.raises(ValueError, match=f'cannot be called "{name}"'):
        Batch({name: torch.zeros(1)}, torch.zeros(1, dtype=torch.int64))


def test_rows_must_agree():
    with pytest.raises(ValueError, match="field A: expected 3 rows, got 2"):
        Batch({"A": torch.zeros(2)}, torch.arange(3))


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        make().index = torch.arange(2)


def test_narrow_takes_the_rows_of_every_field():
    part = make().narrow(1, 1)
    assert part.index.tolist() == [9]
    assert part.label.tolist() == [5]
    assert torch.equal(part.A, make().A[1:])


@pytest.mark.parametrize("channels_last", [False, True])
def test_to_keeps_values_and_sets_the_memory_format(channels_last):
    moved = make().to("cpu", channels_last=channels_last)
    assert torch.equal(moved.A, make().A)
    assert moved.A.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert moved.label.tolist() == [4, 5]


# -- ragged fields -------------------------------------------------------------------------------------------------


def ragged(counts: list[int]) -> Batch:
    rows = torch.arange(sum(counts) * 2.0).reshape(-1, 2)
    starts = starts_of(torch.tensor(counts, dtype=torch.int64))
    return Batch({"path": rows, "label": torch.arange(len(counts))}, torch.arange(len(counts)) + 5, {"path": starts})


def test_a_ragged_field_tells_whose_its_rows_are() -> None:
    batch = ragged([2, 0, 1])
    assert batch.size == 3
    assert batch.starts("path").tolist() == [0, 2, 2, 3]
    assert batch.owner("path").tolist() == [0, 0, 2]
    with pytest.raises(KeyError):
        batch.starts("label")


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=6), data=st.data())
def test_narrowing_a_ragged_batch_is_a_batch_of_these_samples(counts: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(counts)))
    length = data.draw(st.integers(0, len(counts) - first))
    whole = ragged(counts)
    part = whole.narrow(first, length).to("cpu", channels_last=True)
    assert part.index.tolist() == whole.index.tolist()[first : first + length]
    assert part.label.tolist() == list(range(first, first + length))
    assert torch.equal(part.path, torch.cat(whole.path.split(counts)[first : first + length] or [whole.path[:0]]))
    assert part.starts("path").tolist() == starts_of(torch.tensor(counts[first : first + length], dtype=int)).tolist()
    assert part.owner("path").tolist() == [
        n for n, count in enumerate(counts[first : first + length]) for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([0, 1], "offsets of path: expected 3 numbers, got 2"),
        ([1, 1, 2], "expected to begin at 0 and to rise"),
        ([0, 2, 1], "expected to begin at 0 and to rise"),
        ([0, 1, 3], "field path: expected 3 rows, as its offsets say, got 2"),
    ],
)
def test_offsets_must_agree(starts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batch({"path": torch.zeros(2, 2)}, torch.arange(2), {"path": torch.tensor(starts)})


def test_paths_of_four_axes_are_no_pictures() -> None:
    batch = Batch({"path": torch.zeros(3, 4, 5, 2)}, torch.arange(1), {"path": torch.tensor([0, 3])})
    assert batch.to("cpu", channels_last=True).path.is_contiguous()
