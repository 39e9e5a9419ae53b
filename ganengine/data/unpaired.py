"""The data source `unpaired`: pictures A and B drawn independently, of different counts, or pairs shuffled."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ganengine.data import pairs
from ganengine.data.dataset import Dataset, hash_record
from ganengine.data.files import Folder, open_folder
from ganengine.data.folders import FolderDataset, Part, Sample
from ganengine.data.options import DataOptions
from ganengine.errors import DataError
from ganengine.variant import DataSpec

SIDES = ("A", "B")


def recognise(path: Path) -> bool:
    """Whether there are folders trainA and trainB, whatever is in them, or pairs of any layout."""
    try:
        layout, sides = pairs.find_sides(open_folder(path))
    except DataError:
        return False
    return (bool(sides) and layout == pairs.JOINED) or pairs.recognise(path)


def build(argument: str, options: DataOptions) -> UnpairedDataset:
    """Open folders of A and B, or pairs, whose sides are then drawn independently in training.

    Raises:
        DataError: no such folder, a file, no pictures; a side without pictures; pictures that are not two side by side.
    """
    root = open_folder(argument)
    layout, sides = pairs.find_sides(root)
    if sides:
        samples = {side: {split: _whole(folders[side], side) for split, folders in sides.items()} for side in SIDES}
    else:
        layout, both = "pairs side by side", pairs.side_by_side(root)
        samples = {
            side: {split: [Sample(s.name, {side: s.parts[side]}) for s in found] for split, found in both.items()}
            for side in SIDES
        }
    for split in samples["A"]:
        bare = [side for side in SIDES if not samples[side][split]]
        if bare:
            raise DataError(f"{root}: expected pictures of A and B in the split {split}; {bare[0]} has none. Add some.")
    parts = {side: FolderDataset(root, layout, samples[side], options) for side in SIDES}
    if not sides:
        try:
            pairs.check_halves(parts["A"])
        except DataError as error:
            raise DataError(f"{error} Unpaired pictures go into folders trainA/ and trainB/.") from error
    aligned = {
        split: {_stem(s.name) for s in samples["A"][split]} == {_stem(s.name) for s in samples["B"][split]}
        for split in samples["A"]
    }
    return UnpairedDataset(f"unpaired: {layout.removeprefix('pairs ').removeprefix('in ')}", parts, aligned)


class UnpairedDataset(Dataset):
    """Pictures A and B that training draws independently of each other.

    `read` gives the samples of an aligned split as pairs; elsewhere A_i with B_i, of which the shorter side begins
    again where it ends, so that a split has as many samples as its longer side.

    Args:
        layout: what was recognised, in words.
        parts: A and B.
        aligned: by split, whether A and B of one name belong together.
    """

    def __init__(self, layout: str, parts: Mapping[str, FolderDataset], aligned: Mapping[str, bool]) -> None:
        self.layout = layout
        self.root = parts["A"].root
        self._parts = parts
        self._aligned = aligned
        self._names: dict[str, list[str]] = {}
        self._places: dict[str, list[tuple[int, int]]] = {}
        for split in [split for split in parts["A"].splits if split in parts["B"].splits]:
            a, b = (part.names(split) for part in parts.values())
            if aligned[split]:
                number_of = {_stem(name): number for number, name in enumerate(b)}
                places = [(number, number_of[_stem(name)]) for number, name in enumerate(a) if _stem(name) in number_of]
                self._names[split] = [a[number] for number, _ in places]
            else:
                places = [(number % len(a), number % len(b)) for number in range(max(len(a), len(b)))]
                self._names[split] = max(a, b, key=len)
            self._places[split] = places
        fields = {name: field for part in parts.values() for name, field in part.spec.fields.items()}
        whole = "train" in self._places
        self.spec = DataSpec(fields, max(part.spec.count for part in parts.values()) if whole else 0)

    @property
    def parts(self) -> Mapping[str, FolderDataset]:
        return self._parts

    @property
    def splits(self) -> Mapping[str, int]:
        return {split: len(places) for split, places in self._places.items()}

    @property
    def natural_side(self) -> int | None:
        return min((side for part in self._parts.values() if (side := part.natural_side)), default=None)

    @property
    def bad(self) -> Mapping[str, str]:
        return {path: reason for part in self._parts.values() for path, reason in part.bad.items()}

    @functools.cached_property
    def fingerprint(self) -> str:
        return hash_record([part.fingerprint for part in self._parts.values()])

    def aligned(self, split: str) -> bool:
        self.check_split(split)
        return self._aligned[split]

    def names(self, split: str) -> list[str]:
        self.check_split(split)
        return self._names[split]

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        a, b = (
            part.read(split, place, size)
            for part, place in zip(self._parts.values(), self._places[split][index], strict=True)
        )
        return {**a, **b}


def _whole(folder: Folder, side: str) -> list[Sample]:
    return [Sample(name, {side: Part(folder.file(name))}) for name in folder.listing().pictures]


def _stem(name: str) -> str:
    return name[: name.rindex(".")]
