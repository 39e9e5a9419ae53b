"""A data set made from nothing, for tests: every sample is a pure function of (field, split, index)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ganengine import draws
from ganengine.data.dataset import Dataset
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec

CLASSES = 4
"""Classes of a synthetic label."""
ROWS = 3
"""Most rows of a sample in ragged fields: 1, 2 or 3 in turn, the same in each of them."""

FIELDS: Mapping[str, FieldSpec] = {
    "real": FieldSpec("image", (3,)),
    "A": FieldSpec("image", (3,)),
    "B": FieldSpec("image", (3,)),
    "mask": FieldSpec("image", (1,)),
    "label": FieldSpec("label", (), CLASSES),
    "attributes": FieldSpec("vector", (8,)),
    "weight": FieldSpec("weight"),
    "captions": FieldSpec("ids", (2, 16), 97),
    "observed": FieldSpec("points", (8, 2), ragged=True),
    "future": FieldSpec("points", (12, 2), ragged=True),
}
"""Fields that `synthetic_spec` knows by name; of pictures the channels alone, their side follows."""


def synthetic_spec(fields: Iterable[str], size: int, count: int = 16) -> DataSpec:
    """Return a spec of well-known fields with square pictures.

    Args:
        fields: names among `FIELDS`.
        size: side of the pictures in pixels.
        count: training samples.

    Raises:
        DataError: a field that has no synthetic form.
    """
    specs = {}
    for name in fields:
        if name not in FIELDS:
            raise DataError(
                f'The field "{name}" has no synthetic form; there are {", ".join(FIELDS)}. '
                "Bring data of your own: check_variant(..., data=DATASET)."
            )
        known = FIELDS[name]
        specs[name] = FieldSpec(known.kind, (*known.shape, size, size)) if known.kind == "image" else known
    return DataSpec(specs, count)


class Synthetic(Dataset):
    """Noise of the right form: pictures of random pixels, labels in turn, weights in [0.5, 1.5), other numbers N(0, 1).

    Args:
        spec: the fields with their shapes, and how many training samples there are.
        test: samples of the split `test`.
    """

    def __init__(self, spec: DataSpec, *, test: int = 4) -> None:
        self.spec = spec
        self._test = test

    @property
    def splits(self) -> Mapping[str, int]:
        """Training samples as the spec says, and some to test with."""
        return {"train": self.spec.count, "test": self._test}

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        """Return one sample; pictures are squares of `size`, or of the spec's height."""
        return {name: self._value(name, field, split, index, size) for name, field in self.spec.fields.items()}

    @staticmethod
    def _value(name: str, field: FieldSpec, split: str, index: int, size: int | None) -> np.ndarray:
        source = np.random.default_rng(draws.key(0, name, split, index))
        shape = (1 + index % ROWS, *field.shape) if field.ragged else field.shape
        if field.kind == "image":
            side = size or field.shape[-2]
            return source.integers(0, 256, (side, side, field.shape[0]), dtype=np.uint8)
        if field.kind in ("label", "ids"):
            classes = field.num_classes or CLASSES
            return (index + np.arange(np.prod(shape, dtype=int))).reshape(shape) % classes
        if field.kind == "weight":
            return np.asarray(source.uniform(0.5, 1.5, shape), np.float32)
        return source.standard_normal(shape).astype(np.float32)
