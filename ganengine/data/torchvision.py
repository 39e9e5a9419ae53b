"""The data source `torchvision`: its data sets of pictures, by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganengine.data.cache import cache_root
from ganengine.data.dataset import BadPictureError, Dataset, hash_record
from ganengine.data.headers import GREY
from ganengine.data.options import DataOptions
from ganengine.data.pictures import fit_picture
from ganengine.errors import DataError, UserError, nearest
from ganengine.variant import DataSpec, FieldSpec

FORM = "torchvision:NAME[,FOLDER][,download]"
DIGITS = ("SVHN",)
"""Data sets in colour that must not be mirrored; grey ones never are."""


def build(argument: str, options: DataOptions) -> VisionDataset:
    """Open a data set of torchvision that is on disk, or get it where the user says so.

    Args:
        argument: NAME[,FOLDER][,download]; without FOLDER it is in the folder for derived data.
        options: how pictures are to be read.

    Raises:
        UserError: torchvision is not there or does not fit torch.
        DataError: no such data set, one that needs more than a folder, or one that is not on disk.
    """
    name, *words = argument.split(",")
    download = words[-1:] == ["download"]
    folder = ",".join(words[:-1] if download else words)
    known = _known()
    if name not in known:
        raise DataError(f'{FORM}: expected the name of a data set, got "{name}".{nearest(name, known)}')
    parameters = inspect.signature(known[name]).parameters
    needed = [word for word, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if needed != ["root"]:
        raise DataError(
            f"torchvision:{name}: expected a data set that needs a folder only, this one needs {', '.join(needed)}. "
            f"Give the folder of its files instead: pictures and IDX files are recognised."
        )
    root = Path(folder).expanduser() if folder else cache_root() / "torchvision"
    ways: dict[str, dict[str, Any]] = {"train": {}}
    if "train" in parameters:
        ways = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in parameters:
        ways = {split: {"split": split} for split in ("train", "val", "test")}
    getting = {"download": True} if download and "download" in parameters else {}
    found: dict[str, Any] = {}
    for split, way in ways.items():
        try:
            found[split] = known[name](str(root), **way, **getting)
        except ValueError:  # it has no such split
            continue
        except Exception as error:  # whatever its download or its files raise
            raise DataError(
                f"torchvision:{name}: the data cannot be read from {root} ({error}). Put it there, name the folder "
                f"(torchvision:{name},FOLDER), or let it be downloaded (torchvision:{name},download)."
            ) from error
    return VisionDataset(name, found, options)


class VisionDataset(Dataset):
    """Pictures, and labels where the data set has classes.

    Args:
        name: of the data set.
        found: by split, what torchvision gives.
        options: how pictures are to be read.

    Raises:
        DataError: it has no training split, or its samples are not pictures.
    """

    def __init__(self, name: str, found: Mapping[str, Any], options: DataOptions) -> None:
        self._name = name
        self._found = found
        self._options = options
        if not len(found.get("train", ())):
            raise DataError(f"torchvision:{name}: expected training pictures, got none. Choose another data set.")
        picture, target = _pair(found["train"][0])
        if not hasattr(picture, "convert"):
            raise DataError(
                f"torchvision:{name}: expected pictures, got {type(picture).__name__}. Choose another data set."
            )
        self._mode = "L" if picture.mode in GREY else "RGB"
        self._side = int(min(picture.size))
        channels = len(self._mode)
        fields = {"real": FieldSpec("image", (channels, options.size, options.size))}
        classes = getattr(found["train"], "classes", ())
        if isinstance(target, (int, np.integer)) and len(classes) > 1:
            self.classes = [str(word) for word in classes]
            fields["label"] = FieldSpec("label", (), len(self.classes))
        else:
            self.notes = [f"torchvision:{name} states no classes, so there are no labels."]
        self.mirrors = channels > 1 and name not in DIGITS
        self.spec = DataSpec(fields, len(found["train"]))

    @property
    def splits(self) -> Mapping[str, int]:
        return {split: len(samples) for split, samples in self._found.items()}

    @property
    def natural_side(self) -> int:
        return self._side

    @property
    def fingerprint(self) -> str:
        return hash_record([self._name, dict(self.splits), list(self.classes)])

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        try:
            picture, target = _pair(self._found[split][index])
            array = np.asarray(picture.convert(self._mode))
        except Exception as error:  # a decoder may raise anything on damaged bytes
            raise BadPictureError(f"torchvision:{self._name}/{split}/{index}", str(error)) from error
        array = array.reshape(*array.shape[:2], -1)
        sample = {"real": array if size is None else fit_picture(array, size, self._options.resize)}
        return {**sample, "label": np.asarray(target)} if "label" in self.spec.fields else sample


def _known() -> dict[str, Any]:
    """Return torchvision's data sets by name."""
    try:
        module = importlib.import_module("torchvision.datasets")
    except Exception as error:  # RuntimeError where its kernels were built for another torch
        raise UserError(
            f"torchvision: expected it beside torch; it cannot be imported ({error}). Install the one that fits this "
            f"torch (pip install torchvision), or give a folder: pictures, class folders, IDX and .npz files are "
            f"recognised."
        ) from error
    base = module.VisionDataset
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, base)}


def _pair(sample: Any) -> tuple[Any, Any]:
    """Return picture and target of a sample; some data sets have no targets."""
    return (sample[0], sample[1]) if isinstance(sample, tuple) and len(sample) > 1 else (sample, None)
