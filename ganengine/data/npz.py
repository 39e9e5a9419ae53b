"""The data source `npz`: numpy archives of pictures and labels, under the names that people give them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganengine.data.archives import MEMBER_LIMIT, RATIO_LIMIT, File, read_bytes
from ganengine.data.arrays import ArrayDataset
from ganengine.data.classes import in_order
from ganengine.data.dataset import BadPictureError
from ganengine.data.files import SPLITS, open_folder, some
from ganengine.data.options import DataOptions
from ganengine.errors import DataError

FIELD = {
    **dict.fromkeys(("x", "images", "image", "imgs", "data", "real", "samples", "arr_0"), "real"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target", "arr_1"), "label"),
}
"""What an array of this name is."""
NAME = re.compile(
    rf"(?:(?P<before>{'|'.join(SPLITS)})_?)?(?P<what>{'|'.join(FIELD)})(?:_?(?P<behind>{'|'.join(SPLITS)}))?"
)
"""Such a name, perhaps with a split before or behind it: x_train, test_labels."""
CHANNELS = (1, 3, 4)
"""Lengths of the axis that holds the channels; height and width have others."""
RANGES = {
    "b": ((0, 1),),
    **dict.fromkeys("iu", ((0, 255), (0, 65535))),
    "f": ((0, 1), (-1, 1), (0, 255), (0, 65535)),
}
"""Files do not say what range pictures have: by kind of number, the first of these that holds all of them."""


@dataclass(frozen=True)
class Place:
    """An array in an .npz file."""

    file: File
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.file}"


def recognise(path: Path) -> bool:
    """Whether it is an .npz file, or a folder or zip file of nothing else, or of one that holds pictures."""
    if path.is_file() and path.suffix.lower() == ".npz":
        return True
    try:
        listing = open_folder(path).listing()
        names = [*listing.pictures, *listing.others]
        # Of a folder that can be nothing else `build` tells what the arrays should be called.
        alone = bool(names) and all(name.lower().endswith(".npz") for name in names)
        return alone or any("real" in fields for fields in _find(_files(path)).values())
    except DataError:
        return False


def build(argument: str, options: DataOptions) -> ArrayDataset:
    """Open an .npz file, or a folder or zip file of some. Without labels there is no field `label`.

    Raises:
        DataError: no such file or folder, no array that is known, one of an unclear form, or a damaged file.
    """
    files = _files(Path(argument).expanduser())
    found = _find(files)
    source = str(Path(argument).expanduser())
    if not any("real" in fields for fields in found.values()):
        names = [name for file in files for name in _names(file)]
        raise DataError(
            f"{source}: expected pictures in an .npz file, called x_train, train_images, images, arr_0 or the like, "
            f"got {some(names, 12) or 'none'}. Rename the array."
        )
    for split, fields in found.items():
        if "real" not in fields:
            raise DataError(f"{source}: {fields['label']}: expected the pictures of the split {split} too. Add them.")
    pictures = _pictures({split: fields["real"] for split, fields in found.items()})
    bare = [split for split, fields in found.items() if "label" not in fields]
    labels, classes = ({}, []) if bare else _labels({split: fields["label"] for split, fields in found.items()})
    arrays = {
        split: {"real": array, **({"label": labels[split]} if split in labels else {})}
        for split, array in pictures.items()
    }
    dataset = ArrayDataset(arrays, options, source=source, layout="arrays (.npz)", classes=classes)
    if 0 < len(bare) < len(found):
        dataset.notes = [f"The labels are left aside: the split {bare[0]} has none. Add them."]
    return dataset


def _files(path: Path) -> list[File]:
    if path.is_file() and path.suffix.lower() == ".npz":
        return [path]
    root = open_folder(path)
    return [root.file(name) for name in root.listing().others if name.lower().endswith(".npz")]


def _find(files: Iterable[File]) -> dict[str, dict[str, Place]]:
    """Return the arrays by split and field; of an array that names no split, the file may: train.npz.

    Raises:
        DataError: a file is damaged, or two arrays are the same.
    """
    found: dict[str, dict[str, Place]] = {}
    for file in files:
        for name in _names(file):
            match = NAME.fullmatch(name.lower())
            if match is None:
                continue
            stem = file.name.rpartition(".")[0].lower()
            split = SPLITS[match["before"] or match["behind"] or (stem if stem in SPLITS else "train")]
            fields = found.setdefault(split, {})
            field, place = FIELD[match["what"]], Place(file, name)
            if field in fields:
                raise DataError(
                    f"{place}: expected one array of {field} for the split {split}, got {fields[field]} as well. "
                    f"Rename or remove one."
                )
            fields[field] = place
    return {split: found[split] for split in dict.fromkeys(SPLITS.values()) if split in found}


# ----------------------------------------------------------------------------------------------------------------
# What the arrays hold


def _pictures(places: Mapping[str, Place]) -> dict[str, np.ndarray]:
    """Return all pictures as [N, H, W, C], uint8, or float32 in [0, 1] by one scale for all splits."""
    arrays = {split: _channels_last(place, _load(place)) for split, place in places.items()}
    if all(array.dtype == np.uint8 for array in arrays.values()):
        return arrays
    place = next(iter(places.values()))
    kinds = {str(array.dtype) for array in arrays.values()}
    kind = next(iter(arrays.values())).dtype.kind
    if len(kinds) > 1 or kind not in RANGES:
        raise DataError(
            f"{place}: expected whole or floating numbers of one type in all splits, got {', '.join(sorted(kinds))}. "
            f"Convert them."
        )
    low = min(float(array.min()) for array in arrays.values())
    high = max(float(array.max()) for array in arrays.values())
    span = next(((a, b) for a, b in RANGES[kind] if a <= low and high <= b), None)
    if span is None:
        ranges = " or ".join(f"{a} to {b}" for a, b in RANGES[kind])
        raise DataError(f"{place}: expected numbers from {ranges}, got {low:g} to {high:g}. Scale them.")
    if kind in "iu" and span == (0, 255):
        return {split: array.astype(np.uint8) for split, array in arrays.items()}
    start, width = np.float32(span[0]), np.float32(span[1] - span[0])
    return {split: (array.astype(np.float32) - start) / width for split, array in arrays.items()}


def _channels_last(place: Place, array: np.ndarray) -> np.ndarray:
    """Return pictures as [N, H, W, C]."""
    if array.ndim == 3 and array.size:
        return array[..., None]
    first, last = (array.ndim == 4 and array.shape[axis] in CHANNELS for axis in (1, 3))
    if not array.size or first == last:
        raise DataError(
            f"{place}: expected pictures [N, H, W], [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels, got "
            f"{list(array.shape)}{', which may be either' if first else ''}. Reshape it."
        )
    return array if last else np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def _labels(places: Mapping[str, Place]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return labels [N], int64, and the names of the classes where the labels are words."""
    arrays = {split: _load(place) for split, place in places.items()}
    if all(array.dtype.kind == "U" and array.ndim == 1 for array in arrays.values()):
        classes = in_order({str(word) for array in arrays.values() for word in np.unique(array)})
        number = {word: index for index, word in enumerate(classes)}
        return {
            split: np.array([number[str(word)] for word in array], np.int64) for split, array in arrays.items()
        }, classes
    return {split: _numbers(places[split], array) for split, array in arrays.items()}, []


