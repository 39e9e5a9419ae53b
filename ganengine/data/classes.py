"""The data source `classes`: a folder for each class, as cat/x.png and dog/y.png, with or without splits."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ganengine.data.files import SIDE, Folder, count_of, no_pictures, open_folder, some
from ganengine.data.folders import FolderDataset, Part, Sample
from ganengine.data.options import DataOptions
from ganengine.errors import DataError
from ganengine.variant import FieldSpec


def recognise(path: Path) -> bool:
    """Whether all pictures are in folders, two or more, that are not the sides of pairs."""
    try:
        splits = _splits(open_folder(path))
    except DataError:
        return False
    names = {class_of(name) for folder in splits.values() for name in folder.listing().pictures}
    return len(names) > 1 and "" not in names and not all(SIDE.fullmatch(name.lower()) for name in names)


def build(argument: str, options: DataOptions) -> FolderDataset:
    """Open a folder of classes: those of the training split, which are the same in every split.

    Raises:
        DataError: no such folder, a file, no pictures; pictures in no class; fewer than two classes; a class that is
            not in the training split.
    """
    root = open_folder(argument)
    splits = _splits(root)
    if not splits:
        raise no_pictures(root)
    first = next(iter(splits))  # train, where there is one
    classes = in_order({class_of(name) for name in splits[first].listing().pictures} - {""})
    notes: list[str] = []
    samples = {}
    for split, folder in splits.items():
        names = folder.listing().pictures
        _check_classes(root, split, names, first, classes)
        missing = [name for name in classes if name not in set(map(class_of, names))]
        if missing:
            notes.append(f"The split {split} has no pictures of {_classes(missing)}.")
        samples[split] = [
            Sample(name, {"real": Part(folder.file(name))}, {"label": classes.index(class_of(name))}) for name in names
        ]
    if len(classes) < 2:
        raise DataError(f"{root}: expected folders of two or more classes, got only {classes[0]}/. Add another.")
    dataset = FolderDataset(root, "class folders", samples, options, {"label": FieldSpec("label", (), len(classes))})
    dataset.classes = classes
    dataset.mirrors = are_mirrored(classes)
    dataset.notes = notes
    return dataset


def class_of(name: str) -> str:
    """Return the outermost folder of a relative path, or "" where it is in none."""
    return name.partition("/")[0] if "/" in name else ""


def in_order(names: Collection[str]) -> list[str]:
    """Return class names sorted: by value where all are numbers, so that class 10 comes after 9."""
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def are_mirrored(classes: Collection[str]) -> bool:
    """Whether pictures of these classes may be mirrored: not where each is a single character, a digit or a letter."""
    return not classes or any(len(name) != 1 for name in classes)


def _splits(root: Folder) -> dict[str, Folder]:
    """Return the splits that have pictures."""
    splits = root.splits() or {"train": root}
    return {split: folder for split, folder in splits.items() if folder.listing().pictures}


def _check_classes(root: Folder, split: str, names: Collection[str], first: str, classes: list[str]) -> None:
    stray = [name for name in names if not class_of(name)]
    if stray:
        raise DataError(
            f"{root}: expected a folder for each class, as cat/0.png and dog/1.png; {count_of(len(stray), 'picture')} "
            f"of the split {split} {'is' if len(stray) == 1 else 'are'} in none, so there is no label "
            f"({some(stray)}). Sort {'it' if len(stray) == 1 else 'them'} into folders."
        )
    unknown = in_order(set(map(class_of, names)) - set(classes))
    if unknown:
        raise DataError(
            f"{root}: expected the classes of {first} in the split {split} ({some(classes, 12)}), got "
            f"{_classes(unknown)} besides. Rename the folder, move some of its pictures to {first}, or take it out."
        )


def _classes(names: list[str]) -> str:
    return f"{count_of(len(names), 'class', 'classes')} ({some(names, 12)})"
