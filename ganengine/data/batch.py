"""The record that the loader yields: named fields of N samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ganengine import ragged
from ganengine.layout import channels_last as as_channels_last


@dataclass(frozen=True, eq=False)
class Batch(Mapping[str, Tensor]):
    """N samples as named fields, read as `batch["A"]` or `batch.A`.

    Args:
        fields: by name, each with N rows; images are [N, C, H, W], float32, in [-1, 1]. A ragged field has the rows of
            all samples behind one another, [rows, ...].
        index: [N], int64, which samples of the split these are.
        offsets: of each ragged field where the rows of each sample begin, and where the last one's end: [N + 1], int64.

    Raises:
        ValueError: a field has another number of rows than `index`, or than `offsets` say, or a name that a batch uses
            itself.
    """

    fields: Mapping[str, Tensor]
    index: Tensor
    offsets: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.fields.items():
            if hasattr(type(self), name) or name in ("fields", "index", "offsets"):
                raise ValueError(f'a field cannot be called "{name}": a batch uses that name itself.')
            if name in self.offsets:
                self._check_offsets(name, tensor)
            elif tensor.shape[0] != self.index.shape[0]:  # not by `len`, which no tracer sees
                raise ValueError(f"field {name}: expected {len(self.index)} rows, got {len(tensor)}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getattr__(self, name: str) -> Tensor:
        fields = self.__dict__.get("fields", {})
        if name not in fields:
            raise AttributeError(f"this batch has no field {name!r}; it has {', '.join(fields) or 'none'}.")
        tensor: Tensor = fields[name]
        return tensor

    # Comparing tensors gives tensors, so two batches are equal only when they are one.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _check_offsets(self, name: str, tensor: Tensor) -> None:
        starts = self.offsets[name]
        if len(starts) != len(self.index) + 1:
            raise ValueError(f"offsets of {name}: expected {len(self.index) + 1} numbers, got {len(starts)}.")
        if starts.device.type != "cpu":  # looked at before they were moved
            return
        if starts[0] != 0 or bool((starts.diff() < 0).any()):
            raise ValueError(f"offsets of {name}: expected to begin at 0 and to rise, got {starts.tolist()}.")
        if starts[-1] != len(tensor):
            raise ValueError(f"field {name}: expected {int(starts[-1])} rows, as its offsets say, got {len(tensor)}.")

    @property
    def size(self) -> int:
        """How many samples there are (N); `len` counts the fields."""
        return len(self.index)

    def starts(self, name: str) -> Tensor:
        """Return where the rows of each sample begin in a ragged field, and where the last one's end: [N + 1], int64.

        Raises:
            KeyError: there is no ragged field of that name.
        """
        return self.offsets[name]

    def owner(self, name: str) -> Tensor:
        """Return which sample of the batch each row of a ragged field belongs to: [rows], int64, from 0 to N - 1."""
        return ragged.owners(self.starts(name), len(self[name]))

    def to(self, device: torch.device | str, channels_last: bool = False) -> Batch:
        """Return the batch on `device`, its [N, C, H, W] fields in channels-last memory if so asked.

        A copy to a GPU runs beside the host where this batch is in pinned memory.
        """
        device = torch.device(device)

        def move(tensor: Tensor, picture: bool = False) -> Tensor:
            moved = tensor.to(device, non_blocking=device.type == "cuda")
            return as_channels_last(moved) if picture else moved

        fields = {
            name: move(tensor, channels_last and tensor.dim() == 4 and name not in self.offsets)
            for name, tensor in self.items()
        }
        return Batch(fields, move(self.index), {name: move(starts) for name, starts in self.offsets.items()})

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory, from where a copy to a GPU runs beside the host."""
        fields, offsets = (
            {name: tensor.pin_memory() for name, tensor in named.items()} for named in (self.fields, self.offsets)
        )
        return Batch(fields, self.index.pin_memory(), offsets)

    def narrow(self, start: int, length: int) -> Batch:
        """Return samples `start` to `start + length` as views, for a micro-batch or a rank's share."""
        fields, offsets = {}, {}
        for name, tensor in self.items():
            first, count = start, length
            if name in self.offsets:
                starts = self.offsets[name].narrow(0, start, length + 1)
                first = int(starts[0])  # sync: only where a batch is cut into micro-batches
                count = int(starts[-1]) - first
                offsets[name] = starts - first
            fields[name] = tensor.narrow(0, first, count)
        return Batch(fields, self.index.narrow(0, start, length), offsets)