def _numbers(place: Place, array: np.ndarray) -> np.ndarray:
    """Return labels as numbers from 0, -1 where one is not known; of [N, classes] the place of the one."""
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim == 2 and flat.dtype.kind in "biuf" and np.isin(flat, (0, 1)).all() and (flat.sum(axis=1) == 1).all():
        flat = flat.argmax(axis=1)
    whole = flat.dtype.kind in "iu" or (flat.dtype.kind == "f" and bool((flat == np.round(flat)).all()))
    if flat.ndim != 1 or not whole or flat.min(initial=0) < -1:
        raise DataError(
            f"{place}: expected labels [N], whole numbers from 0 or words, or [N, classes] with one 1 in each row, "
            f"got {array.dtype} {list(array.shape)}. Convert them."
        )
    return flat.astype(np.int64)


# ----------------------------------------------------------------------------------------------------------------
# Files


def _open(file: File) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file if isinstance(file, Path) else io.BytesIO(read_bytes(file)))
    except BadPictureError as error:
        raise DataError(f"{error}. Get it again.") from error
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise DataError(
            f"{file}: this is no .npz file, or it is damaged ({error}). Write it anew by numpy.savez."
        ) from error


def _names(file: File) -> list[str]:
    with _open(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _load(place: Place) -> np.ndarray:
    with _open(place.file) as archive:
        info = archive.getinfo(f"{place.name}.npy")
        if info.file_size > max(MEMBER_LIMIT, RATIO_LIMIT * info.compress_size):
            raise DataError(
                f"{place}: unpacks to {info.file_size / 2**30:.1f} GiB, which may be a zip bomb. Write it by "
                f"numpy.savez, without compression."
            )
        try:
            with archive.open(info) as stream:
                array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:  # zlib and numpy have errors of their own, by where the damage is
            raise DataError(
                f"{place}: expected an array of numbers, it cannot be read ({error}). Write it anew."
            ) from error
    return array
