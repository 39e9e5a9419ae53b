"""The data source `captions`: pictures with one or more sentences each, listed in captions.json."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganengine.data.archives import is_archive, read_bytes
from ganengine.data.dataset import hash_record
from ganengine.data.files import SPLITS, Folder, count_of, is_picture, open_outer, some
from ganengine.data.folders import FolderDataset, Part, Sample
from ganengine.data.options import DataOptions
from ganengine.data.text import CODES, LONGEST, encode_all, length_for, plain
from ganengine.errors import DataError, nearest
from ganengine.variant import FieldSpec

NAME = "captions.json"
EMBEDDINGS = "embeddings.npz"
MOST = 16
"""Captions of a picture that are kept at most."""
SIDES = re.compile(r"\b(left|right)\b")
"""Words that a mirrored picture would belie."""
FORM = '{"image": "images/x.png", "split": "train", "captions": ["a red bird"]}'


class CaptionedDataset(FolderDataset):
    """Pictures with captions, and with embeddings of these where the folder has them.

    Fields: `real`; `captions`, ids [M, L], a row of character codes for each caption (`ganengine.data.text`); and,
    where there is an embeddings.npz, `embedding`, a vector [M, E] of a text encoder's outputs. Rows that a picture
    lacks are zeros and stand last.

    Args:
        root: the folder or zip file.
        samples: by split.
        captions: of each picture, by its name.
        embeddings: [m, E] of each picture, by its name; {} for none.
        options: how pictures are to be read.
    """

    def __init__(
        self,
        root: Folder,
        samples: Mapping[str, list[Sample]],
        captions: Mapping[str, list[str]],
        embeddings: Mapping[str, np.ndarray],
        options: DataOptions,
    ) -> None:
        self.captions = captions
        longest = max(len(plain(text)) for texts in captions.values() for text in texts)
        self._form = (max(map(len, captions.values())), length_for(longest))
        values = {"captions": FieldSpec("ids", self._form, CODES)}
        self._embeddings = embeddings
        if embeddings:
            rows = max(map(len, embeddings.values()))
            values["embedding"] = FieldSpec("vector", (rows, next(iter(embeddings.values())).shape[1]))
        super().__init__(root, "pictures with captions", samples, options, values)
        self.mirrors = not any(SIDES.search(text.lower()) for texts in captions.values() for text in texts)
        cut = sum(len(plain(text)) > LONGEST for texts in captions.values() for text in texts)
        unnamed = set(root.listing().pictures) - set(captions)
        self.notes = [
            *([f"{count_of(cut, 'caption')} longer than {LONGEST} characters: what is beyond is cut."] if cut else []),
            *([f"{count_of(len(unnamed), 'picture')} in no entry of {NAME}: not used."] if unnamed else []),
        ]

    @property
    def fingerprint(self) -> str:
        names = [name for split in self.splits for name in self.names(split)]
        return hash_record([super().fingerprint, {name: self.captions[name] for name in names}])

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        sample = super().read(split, index, size)
        name = self.samples[split][index].name
        sample["captions"] = encode_all(self.captions[name], *self._form)
        if self._embeddings:
            rows = self._embeddings[name]
            sample["embedding"] = np.zeros(self.spec.fields["embedding"].shape, np.float32)
            sample["embedding"][: len(rows)] = rows
        return sample


def recognise(path: Path) -> bool:
    """Whether a captions.json is there, or in the single folder inside."""
    return (path.is_dir() or is_archive(path)) and _find(open_outer(path)) is not None


def build(argument: str, options: DataOptions) -> CaptionedDataset:
    """Open a folder or zip file with a captions.json; all entries are checked before anything is decoded.

    Raises:
        DataError: no such folder; no captions.json, one that is damaged or has an entry of another form; a picture
            that is not there; embeddings that do not fit.
    """
    root = root_of(argument)
    there = set(root.listing().pictures)
    samples: dict[str, list[Sample]] = {}
    captions: dict[str, list[str]] = {}
    beyond = 0
    for number, entry in enumerate(_entries(root)):
        where = f"{root}/{NAME}, entry {number}"
        name, split, texts = _checked(where, entry)
        if name in captions:
            raise DataError(f'{where}: the picture "{name}" is listed twice. Join its captions in one entry.')
        if name not in there:
            raise DataError(
                f'{where}: no picture "{name}" below {root}.{nearest(name, there)} '
                "Add the picture, or take the entry out."
            )
        captions[name] = texts[:MOST]
        beyond += len(texts[MOST:])
        samples.setdefault(split, []).append(Sample(name, {"real": Part(root.file(name))}))
    ordered = {split: samples[split] for split in dict.fromkeys(SPLITS.values()) if split in samples}
    dataset = CaptionedDataset(root, ordered, captions, _embeddings(root, captions), options)
    if beyond:
        told = f"{count_of(beyond, 'caption')} beyond the first {MOST} of a picture: not used."
        dataset.notes = [*dataset.notes, told]
    return dataset


def root_of(argument: str | Path) -> Folder:
    """Return the folder that captions.json is in.

    Raises:
        DataError: there is none.
    """
    outer = open_outer(argument)
    root = _find(outer)
    if root is None:
        raise DataError(f"{outer}: expected a file {NAME} that lists pictures, got none. Add one: [{FORM}, ...].")
    return root


def _find(folder: Folder) -> Folder | None:
    """Return the folder with captions.json: this one, or the single one inside it."""
    if NAME in folder.listing().others:
        return folder
    inner = list(folder.folders().values())
    return _find(inner[0]) if len(inner) == 1 else None


def _entries(root: Folder) -> list[Any]:
    try:
        found = json.loads(read_bytes(root.file(NAME)).decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{root}/{NAME}: expected JSON in UTF-8; {error}. Repair it: [{FORM}, ...].") from error
    if not isinstance(found, list) or not found:
        what = "an empty list" if found == [] else f"a {type(found).__name__}"
        raise DataError(f"{root}/{NAME}: expected a list of entries, got {what}. Write [{FORM}, ...].")
    return found


def _checked(where: str, entry: Any) -> tuple[str, str, list[str]]:
    """Return picture, split and captions of an entry; other keys are left aside."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object, got {json.dumps(entry)[:40]}. Write {FORM}.")
    name, split, texts = entry.get("image"), entry.get("split", "train"), entry.get("captions")
    if not isinstance(name, str) or not is_picture(name):
        raise DataError(
            f'{where}: expected the path of a picture as "image", got {json.dumps(name)[:80]}. Write {FORM}.'
        )
    if not isinstance(split, str) or split.lower() not in SPLITS:
        known = ", ".join(dict.fromkeys(SPLITS.values()))
        raise DataError(f'{where} ({name}): expected a "split" among {known}, got {json.dumps(split)[:40]}.')
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and plain(t) for t in texts):
        raise DataError(
            f'{where} ({name}): expected "captions", a list of one or more sentences, got {json.dumps(texts)[:80]}. '
            "Write them, or take the entry out."
        )
    return name.removeprefix("./"), SPLITS[split.lower()], texts


