"""Batches as a pure function of (seed, position), assembled ahead of the step by a background thread."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ganengine.data.batch import Batch
from ganengine.data.dataset import BadPictureError, Dataset
from ganengine.data.options import DataOptions
from ganengine.data.pictures import mirrored, to_signed
from ganengine.data.store import Arrays, read_at
from ganengine.data.stream import Stream
from ganengine.errors import DataError, GanengineError
from ganengine.ragged import starts_of
from ganengine.variant import FieldSpec

AHEAD = 2
"""Batches assembled before they are asked for."""
BLOCK = 1 << 18
"""Bytes of pixels that are converted at once: small pictures together, and no more than the processor's cache holds."""
BITS = 31
"""Of a sample's 63 random bits one decides on mirroring, and so many on each side of the crop."""
Turn: TypeAlias = tuple[int, int]
"""An epoch, and which sample of the data has its turn in it."""
Column: TypeAlias = "list[np.ndarray] | np.ndarray"
"""The values of one field: one after another, or as one array [N, ...]."""
Columns: TypeAlias = Mapping[str, Column]


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

    Of a data set made of parts (unpaired A and B) each part has a stream of its own, with its own epochs: of the longer
    part one epoch is an epoch of the data, the shorter one is drawn more often.

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
        self._flip = options.flip and dataset.mirrors
        parts: Mapping[str, Dataset] = dataset.parts or {"": dataset}
        memory = (options.memory_mib << 20) // len(parts)
        self._streams = [Stream(part, options, memory, name) for name, part in parts.items()]
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
            DataError: no picture can be read, the data set gives another shape than its spec states, or its code fails.
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
                found[index] = read_at(self.dataset, self.options, split, index, size)
            except BadPictureError as error:
                self._note(error)
        if n and not found:
            raise self._none_readable(split)
        fields = self.dataset.spec.fields
        middle = 1 << (BITS - 1)
        samples = [self._window(fields, arrays, size, middle, middle, False) for arrays in found.values()]
        columns = {name: [sample[name] for sample in samples] for name in fields}
        self._tell()
        indices = torch.tensor(list(found), dtype=torch.int64)
        batch = Batch(self._stack(fields, columns, size), indices, _offsets(fields, columns))
        return batch.to(self.device, self.channels_last)

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
        try:
            return self._assembled(request)
        except GanengineError:
            raise
        except BaseException as error:  # in this thread a SystemExit ends nothing, and Ctrl-C never arrives
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"Reading the data failed after {request.position} images: {what} ({place.filename}, line "
                f"{place.lineno}, in {place.name}). Put right what {type(self.dataset).__name__} reads."
            ) from error

    def _assembled(self, request: Request) -> Batch:
        count, rank, world, size = request.count, request.rank, request.world, request.size
        places = range(request.position + count * rank // world, request.position + count * (rank + 1) // world)
        fields: dict[str, Tensor] = {}
        offsets: dict[str, Tensor] = {}
        index: list[int] = []
        for stream in self._streams:
            turns = [stream.turn(place) for place in places]
            chosen, values = self._rows(stream, size, turns) or self._samples(stream, size, turns)
            fields |= self._stack(stream.dataset.spec.fields, values, size)
            offsets |= _offsets(stream.dataset.spec.fields, values)
            if stream.count == self.dataset.spec.count:
                index = index or chosen
        batch = Batch(fields, torch.tensor(index, dtype=torch.int64), offsets)
        # Pinned, so that the copy to a GPU runs beside the host.
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def _rows(self, stream: Stream, size: int, turns: list[Turn]) -> tuple[list[int], Columns] | None:
        """Return the samples of these turns as `_samples` does, where the data set gives them all at once."""
        if self.options.read_size(size) != size:  # there is something to crop
            return None
        indices = [index for _, index in turns]
        rows = stream.dataset.read_many("train", indices, size)
        if rows is None:
            return None
        for name, field in stream.dataset.spec.fields.items():
            if field.kind == "image" and indices:
                self._checked(name, field, rows[name][0], size)
                if self._flip:
                    flips = np.array([stream.key(*turn) & 1 for turn in turns], bool)
                    rows[name][flips] = rows[name][flips, :, ::-1]
        return indices, rows

    def _samples(self, stream: Stream, size: int, turns: list[Turn]) -> tuple[list[int], Columns]:
        """Return which samples of the data these turns are, and by field their values, cropped and mirrored."""
        kept = stream.holds((index for _, index in turns), self.options.read_size(size))
        # Threads only where there is something to decode: handing over a sample costs more than cropping it.
        results = list((map if kept else self._decoders.map)(partial(self._sample, stream, size), turns))
        columns = {name: [sample[name] for _, sample in results] for name in stream.dataset.spec.fields}
        return [chosen for chosen, _ in results], columns

    def _sample(self, stream: Stream, size: int, turn: Turn) -> tuple[int, Arrays]:
        """Return a sample of an epoch, cropped and mirrored, and which one of the data it is."""
        epoch, index = turn
        fields = stream.dataset.spec.fields
        for instead in range(stream.count):
            chosen = (index + instead) % stream.count  # the next good one takes the place of a bad one
            if chosen in stream.unreadable:
                continue
            try:
                arrays = stream.read(chosen, self.options.read_size(size))
            except BadPictureError as error:
                self._note(error)
                stream.unreadable.add(chosen)
                continue
            key = 0
            if self._flip or any(arrays[n].shape[:2] != (size, size) for n, f in fields.items() if f.kind == "image"):
                key = stream.key(epoch, index)
            across, down = (key >> 1) & ((1 << BITS) - 1), key >> (1 + BITS)
            return chosen, self._window(fields, arrays, size, across, down, self._flip and bool(key & 1))
        raise self._none_readable("train")

    def _window(
        self, fields: Mapping[str, FieldSpec], arrays: Arrays, size: int, across: int, down: int, flip: bool
    ) -> Arrays:
        """Cut the same window out of every picture of a sample; `across` and `down` are fractions of 2**BITS."""
        cut = {}
        for name, field in fields.items():
            array = arrays[name]
            if field.kind == "image":
                array = self._checked(name, field, array, size)
                if array.shape[:2] != (size, size):
                    left = (across * (array.shape[1] - size + 1)) >> BITS
                    top = (down * (array.shape[0] - size + 1)) >> BITS
                    array = array[top : top + size, left : left + size]
                array = mirrored(array) if flip else array
            elif field.ragged and (np.ndim(array) != 1 + len(field.shape) or np.shape(array)[1:] != field.shape):
                raise DataError(
                    f"{type(self.dataset).__name__}.read: field {name}: expected any number of rows of "
                    f"{list(field.shape)}, got {list(np.shape(array))}."
                )
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

    def _stack(self, fields: Mapping[str, FieldSpec], columns: Columns, size: int) -> dict[str, Tensor]:
        return {
            name: self._pictures(columns[name], field.shape[0], size)
            if field.kind == "image"
            else _values(columns[name], field)
            for name, field in fields.items()
        }

    def _pictures(self, pictures: Column, channels: int, size: int) -> Tensor:
        # numpy, not torch: a second thread that runs torch would start a second team of OpenMP threads.
        if self.channels_last:
            out = np.empty((len(pictures), size, size, channels), np.float32).transpose(0, 3, 1, 2)
        else:
            out = np.empty((len(pictures), channels, size, size), np.float32)
        alike = len({picture.dtype for picture in pictures}) == 1
        block = max(1, BLOCK // out[:1].nbytes) if alike and len(pictures) else 1
        for start in range(0, len(pictures), block):
            to_signed(_joined(pictures[start : start + block]), out[start : start + block])
        return torch.from_numpy(out)

    def _note(self, error: BadPictureError) -> None:
        if self.options.bad_images == "fail":
            raise error
        self.bad[error.path] = error.reason

    def _tell(self) -> None:
        for path in list(self.bad.keys() - self._told):
            self._told.add(path)
            if self._on_bad:
                self._on_bad(path, self.bad[path])

    def _none_readable(self, split: str) -> DataError:
        path, reason = next(iter(self.bad.items()), ("the split is empty", ""))
        return DataError(f"No picture of the split {split} can be read; the first: {path}: {reason}.")


def _values(values: Column, field: FieldSpec) -> Tensor:
    """Stack what is no picture, put rows of ragged fields behind one another: labels and ids int64, others float32."""
    if not len(values):
        joined = np.empty((0, *field.shape))
    else:
        joined = np.concatenate(values) if field.ragged else _joined(values)
    return torch.from_numpy(joined.astype(np.int64 if field.kind in ("label", "ids") else np.float32))


def _offsets(fields: Mapping[str, FieldSpec], columns: Columns) -> dict[str, Tensor]:
    """Return where the rows of each sample begin, of the ragged fields."""
    counts = {name: [len(rows) for rows in columns[name]] for name, field in fields.items() if field.ragged}
    return {name: starts_of(torch.tensor(found, dtype=torch.int64)) for name, found in counts.items()}


def _joined(values: Column) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else np.stack([np.asarray(value) for value in values])
