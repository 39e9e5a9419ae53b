"""The data source `pairs`: pictures A and B of the same thing, side by side in one file or in two folders."""

from __future__ import annotations

from pathlib import Path

from ganengine.data.files import SIDE, SPLITS, Folder, count_of, no_pictures, open_folder, relative, some
from ganengine.data.folders import FolderDataset, Part, Sample
from ganengine.data.headers import read_headers
from ganengine.data.options import DataOptions
from ganengine.errors import DataError

JOINED = "pairs in trainA, trainB"


def recognise(path: Path) -> bool:
    """Whether there are two folders with a name in common, or pictures twice as wide as high."""
    try:
        root = open_folder(path)
        _, sides = find_sides(root)
        if sides:
            return any(_stems(split["A"]).keys() & _stems(split["B"]).keys() for split in sides.values())
        samples = side_by_side(root)
    except DataError:
        return False
    paths = [s.parts["A"].path for members in samples.values() for s in members]
    headers, _ = read_headers(paths[:: max(1, len(paths) // 16)])  # a few tell
    return bool(headers) and all(h.width == 2 * h.height for h in headers.values())


def build(argument: str, options: DataOptions) -> FolderDataset:
    """Open a folder of pairs. Names and sizes are checked for all of them before anything is decoded.

    Raises:
        DataError: no such folder, a file, no pictures; A without its B; pairs of unequal size; pictures that are not
            two side by side.
    """
    root = open_folder(argument)
    layout, sides = find_sides(root)
    if sides:
        samples = {split: _pair_up(split, folders["A"], folders["B"]) for split, folders in sides.items()}
        dataset = FolderDataset(root, layout, {split: found for split, found in samples.items() if found}, options)
        _check_equal(dataset)
    else:
        dataset = FolderDataset(root, "pairs side by side", side_by_side(root), options)
        check_halves(dataset)
    return dataset


def find_sides(root: Folder) -> tuple[str, dict[str, dict[str, Folder]]]:
    """Find the folders of A and B by their names.

    Returns:
        the layout in words; {split: {"A": folder, "B": folder}}, empty where there are no such folders.

    Raises:
        DataError: a folder's partner is missing, or there are no pictures.
    """
    layout, sides = _sides(root)
    for split, folders in sides.items():
        for here, there in (("A", "B"), ("B", "A")):
            if there not in folders:
                raise DataError(
                    f"{root}: the folder {relative(folders[here], root)} of the split {split} has no partner: "
                    f"expected one for {there} beside it."
                )
    if sides and not any(folder.listing().pictures for split in sides.values() for folder in split.values()):
        raise no_pictures(root)
    return layout, sides


def _sides(root: Folder) -> tuple[str, dict[str, dict[str, Folder]]]:
    splits = tuple(dict.fromkeys(SPLITS.values()))
    if any(sum(len(name) == 1 for name in folder.folders()) > 3 for folder in (root, *root.splits().values())):
        return JOINED, {}  # A/ and B/ are the first two of the letters, which are classes
    outer = _a_and_b(root)
    if outer:
        inner = {side: folder.splits() for side, folder in outer.items()}
        found = {split: {s: inner[s][split] for s in outer if split in inner[s]} for split in splits}
        if any(found.values()):
            return "pairs in A/train, B/train", {split: sides for split, sides in found.items() if sides}
        return "pairs in A, B", {"train": outer}
    within = {split: sides for split, folder in root.splits().items() if (sides := _a_and_b(folder))}
    if within:
        return "pairs in train/A, train/B", within
    joined: dict[str, dict[str, Folder]] = {}
    for name, folder in root.folders().items():
        match = SIDE.fullmatch(name)
        if match:
            joined.setdefault(SPLITS[match[1]], {})[match[2].upper()] = folder
    return JOINED, {split: joined[split] for split in splits if split in joined}


def _a_and_b(folder: Folder) -> dict[str, Folder]:
    """Return those of the folders A/ and B/ that are there."""
    folders = folder.folders()
    return {side: folders[side.lower()] for side in "AB" if side.lower() in folders}


def _stems(folder: Folder) -> dict[str, str]:
    """Return the pictures of a folder by name without suffix.

    Raises:
        DataError: two differ in the suffix only.
    """
    stems: dict[str, str] = {}
    for name in folder.listing().pictures:
        stem = name[: name.rindex(".")]
        if stem in stems:
            raise DataError(f"{folder}: {stems[stem]} and {name} would both be {stem}; keep one.")
        stems[stem] = name
    return stems


def _pair_up(split: str, folder_a: Folder, folder_b: Folder) -> list[Sample]:
    a, b = _stems(folder_a), _stems(folder_b)
    if a and b and not a.keys() & b.keys():
        raise DataError(
            f"{folder_a} and {folder_b} have no name in common, so this looks unpaired: {some(list(a.values()))} "
            f"against {some(list(b.values()))}. Give partners the same name, or use a variant for unpaired pictures."
        )
    lacks = [
        f"{count_of(len(alone), 'picture')} of {here} without partner in {there.name} "
        f"({some([own[stem] for stem in alone])})"
        for own, other, here, there in ((a, b, folder_a, folder_b), (b, a, folder_b, folder_a))
        if (alone := [stem for stem in own if stem not in other])
    ]
    if lacks:
        raise DataError(
            f"{' and '.join(lacks)}, split {split}. Partners have the same name, as A/x.png and B/x.png: "
            f"add what is missing or take out what is alone. What is not of the same thing is for a variant that takes "
            f"unpaired pictures."
        )
    return [
        Sample(name, {"A": Part(folder_a.file(name)), "B": Part(folder_b.file(b[stem]))}) for stem, name in a.items()
    ]


def side_by_side(root: Folder) -> dict[str, list[Sample]]:
    """Return the samples of pictures A|B, by split.

    Raises:
        DataError: there are no pictures.
    """
    samples = {}
    for split, folder in (root.splits() or {"train": root}).items():
        names = folder.listing().pictures
        if names:
            samples[split] = [
                Sample(name, {"A": Part(folder.file(name), "left"), "B": Part(folder.file(name), "right")})
                for name in names
            ]
    if not samples:
        raise no_pictures(root)
    return samples


def _check_equal(dataset: FolderDataset) -> None:
    pairs = list(zip(dataset.field_headers("A"), dataset.field_headers("B"), strict=True))
    unequal = [(a, b) for a, b in pairs if a.size != b.size]
    if unequal:
        a, b = unequal[0]
        raise DataError(
            f"{dataset.root}: {len(unequal)} of {count_of(len(pairs), 'pair')} "
            f"{'is' if len(unequal) == 1 else 'are'} of unequal size, the first: "
            f"{relative(a.path, dataset.root)} is {a.size}, {relative(b.path, dataset.root)} is {b.size}. "
            f"Make both pictures of a pair the same size."
        )


def check_halves(dataset: FolderDataset) -> None:
    """Check that the pictures of field A, of which it is the left half, can be cut in two.

    Raises:
        DataError: all are as wide as high, or one has an odd width.
    """
    headers = dataset.field_headers("A")
    first = headers[0]
    if all(header.width == header.height for header in headers):
        raise DataError(
            f"{dataset.root}: expected A|B side by side, but every picture is as wide as high "
            f"({relative(first.path, dataset.root)} is {first.size}). Join A and B in one picture, or put them into "
            f"folders A/ and B/ with the same names."
        )
    odd = [header for header in headers if header.width % 2]
    if odd:
        raise DataError(
            f"{dataset.root}: expected A|B side by side, but {len(odd)} of {count_of(len(headers), 'picture')} "
            f"{'has' if len(odd) == 1 else 'have'} an odd width, the first: {relative(odd[0].path, dataset.root)} "
            f"is {odd[0].size}. Both halves must be equally wide."
        )
