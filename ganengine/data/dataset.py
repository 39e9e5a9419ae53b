"""What a data set is: names, counts and a way to read one sample. Implement `Dataset` to bring data of your own."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from ganengine.errors import DataError, nearest
from ganengine.variant import DataSpec

if TYPE_CHECKING:
    import numpy as np


class BadPictureError(DataError):
    """A sample that cannot be read; the loader takes the next good one, or stops, as `bad_images` says."""

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{fspath(path)}: {reason}")
        self.path = fspath(path)
        self.reason = reason


class Dataset(ABC):
    """Samples of named fields, by split and index. Two things are needed: `spec`, and `read`.

        class Discs(Dataset):
            def __init__(self, options):
                self.spec = DataSpec({"real": FieldSpec("image", (1, options.size, options.size))}, count=500)

            def read(self, split, index, size):
                return {"real": draw_disc(index, size or 64)}       # [size, size, 1], uint8

    `read` is called from several threads at once and must give the same sample each time. Further splits are declared
    by overriding `splits`.
    """

    spec: DataSpec
    """The fields, with the shapes they have in training, and how many training samples there are."""
    classes: Sequence[str] = ()
    """Names of the classes, in the order of the field `label`; () where there is none."""
    mirrors: bool = True
    """Whether a mirrored picture could be one of these too. Digits and letters could not: they are never mirrored."""
    notes: Sequence[str] = ()
    """What a user should know of the data before it is trained on, in sentences."""

    @abstractmethod
    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        """Return one sample: every field of `spec`.

        Args:
            split: a key of `splits`.
            index: 0 to `splits[split] - 1`.
            size: the pictures' shorter side in pixels, the longer one may stay longer and is cropped by the loader;
                None: as they are.

        Returns:
            by field: pictures [H, W, C], uint8, or float32 in [0, 1] where 8 bits do not hold them; other kinds of
            field in the shape that `spec` states, of a ragged one any number of rows of it.

        Raises:
            BadPictureError: this sample cannot be read.
        """

    @property
    def splits(self) -> Mapping[str, int]:
        """How many samples each split has; `train` is what the loader draws from."""
        return {"train": self.spec.count}

    @property
    def parts(self) -> Mapping[str, Dataset]:
        """Data sets that training draws from independently, by name, each giving fields of its own.

        Empty where a sample has all fields, as nearly always; unpaired pictures are two parts of different counts.
        """
        return {}

    def aligned(self, split: str) -> bool:
        """Whether the fields of a sample of this split show the same thing, so that they can be compared."""
        return True

    def read_many(self, split: str, indices: Sequence[int], size: int) -> dict[str, np.ndarray] | None:
        """Return many samples at once, each field as one new array [N, ...]; None where they are read one by one.

        For data that lies in memory with pictures of just this size: many small ones cost less together.
        """
        return None

    @property
    def shown_split(self) -> str:
        """The split to show in previews: one that is not trained on, where there is one."""
        return next((name for name in ("val", "test") if self.splits.get(name)), "train")

    @property
    def natural_side(self) -> int | None:
        """The shorter side in pixels of the middle one of the pictures; None where they have no size of their own."""
        return None

    @property
    def bad(self) -> Mapping[str, str]:
        """Files left out when the data was opened, with the reason."""
        return {}

    @property
    def fingerprint(self) -> str:
        """A cheap hash by which a resumed run sees that the data changed: of fields and names, not of contents."""
        return hash_record([sorted(self.spec.fields), {split: self.names(split) for split in self.splits}])

    def names(self, split: str) -> list[str]:
        """Return a name for each sample of `split`, unique in it: a relative path, or a number."""
        return [f"{index:06d}" for index in range(self.check_split(split))]

    def check_split(self, split: str) -> int:
        """Return how many samples `split` has.

        Raises:
            DataError: there is no such split.
        """
        if split in self.splits:
            return self.splits[split]
        known = ", ".join(f"{name} ({count})" for name, count in self.splits.items()) or "none"
        raise DataError(
            f'The data has no split "{split}"; it has: {known}.{nearest(split, self.splits)} '
            f"Choose one of these{self._worded(f', or put pictures in a folder {split}/')}."
        )

    def check_batch(self, batch: int) -> None:
        """Refuse to train with batches larger than the data.

        Raises:
            DataError: there are no training samples, or fewer than `batch`.
        """
        count = self.spec.count
        if count == 0:
            raise DataError(
                f"The data has nothing to train on: splits {', '.join(self.splits)}. Give some of it the split train "
                "(a folder train/, or the word where the data names splits)."
            )
        if batch > count:
            raise DataError(
                f"A batch of {batch} is larger than the data: {count} training sample{'s' * (count > 1)}. "
                f"Use --batch {count} or smaller, or add {self._worded('pictures', 'some')}."
            )

    def _worded(self, pictures: str, other: str = "") -> str:
        """Return what to say of pictures, or of data without any."""
        return pictures if any(field.kind == "image" for field in self.spec.fields.values()) else other


def hash_record(record: object) -> str:
    """Return 32 hexadecimal digits that depend on `record`, anything that JSON holds."""
    return hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16).hexdigest()
