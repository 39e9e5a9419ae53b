"""A data set of picture files: which file, or half of a file, is which field of which sample."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

import numpy as np
import PIL

from ganengine.data.archives import File, read_bytes
from ganengine.data.cache import PixelCache
from ganengine.data.dataset import BadPictureError, Dataset, hash_record
from ganengine.data.files import Folder, count_of, some
from ganengine.data.headers import Header, read_headers
from ganengine.data.options import DataOptions
from ganengine.data.pictures import fit_picture, read_picture
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec

RULES = 2
"""Raised when a change of this package makes other pixels of the same file."""


@dataclass(frozen=True)
class Part:
    """The file, or the half of it, that is one field of a sample."""

    path: File
    half: Literal["left", "right"] | None = None


@dataclass(frozen=True)
class Sample:
    """The files of one sample, by field, and what it has beside pictures."""

    name: str
    parts: Mapping[str, Part]
    values: Mapping[str, int] = field(default_factory=dict)
    """Of fields that are no pictures: labels."""


class FolderDataset(Dataset):
    """Samples made of picture files. Headers are read at once; pictures are decoded when they are first asked for.

    What was decoded and resized is kept on disk, for later runs too: see `ganengine.data.cache`.

    Args:
        root: the folder or zip file that the samples are in.
        layout: what was recognised, in words.
        samples: by split, each with the same fields.
        options: how pictures are to be read.
        values: the fields of the samples' values.

    Raises:
        BadPictureError: a header cannot be read, and `bad_images` is "fail" or no sample is left.
        DataError: the pictures of a field have different numbers of channels.
    """

    def __init__(
        self,
        root: Folder,
        layout: str,
        samples: Mapping[str, Sequence[Sample]],
        options: DataOptions,
        values: Mapping[str, FieldSpec] | None = None,
    ) -> None:
        self.root = root
        self.layout = layout
        self.options = options
        paths = dict.fromkeys(part.path for split in samples.values() for s in split for part in s.parts.values())
        self.headers, bad = read_headers(paths)
        left_out = root.listing().left_out
        self._bad = {f"{root}/{name}": reason for name, reason in left_out.items()}
        self._bad |= {str(path): reason for path, reason in bad.items()}
        self.samples = {
            split: good
            for split, members in samples.items()
            if (good := [s for s in members if all(part.path in self.headers for part in s.parts.values())])
        }
        if self._bad and (options.bad_images == "fail" or not self.samples):
            name, reason = next(iter(self._bad.items()))
            count = len(self._bad)
            total = count_of(len(paths) + len(left_out), "picture")
            more = f" ({count} of {total} cannot be read)" if count > 1 else ""
            raise BadPictureError(name, f"{reason}{more}. Replace it, or take it out.")
        names = next(s for members in samples.values() for s in members).parts
        channels = {name: self._channels(name) for name in names}
        size = options.size
        fields = {name: FieldSpec("image", (count, size, size)) for name, (count, _) in channels.items()}
        self.spec = DataSpec({**fields, **(values or {})}, len(self.samples.get("train", ())))
        self._alpha = {name: alpha for name, (_, alpha) in channels.items()}
        self._caches: dict[int, PixelCache | None] = {}
        self._keys: dict[tuple[str, int, int], bytes] = {}
        self._lock = Lock()

    @property
    def splits(self) -> Mapping[str, int]:
        return {split: len(members) for split, members in self.samples.items()}

    @property
    def natural_side(self) -> int | None:
        parts = [part for members in self.samples.values() for s in members for part in s.parts.values()]
        sides = sorted(
            min(self.headers[part.path].width // (2 if part.half else 1), self.headers[part.path].height)
            for part in parts
        )
        return sides[len(sides) // 2] if sides else None

    @property
    def bad(self) -> Mapping[str, str]:
        return self._bad

    @functools.cached_property
    def fingerprint(self) -> str:
        record = {
            split: [
                [s.name, *(self.headers[part.path].bytes for part in s.parts.values()), *s.values.values()]
                for s in members
            ]
            for split, members in self.samples.items()
        }
        return hash_record([sorted(self.spec.fields), record])

    def names(self, split: str) -> list[str]:
        self.check_split(split)
        return [sample.name for sample in self.samples[split]]

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        values = self.samples[split][index].values
        return {**self._read(split, index, size), **{name: np.asarray(value) for name, value in values.items()}}

    def _read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        """Return the pictures of a sample."""
        parts = self.samples[split][index].parts
        cache = None if size is None else self._cache(size)
        if size is None or cache is None:
            return self._decode(parts, size, {})
        key, contents = self._keys.get((split, index, size)), {}
        if key is None:
            contents = {part.path: read_bytes(part.path) for part in parts.values()}
            key = self._key(parts, size, contents)
        sample = cache.read(key)
        if sample is None:
            sample = self._decode(parts, size, contents)
            cache.write(key, sample)
            sample = cache.read(key) or sample  # pages that all processes share, rather than memory of this one
        self._keys[split, index, size] = key
        return sample

    def _decode(
        self, parts: Mapping[str, Part], size: int | None, contents: Mapping[File, bytes]
    ) -> dict[str, np.ndarray]:
        files: dict[File, np.ndarray] = {}
        sample: dict[str, np.ndarray] = {}
        for name, part in parts.items():
            if part.path not in files:
                files[part.path] = read_picture(
                    part.path,
                    alpha=self.options.alpha,
                    channels=self.spec.channels(name),
                    data=contents.get(part.path),
                )
            array = _cut(files[part.path], part.half)
            if size is not None:
                array = fit_picture(array, size, self.options.resize, alpha=self._alpha[name])
            sample[name] = array
        return sample

    def _cache(self, size: int) -> PixelCache | None:
        with self._lock:
            if size not in self._caches:
                name = hash_record([self.fingerprint, self._rules(size)])
                self._caches[size] = PixelCache.open(name, self.options.cache_mib << 20)
            return self._caches[size]

    def _rules(self, size: int) -> str:
        """Return all that a decoded sample depends on but the files."""
        fields = {name: [self.spec.channels(name), alpha] for name, alpha in self._alpha.items()}
        # Pillow: another version may decode a JPEG to other bits.
        return json.dumps([RULES, PIL.__version__, size, self.options.resize, self.options.alpha, fields])

    def _key(self, parts: Mapping[str, Part], size: int, contents: Mapping[File, bytes]) -> bytes:
        digests = {path: hashlib.blake2b(data, digest_size=16).hexdigest() for path, data in contents.items()}
        # The suffix tells arrays from pictures.
        record = [
            [name, part.half, part.path.suffix.lower() == ".npy", digests[part.path]] for name, part in parts.items()
        ]
        return hashlib.blake2b(json.dumps([self._rules(size), record]).encode(), digest_size=16).digest()

    def field_headers(self, name: str) -> list[Header]:
        """Return the headers of all pictures of a field, split after split."""
        return [self.headers[s.parts[name].path] for members in self.samples.values() for s in members]

    def _channels(self, name: str) -> tuple[int, bool]:
        """Return the channels of a field, and whether the last one is transparency."""
        headers = self.field_headers(name)
        counts = {header.colours: header.path for header in headers}
        if len(counts) > 1 and not counts.keys() <= {1, 3}:
            kinds = [f"{count} ({path.name})" for count, path in sorted(counts.items())]
            raise DataError(
                f"{self.root}: the pictures of {name} have different numbers of channels: {some(kinds)}. "
                f"Make them alike; only grey and colour may be mixed."
            )
        colours = max(counts)
        alpha = self.options.alpha == "keep" and colours in (1, 3) and any(header.alpha for header in headers)
        return colours + alpha, alpha


def _cut(array: np.ndarray, half: str | None) -> np.ndarray:
    middle = array.shape[1] // 2
    return array if half is None else array[:, :middle] if half == "left" else array[:, middle:]
