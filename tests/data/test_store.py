"""Decoded samples in memory."""

from __future__ import annotations

import numpy as np
import pytest

from ganengine.data.dataset import Dataset
from ganengine.data.store import Store
from ganengine.variant import DataSpec, FieldSpec


class Counted(Dataset):
    """A sample is size * size bytes."""

    def __init__(self):
        self.spec = DataSpec({"real": FieldSpec("image", (1, 10, 10))}, 4)
        self.read_indices = []

    def read(self, split, index, size):
        self.read_indices.append(index)
        return {"real": np.full((size, size, 1), index, np.uint8)}


@pytest.mark.parametrize(
    ("limit", "again"), [(400, []), (399, [3]), (250, [2, 3]), (99, [0, 1, 2, 3]), (0, [0, 1, 2, 3])]
)
def test_what_fits_is_read_once_and_what_does_not_is_read_again(limit, again):
    data = Counted()
    store = Store(data.read, limit)
    for _ in range(2):
        for index in range(4):
            assert store.read("train", index, 10)["real"][0, 0, 0] == index
    assert data.read_indices == [0, 1, 2, 3, *again]
    assert store.used == 100 * (4 - len(again)) <= limit


def test_another_size_takes_the_place_of_the_one_before():
    data = Counted()
    store = Store(data.read, 400)
    for size in (10, 10, 5, 5, 10):
        assert store.read("train", 1, size)["real"].shape == (size, size, 1)
        assert store.used == size * size
    assert len(data.read_indices) == 3


def test_splits_are_kept_apart():
    data = Counted()
    store = Store(data.read, 400)
    store.read("train", 1, 10)
    store.read("test", 1, 10)
    assert len(data.read_indices) == 2
