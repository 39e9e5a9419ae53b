"""The record that the loader yields: named fields of N samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch(Mapping[str, Tensor]):
    """N samples as named fields, read as `batch["A"]` or `batch.A`.

    Args:
        fields: by name, each with N rows; images are [N, C, H, W], float32, in [-1, 1].
        index: [N], int64, which samples of the split these are.

    Raises:
        ValueError: a field has another number of rows than `index`, or a name that a batch uses itself.
    """

    fields: Mapping[str, Tensor]
    index: Tensor

    def __post_init__(self) -> None:
        for name, tensor in self.fields.items():
            if hasattr(type(self), name) or name in ("fields", "index"):
                raise ValueError(f'a field cannot be called "{name}": a batch uses that name itself.')
            if len(tensor) != len(self.index):
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

    @property
    def size(self) -> int:
        """How many samples there are (N); `len` counts the fields."""
        return len(self.index)

    def to(self, device: torch.device | str, channels_last: bool = False) -> Batch:
        """Return the batch on `device`, its [N, C, H, W] fields in channels-last memory if so asked.

        A copy to a GPU runs beside the host where this batch is in pinned memory.
        """
        device = torch.device(device)

        def move(tensor: Tensor) -> Tensor:
            moved = tensor.to(device, non_blocking=device.type == "cuda")
            return moved.contiguous(memory_format=torch.channels_last) if channels_last and moved.dim() == 4 else moved

        return Batch({name: move(tensor) for name, tensor in self.items()}, move(self.index))

    def narrow(self, start: int, length: int) -> Batch:
        """Return samples `start` to `start + length` as views, for a micro-batch or a rank's share."""
        fields = {name: tensor.narrow(0, start, length) for name, tensor in self.items()}
        return Batch(fields, self.index.narrow(0, start, length))
