"""The record that the loader yields."""

from __future__ import annotations

import pytest
import torch

from ganengine.data import Batch


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


@pytest.mark.parametrize("name", ["size", "index", "to", "narrow", "keys", "fields"])
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
