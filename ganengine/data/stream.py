"""Which sample of a data set has which place in training: an endless row of epochs, each in an order of its own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch

from ganengine import draws
from ganengine.data.dataset import Dataset
from ganengine.data.options import DataOptions
from ganengine.data.store import Arrays, Store, read_at


class Stream:
    """The training samples of one data set, in the order in which they are drawn.

    Args:
        dataset: where samples come from.
        options: how samples are read; epoch e is a permutation keyed by (options.seed, e), and by `name`.
        memory: bytes of decoded samples that are kept.
        name: of a part of a data set; "" where it is the whole.
    """

    def __init__(self, dataset: Dataset, options: DataOptions, memory: int, name: str = "") -> None:
        self.dataset = dataset
        self.count = dataset.spec.count
        self.unreadable: set[int] = set()
        self._store = Store(partial(read_at, dataset, options), memory)
        self._seed = options.seed
        self._name = (name,) if name else ()
        self._orders: dict[int, np.ndarray] = {}

    def turn(self, place: int) -> tuple[int, int]:
        """Return the epoch of sample `place` of the stream, and which sample of the data it is."""
        epoch, turn = divmod(place, self.count)
        return epoch, int(self._order(epoch)[turn])

    def key(self, epoch: int, index: int) -> int:
        """Return 63 random bits that decide on crop and mirroring of a sample in an epoch."""
        return draws.key(self._seed, "augment", epoch, index, *self._name)

    def holds(self, indices: Iterable[int], size: int) -> bool:
        """Whether these samples can be had without decoding one."""
        return all(self._store.holds("train", index, size) for index in indices)

    def read(self, index: int, size: int) -> Arrays:
        """Return a sample with pictures whose shorter side is `size`; do not write to it.

        Raises:
            BadPictureError: it cannot be read.
        """
        return self._store.read("train", index, size)

    def _order(self, epoch: int) -> np.ndarray:
        """Return the permutation of an epoch."""
        order = self._orders.get(epoch)
        if order is None:
            generator = draws.generator(self._seed, "order", epoch, *self._name)
            order = torch.randperm(self.count, generator=generator).numpy()
            if len(self._orders) > 3:  # a batch rarely reaches over more epochs
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = order
        return order
