"""A data set that lies in memory, or in a mapped file, as one array for each field."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ganengine.data.dataset import Dataset, hash_record
from ganengine.data.files import SPLITS
from ganengine.data.options import DataOptions
from ganengine.data.pictures import fit_picture
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec

PROBES = 64
"""Rows of each array that the fingerprint looks at."""


class ArrayDataset(Dataset):
    """Samples that are rows of arrays.

    Args:
        arrays: by split and field: pictures [N, H, W, C], uint8 or float32 in [0, 1]; `label` [N], integers from 0, or
            -1 where it is not known; vectors [N, D].
        options: how pictures are to be read.
        source: where the arrays are from, for messages.
        layout: what was recognised, in words.
        classes: names of the labels; () numbers them up to the largest.

    Raises:
        DataError: the arrays of a split have different lengths, splits have different fields, or a label has no class.
    """

    def __init__(
        self,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        options: DataOptions,
        *,
        source: str,
        layout: str,
        classes: Sequence[str] = (),
    ) -> None:
        self.arrays = {split: arrays[split] for split in dict.fromkeys(SPLITS.values()) if split in arrays}
        self.options = options
        self.root = source
        self.layout = layout
        self._check_lengths()
        if all("label" in fields for fields in self.arrays.values()):
            self.classes = list(classes) or [str(number) for number in range(self._largest_label() + 1)]
            if self._largest_label() >= len(self.classes):
                raise DataError(
                    f"{source}: expected labels below {len(self.classes)}, as there are classes "
                    f"({', '.join(self.classes[:12])}), got {self._largest_label()}. Correct the labels."
                )
        specs = [{name: self._spec(name, array) for name, array in fields.items()} for fields in self.arrays.values()]
        for split, spec in zip(self.arrays, specs, strict=True):
            if spec != specs[0]:
                raise DataError(
                    f"{source}: expected the same fields in every split, got {_told(specs[0])} in "
                    f"{next(iter(self.arrays))} and {_told(spec)} in {split}. Make them alike."
                )
        self.spec = DataSpec(specs[0], self.splits.get("train", 0))
        pictures = [array for fields in self.arrays.values() for array in fields.values() if array.ndim == 4]
        self.mirrors = any(array.shape[3] > 1 for array in pictures)  # digits and letters come in grey
        self._sides = {array.shape[1:3] for array in pictures}

    @property
    def splits(self) -> Mapping[str, int]:
        return {split: len(next(iter(fields.values()))) for split, fields in self.arrays.items()}

    @property
    def natural_side(self) -> int | None:
        return min((min(sides) for sides in self._sides), default=None)

    @functools.cached_property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for fields in self.arrays.values():
            for array in fields.values():
                digest.update(np.ascontiguousarray(array[:: max(1, len(array) // PROBES)]).tobytes())
        forms = {
            split: {name: [str(array.dtype), *array.shape] for name, array in fields.items()}
            for split, fields in self.arrays.items()
        }
        return hash_record([forms, list(self.classes), digest.hexdigest()])

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        sample = {name: np.asarray(array[index]) for name, array in self.arrays[split].items()}
        if size is not None:
            for name, row in sample.items():
                if row.ndim == 3 and row.shape[:2] != (size, size):
                    sample[name] = fit_picture(row, size, self.options.resize)
        return sample

    def read_many(self, split: str, indices: Sequence[int], size: int) -> dict[str, np.ndarray] | None:
        if not self._sides <= {(size, size)}:
            return None
        return {name: array[indices] for name, array in self.arrays[split].items()}

    def _largest_label(self) -> int:
        return max(int(fields["label"].max()) if len(fields["label"]) else -1 for fields in self.arrays.values())

    def _spec(self, name: str, array: np.ndarray) -> FieldSpec:
        if name == "label":
            return FieldSpec("label", (), len(self.classes) or None)
        if array.ndim == 4:
            return FieldSpec("image", (array.shape[3], self.options.size, self.options.size))
        return FieldSpec("vector", array.shape[1:])

    def _check_lengths(self) -> None:
        for split, fields in self.arrays.items():
            if len({len(array) for array in fields.values()}) > 1:
                found = ", ".join(f"{len(array)} of {name}" for name, array in fields.items())
                raise DataError(
                    f"{self.root}: expected as many of each field in the split {split}, got {found}. Make them equal."
                )


def _told(fields: Mapping[str, FieldSpec]) -> str:
    return ", ".join(f"{name} ({f.shape[0]} channels)" if f.kind == "image" else name for name, f in fields.items())
