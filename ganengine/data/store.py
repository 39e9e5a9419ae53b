"""Decoded samples, kept in memory up to a bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TypeAlias

import numpy as np

from ganengine.data.dataset import Dataset
from ganengine.data.options import DataOptions
from ganengine.data.pictures import reduce_picture

Arrays: TypeAlias = Mapping[str, np.ndarray]
Read: TypeAlias = Callable[[str, int, int], Arrays]
"""(split, index, size) -> a sample with pictures whose shorter side is `size`."""


def read_at(dataset: Dataset, options: DataOptions, split: str, index: int, size: int) -> Arrays:
    """Read a sample for a stage: where `size` divides the run's, its pictures are made smaller by averaging.

    So a picture is decoded once for all stages, and what a stage sees is just what the next one's pictures average to.

    Raises:
        BadPictureError: it cannot be read.
    """
    wholes = (options.read_size(options.size), options.size) if size < options.size else ()
    factor = next((whole // size for whole in wholes if whole % size == 0), 1)
    sample = dataset.read(split, index, factor * size)
    if factor == 1:
        return sample
    kept = options.alpha == "keep"
    return {
        name: reduce_picture(array, factor, alpha=kept and array.shape[2] in (2, 4))
        if dataset.spec.fields[name].kind == "image"
        else array
        for name, array in sample.items()
        if name in dataset.spec.fields
    }


class Store:
    """Reads samples once and keeps them; thread-safe.

    What does not fit is decoded again each time. Nothing is thrown out to make room: when every sample is read once
    an epoch in a new order, the ones kept are hit in each, while a least-recently-used rule would lose most of them
    before their turn. Only samples of a size that is no longer asked for are dropped.

    Args:
        read: where samples come from.
        limit: bytes.
    """

    def __init__(self, read: Read, limit: int) -> None:
        self.limit = limit
        self._read = read
        self.used = 0
        self._kept: dict[tuple[str, int], Arrays] = {}
        self._size = 0
        self._lock = Lock()

    def holds(self, split: str, index: int, size: int) -> bool:
        """Whether a sample can be had without decoding it."""
        return size == self._size and (split, index) in self._kept

    def read(self, split: str, index: int, size: int) -> Arrays:
        """Return a sample with pictures whose shorter side is `size`; do not write to it.

        Raises:
            BadPictureError: it cannot be read.
        """
        with self._lock:
            if size != self._size:
                self._kept.clear()
                self._size, self.used = size, 0
            kept = self._kept.get((split, index))
        if kept is not None:
            return kept
        sample = self._read(split, index, size)
        volume = sum(np.asarray(array).nbytes for array in sample.values())
        with self._lock:
            fits = self._size == size and self.used + volume <= self.limit and (split, index) not in self._kept
            if fits:
                self._kept[split, index] = sample
                self.used += volume
        return sample
