"""Batches as a pure function of (seed, position), assembled ahead of the step by a background thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganengine import draws
from ganengine.data.batch import Batch
from ganengine.data.dataset import BadPictureError, Dataset
from ganengine.data.options import DataOptions
from ganengine.data.pictures import to_signed
from ganengine.data.store import Arrays, Store
from ganengine.errors import DataError
from ganengine.variant import FieldSpec

AHEAD = 2
"""Batches assembled before they are asked for."""
BITS = 31
"""Of a sample's 63 random bits one decides on mirroring, and so many on each side of the crop."""


@dataclass(frozen=True)
class Request:
    """What `draw` was asked for."""

    position: int
    count: int
    size: int
    rank: int
    world: int


class Loader:
    """Draws training batches from a data set.

    The stream of samples is an endless row of epochs; epoch e is a permutation of the data keyed by (seed, e). Sample i
    of epoch e is cropped and mirrored by numbers keyed by (seed, e, i), all its fields alike. So a batch follows from
    (seed, position) alone: there is nothing to save, and N ranks draw what one would.

    Args:
        dataset: where samples come from; its `read` is called from several threads.
        options: sizes, mirroring, seed, the bound on memory, and what to do with unreadable pictures.
        device: where batches go.
        channels_last: memory format of the pictures.
        on_bad: called once for each unreadable picture with (path, reason), inside `draw`.
    """

    def __init__(
        self,
        dataset: Dataset,
        options: DataOptions,
        device: torch.device | str = "cpu",
        *,
        channels_last: bool = False,
        on_bad: Callable[[str, str], None] | None = None,
    ) -> None:
        self.dataset = dataset
        self.options = options
        self.device = torch.device(device)
        self.channels_last = channels_last
        self.waited_s = 0.0
        """Seconds that `draw` had to wait for a batch so far."""
        self.bad: dict[str, str] = dict(dataset.bad)
        """Unreadable pictures met so far: the reason, by path."""
        self._on_bad = on_bad
        self._told: set[str] = set()
        self._unreadable: set[tuple[str, int]] = set()
        self._orders: dict[int, np.ndarray] = {}
        self._store = Store(dataset, options.memory_mib << 20)
        self._assembler = ThreadPoolExecutor(1, "ganengine-batch")
        self._decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "ganengine-decode")
        self._pending: dict[Request, Future[Batch]] = {}

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def draw(self, position: int, count: int, *, size: int | None = None, rank: int = 0, world: int = 1) -> Batch:
        """Return samples `position` to `position + count` of the stream; the next such batch is begun at once.

        Args:
            position: images drawn so far, over all ranks.
            count: samples of the global batch; may be larger than the data and may cross the end of an epoch.
            size: side of the pictures in pixels; None: that of the options.
            rank, world: give only this rank's contiguous share, samples count*rank//world to count*(rank+1)//world.

        Raises:
            BadPictureError: a picture cannot be read, and `bad_images` is "fail".
            DataError: no picture can be read, or the data set gives another shape than its spec states.
        """
        self.dataset.check_batch(1)
        request = Request(position, count, size or self.options.size, rank, world)
        following = [replace(request, position=position + k * count) for k in range(1, AHEAD + 1)]
        for stale in self._pending.keys() - {request, *following}:
            self._pending.pop(stale).cancel()
        started = time.perf_counter()
        future = self._begin(request)
        del self._pending[request]
        batch = future.result()
        self.waited_s += time.perf_counter() - started
        for guess in following:
            self._begin(guess)
        self._tell()
        return batch.to(self.device, self.channels_last)

    def prefetch(self, position: int, count: int, *, size: int | None = None, rank: int = 0, world: int = 1) -> None:
        """Begin to assemble a batch; a hint before the first draw, or where draws do not follow one another."""
        self._begin(Request(position, count, size or self.options.size, rank, world))

    def fixed(self, split: str, n: int, *, size: int | None = None) -> Batch:
        """Return the first `n` readable samples of a split, or as many as it has, without jitter or mirroring.

        Raises:
            BadPictureError: a picture cannot be read, and `bad_images` is "fail".
            DataError: there is no such split, or none of its pictures can be read.
        """
        size = size or self.options.size
        found: dict[int, Arrays] = {}
        for index in range(self.dataset.check_split(split)):
            if len(found) == n:
                break
            try:
                # Past the store: it holds pictures of the size that jitter needs.
                found[index] = self.dataset.read(split, index, size)
            except BadPictureError as error:
                self._note(split, index, error)
        if n and not found:
            raise self._none_readable(split)
        middle = 1 << (BITS - 1)
        samples = [self._window(arrays, size, middle, middle, False) for arrays in found.values()]
        self._tell()
        return self._stack(samples, list(found), size).to(self.device, self.channels_last)

    def close(self) -> None:
        """End the background threads; batches under way are dropped."""
        self._pending.clear()
        self._assembler.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    # What follows runs in the background.

    def _begin(self, request: Request) -> Future[Batch]:
        if request not in self._pending:
            self._pending[request] = self._assembler.submit(self._assemble, request)
        return self._pending[request]

    def _assemble(self, request: Request) -> Batch:
        count, rank, world, size = request.count, request.rank, request.world, request.size
        places = range(request.position + count * rank // world, request.position + count * (rank + 1) // world)
        indices = [self._index(place) for place in places]
        read_size = self.options.read_size(size)
        kept = all(self._store.holds("train", index, read_size) for _, index in indices)
        # Threads only where there is something to decode: handing over a sample costs more than cropping it.
        results = list((map if kept else self._decoders.map)(lambda at: self._sample(at[0], at[1], size), indices))
        batch = self._stack([sample for _, sample in results], [index for index, _ in results], size)
        if self.device.type == "cuda":  # pinned, so that the copy runs beside the host
            batch = Batch({name: field.pin_memory() for name, field in batch.items()}, batch.index.pin_memory())
        return batch

    def _index(self, place: int) -> tuple[int, int]:
        """Return the epoch of sample `place` of the stream, and which sample of the data it is."""
        epoch, turn = divmod(place, self.dataset.spec.count)
        return epoch, int(self._order(epoch)[turn])

    def _sample(self, epoch: int, index: int, size: int) -> tuple[int, Arrays]:
        """Return a sample of an epoch, cropped and mirrored, and which one of the data it is."""
        count = self.dataset.spec.count
        key = draws.key(self.options.seed, "augment", epoch, index)
        flip = self.options.flip and bool(key & 1)
        across, down = (key >> 1) & ((1 << BITS) - 1), key >> (1 + BITS)
        for instead in range(count):
            chosen = (index + instead) % count  # the next good one takes the place of a bad one
            if ("train", chosen) in self._unreadable:
                continue
            try:
                arrays = self._store.read("train", chosen, self.options.read_size(size))
            except BadPictureError as error:
                self._note("train", chosen, error)
                continue
            return chosen, self._window(arrays, size, across, down, flip)
        raise self._none_readable("train")

    def _order(self, epoch: int) -> np.ndarray:
        """Return the permutation of an epoch."""
        order = self._orders.get(epoch)
        if order is None:
            generator = draws.generator(self.options.seed, "order", epoch)
            order = torch.randperm(self.dataset.spec.count, generator=generator).numpy()
            if len(self._orders) > 3:  # a batch rarely reaches over more epochs
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = order
        return order

    def _window(self, arrays: Arrays, size: int, across: int, down: int, flip: bool) -> Arrays:
        """Cut the same window out of every picture of a sample; `across` and `down` are fractions of 2**BITS."""
        cut = {}
        for name, field in self.dataset.spec.fields.items():
            array = arrays[name]
            if field.kind == "image":
                array = self._checked(name, field, array, size)
                left = (across * (array.shape[1] - size + 1)) >> BITS
                top = (down * (array.shape[0] - size + 1)) >> BITS
                array = array[top : top + size, left : left + size]
                array = array[:, ::-1] if flip else array
            cut[name] = array
        return cut

    def _checked(self, name: str, field: FieldSpec, array: np.ndarray, size: int) -> np.ndarray:
        channels = field.shape[0]
        if array.ndim != 3 or array.shape[2] != channels or min(array.shape[:2]) < size:
            raise DataError(
                f"{type(self.dataset).__name__}.read: field {name}: expected [H, W, {channels}] with sides of at least "
                f"{size}, got {list(array.shape)}."
            )
        if array.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"{type(self.dataset).__name__}.read: field {name}: expected uint8, or float32 in [0, 1], "
                f"got {array.dtype}."
            )
        return array

    def _stack(self, samples: list[Arrays], indices: list[int], size: int) -> Batch:
        fields = {
            name: self._pictures([sample[name] for sample in samples], field.shape[0], size)
            if field.kind == "image"
            else _values([sample[name] for sample in samples], field.kind)
            for name, field in self.dataset.spec.fields.items()
        }
        return Batch(fields, torch.tensor(indices, dtype=torch.int64))

    def _pictures(self, pictures: list[np.ndarray], channels: int, size: int) -> Tensor:
        # numpy, not torch: a second thread that runs torch would start a second team of OpenMP threads.
        if self.channels_last:
            out = np.empty((len(pictures), size, size, channels), np.float32).transpose(0, 3, 1, 2)
        else:
            out = np.empty((len(pictures), channels, size, size), np.float32)
        for row, picture in zip(out, pictures, strict=True):
            to_signed(picture, row)
        return torch.from_numpy(out)

    def _note(self, split: str, index: int, error: BadPictureError) -> None:
        if self.options.bad_images == "fail":
            raise error
        self.bad[error.path] = error.reason
        self._unreadable.add((split, index))

    def _tell(self) -> None:
        for path in list(self.bad.keys() - self._told):
            self._told.add(path)
            if self._on_bad:
                self._on_bad(path, self.bad[path])

    def _none_readable(self, split: str) -> DataError:
        path, reason = next(iter(self.bad.items()), ("the split is empty", ""))
        return DataError(f"No picture of the split {split} can be read; the first: {path}: {reason}.")


def _values(values: list[Any], kind: str) -> Tensor:
    """Stack what is no picture: labels and ids as int64, other numbers as float32."""
    dtype = np.int64 if kind in ("label", "ids") else np.float32
    return torch.from_numpy(np.stack([np.asarray(value) for value in values]).astype(dtype))