def _embeddings(root: Folder, captions: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
    """Return the rows of embeddings.npz by picture, {} where there is no such file.

    Raises:
        DataError: a picture has none, or they are no matrices of finite numbers of one width.
    """
    if EMBEDDINGS not in root.listing().others:
        return {}
    file = root.file(EMBEDDINGS)
    try:
        with np.load(io.BytesIO(read_bytes(file)), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if name in captions}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file}: expected arrays of numbers, written by numpy.savez, got something else or a damaged file. "
            "Write it anew."
        ) from error
    lacking = [name for name in captions if name not in found]
    if lacking:
        raise DataError(
            f"{file}: expected an array for every picture of {NAME}; {count_of(len(lacking), 'picture')} without one "
            f"({some(lacking)}). Add them, or take the file away."
        )
    width = next(iter(found.values())).shape[-1:]
    for name, rows in found.items():
        fits = rows.ndim == 2 and 0 < len(rows) <= MOST and rows.shape[1:] == width != (0,) and rows.dtype.kind == "f"
        if not fits or not np.isfinite(rows).all() or not rows.any(1).all():
            empty = ", a row of which is zero or not finite" if fits else ""
            raise DataError(
                f"{file}: {name}: expected up to {MOST} rows of finite floats, not all zero, of one width "
                f"{list(width)}, got {list(rows.shape)} of {rows.dtype}{empty}. Compute it anew."
            )
    return found
