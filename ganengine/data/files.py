"""Which files of a folder are pictures, and which parts of it are splits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ganengine.errors import DataError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".npy"}
)
"""Files that are read as pictures; .npy holds arrays of any number of channels."""
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of split folders, and the split each means."""
SIDE = re.compile(rf"(?:({'|'.join(SPLITS)})[_-]?)?([ab])")
"""Names of folders of one side of a pair: A, trainA, test_B ... in lower case."""


@dataclass(frozen=True)
class Listing:
    """The visible files below a folder, sorted by relative path."""

    pictures: tuple[str, ...]
    """Relative paths with forward slashes."""
    others: tuple[str, ...]
    """Whatever is no picture: text, tables, archives ..."""


def list_files(folder: Path) -> Listing:
    """List all files below `folder`; hidden ones and `__MACOSX` are left out."""
    names = sorted(_walk(folder, ""))
    pictures = tuple(name for name in names if is_picture(name))
    return Listing(pictures, tuple(name for name in names if not is_picture(name)))


def is_picture(name: str) -> bool:
    """Whether a file of this name is read as a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def subfolders(folder: Path) -> dict[str, Path]:
    """Return the visible folders in `folder`, keyed by lower-case name."""
    return {entry.name.lower(): folder / entry.name for entry in _scan(folder) if entry.is_dir()}


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders in `folder` that are splits, keyed by split.

    Raises:
        DataError: two folders mean the same split (val/ and valid/).
    """
    splits: dict[str, Path] = {}
    for name, path in subfolders(folder).items():
        split = SPLITS.get(name)
        if split in splits:
            raise DataError(f"{folder}: both {splits[split].name}/ and {path.name}/ mean the split {split}; keep one.")
        if split:
            splits[split] = path
    return {split: splits[split] for split in dict.fromkeys(SPLITS.values()) if split in splits}


def open_folder(argument: str | os.PathLike[str]) -> Path:
    """Return the folder that a user named, or the single folder inside it that everything is in.

    Raises:
        DataError: nothing is named, nothing is there, or a file is.
    """
    if not os.fspath(argument):
        raise DataError("Expected a folder of pictures, got none.")
    path = Path(argument).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such folder. Give a folder of pictures.")
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of pictures, got a file. Give the folder it is in.")
    while True:
        inner = subfolders(path)
        name = next(iter(inner), "")
        if len(inner) != 1 or name in SPLITS or SIDE.fullmatch(name) or any(is_picture(e.name) for e in _scan(path)):
            return path
        path = inner[name]


def no_pictures(path: Path) -> DataError:
    """Return the error for a folder without a picture, which says what is there instead."""
    others = list_files(path).others
    if not others:
        return DataError(f"{path}: the folder is empty. Put pictures there ({', '.join(sorted(SUFFIXES))}).")
    archives = [name for name in others if name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z"))]
    hint = f" Unpack {some(archives)} first." if archives else ""
    return DataError(
        f"{path}: no pictures among {count_of(len(others), 'file')} ({some(others)}); "
        f"read are {', '.join(sorted(SUFFIXES))}.{hint}"
    )


def some(names: list[str] | tuple[str, ...], limit: int = 3) -> str:
    """Return the first few names, joined, with "..." for the rest."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def count_of(count: int, noun: str) -> str:
    """Return "1 picture", "2 pictures"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    for entry in _scan(folder):
        if not entry.is_dir():
            yield prefix + entry.name
        elif not (entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve())):  # no loops
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")


def _is_run(entry: os.DirEntry[str]) -> bool:
    """Whether this is the folder of a run: its previews are no data, also where it lies among the data."""
    return entry.is_dir() and all(os.path.exists(os.path.join(entry.path, name)) for name in ("config.yaml", "samples"))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Return the visible entries of a folder, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
            visible = [entry for entry in visible if not _is_run(entry)]
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror}). Check its permissions.") from error
    return sorted(visible, key=lambda entry: entry.name)
