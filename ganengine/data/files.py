"""Which files of a folder or a zip file are pictures, and which parts of it are splits."""

from __future__ import annotations

import bisect
import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ganengine.data.archives import Archive, File, Member, is_archive, open_archive
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
    left_out: Mapping[str, str] = field(default_factory=dict)
    """What is not looked at, by relative path, and why: a link that leads outside, a name that is no text."""


class Folder:
    """A folder of data, or a zip file as if it were one: all files below it, listed once.

    Args:
        root: the folder or the zip file that a user named; None of its files is opened.

    Raises:
        DataError: the folder cannot be read, or the zip file is refused.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prefix = ""
        """Path of this folder below `root`: "" or "train/A/"."""
        self.archive = open_archive(root) if is_archive(root) else None
        tree = _Tree(root) if self.archive is None else _Tree.of_archive(self.archive)
        self._files = sorted(tree.files)
        self._folders = sorted(tree.folders)
        self._left_out = tree.left_out

    def __str__(self) -> str:
        return f"{self.root}/{self.prefix}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self).rpartition("/")[2]

    def file(self, name: str) -> File:
        """Return a file below this folder."""
        at = self.prefix + name
        return self.root / at if self.archive is None else Member(self.archive, at)

    def listing(self) -> Listing:
        """Return all files below this folder."""
        names = self._below(self._files)
        return Listing(
            tuple(name for name in names if is_picture(name)),
            tuple(name for name in names if not is_picture(name)),
            {name: self._left_out[self.prefix + name] for name in self._below(sorted(self._left_out))},
        )

    def folders(self) -> dict[str, Folder]:
        """Return the folders in this one, keyed by lower-case name."""
        names = [name for name in self._below(self._folders) if "/" not in name]
        return {name.lower(): self._enter(name) for name in names}

    def splits(self) -> dict[str, Folder]:
        """Return the folders in this one that are splits, keyed by split.

        Raises:
            DataError: two folders mean the same split (val/ and valid/).
        """
        splits: dict[str, Folder] = {}
        for name, folder in self.folders().items():
            split = SPLITS.get(name)
            if split in splits:
                raise DataError(
                    f"{self}: both {splits[split].name}/ and {folder.name}/ mean the split {split}; keep one."
                )
            if split:
                splits[split] = folder
        return {split: splits[split] for split in dict.fromkeys(SPLITS.values()) if split in splits}

    def innermost(self) -> Folder:
        """Return this folder, or the single folder inside it that everything is in, as archives often unpack to one."""
        inner = self.folders()
        name = next(iter(inner), "")
        direct = any("/" not in name and is_picture(name) for name in self._below(self._files))
        if len(inner) != 1 or name in SPLITS or SIDE.fullmatch(name) or direct:
            return self
        return inner[name].innermost()

    def _enter(self, name: str) -> Folder:
        folder = copy.copy(self)
        folder.prefix = f"{self.prefix}{name}/"
        return folder

    def _below(self, names: list[str]) -> list[str]:
        """Return those of the sorted `names` that are below this folder, relative to it."""
        start = bisect.bisect_left(names, self.prefix)
        end = bisect.bisect_left(names, self.prefix[:-1] + "0") if self.prefix else len(names)  # "0" follows "/"
        return [name[len(self.prefix) :] for name in names[start:end] if name != self.prefix]


class _Tree:
    """What is visible below a folder: hidden entries, `__MACOSX` and the folders of runs are no data."""

    def __init__(self, root: Path) -> None:
        self.files: list[str] = []
        self.folders: list[str] = []
        self.left_out: dict[str, str] = {}
        self._root = os.path.realpath(root)
        self._walk(str(root), "", (self._root,))

    @classmethod
    def of_archive(cls, archive: Archive) -> _Tree:
        """Return what is visible in a zip file."""
        tree = cls.__new__(cls)
        tree.left_out = {}
        names = [name for name in archive.members if not any(_is_hidden(part) for part in name.split("/"))]
        folders = {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}
        runs = [f"{folder}/" for folder in folders if f"{folder}/config.yaml" in archive.members]
        runs = [run for run in runs if any(name.startswith(f"{run}samples/") for name in names)]
        tree.files = [name for name in names if not name.startswith(tuple(runs))]
        tree.folders = [folder for folder in folders if not f"{folder}/".startswith(tuple(runs))]
        return tree

    def _walk(self, folder: str, prefix: str, above: tuple[str, ...]) -> None:
        for entry in _scan(folder):
            name = prefix + entry.name
            real = os.path.realpath(entry.path) if entry.is_symlink() else None
            try:
                name.encode()
            except UnicodeEncodeError:  # such a name can neither be printed nor written to a file
                if _is_data(entry):
                    self.left_out[ascii(name)] = "its name is no UTF-8; rename it"
                continue
            if real and os.path.commonpath([real, self._root]) != self._root and _is_data(entry):
                self.left_out[name] = "a link that leads out of the data; put the file itself there"
            elif real in above:
                self.left_out[name] = "a link to a folder that it is in"
            elif entry.is_file() or not _is_data(entry):
                self.files.append(name)
            elif not entry.is_dir():
                self.left_out[name] = "a link to nothing" if real else "no file: a pipe, a socket or a device"
            elif not _is_run(entry.path):
                self.folders.append(name)
                self._walk(entry.path, f"{name}/", (*above, os.path.realpath(entry.path)))


def list_files(folder: Path) -> Listing:
    """List all files below `folder`, or in a zip file; hidden ones and `__MACOSX` are left out."""
    return Folder(folder).listing()


def is_picture(name: str) -> bool:
    """Whether a file of this name is read as a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def open_folder(argument: str | os.PathLike[str]) -> Folder:
    """Return the folder or zip file that a user named, or the single folder inside it that everything is in.

    Raises:
        DataError: nothing is named, nothing is there, or it is a file that is no zip file, or one that is refused.
    """
    return open_outer(argument).innermost()


def open_outer(argument: str | os.PathLike[str]) -> Folder:
    """Return the folder or zip file that a user named, whatever is in it.

    Raises:
        DataError: as `open_folder`.
    """
    if not os.fspath(argument):
        raise DataError("Expected a folder of pictures, got none.")
    path = Path(argument).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such folder. Give a folder of pictures, or a zip file of one.")
    if not path.is_dir() and not is_archive(path):
        raise DataError(
            f"{path}: expected a folder of pictures, got a file. Give the folder it is in, or a zip file of that."
        )
    return Folder(path)


def no_pictures(folder: Folder) -> DataError:
    """Return the error for a folder without a picture, which says what is there instead."""
    listing = folder.listing()
    others = listing.others
    if listing.left_out:
        name, reason = next(iter(listing.left_out.items()))
        return DataError(
            f"{folder}: no pictures; {count_of(len(listing.left_out), 'entry', 'entries')} left out, the first: "
            f"{name}: {reason}."
        )
    if not others:
        return DataError(f"{folder}: the folder is empty. Put pictures there ({', '.join(sorted(SUFFIXES))}).")
    zips = [name for name in others if name.lower().endswith(".zip")] if folder.archive is None else []
    packed = [name for name in others if name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z"))]
    hint = f" Give {folder}/{zips[0]} itself, or unpack it." if len(zips) == 1 else ""
    hint = hint or (f" Unpack {some(packed)} first." if packed else "")
    return DataError(
        f"{folder}: no pictures among {count_of(len(others), 'file')} ({some(others)}); "
        f"read are {', '.join(sorted(SUFFIXES))}.{hint}"
    )


def relative(file: File | Folder, root: Folder) -> str:
    """Return the path of a file or folder below `root`, for messages."""
    return str(file).removeprefix(f"{root}/")


def some(names: list[str] | tuple[str, ...], limit: int = 3) -> str:
    """Return the first few names, joined, with "..." for the rest."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """Return "1 picture", "2 pictures"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def _is_run(path: str) -> bool:
    """Whether this is the folder of a run: its previews are no data, also where it lies among the data."""
    return all(os.path.exists(os.path.join(path, name)) for name in ("config.yaml", "samples"))


def _is_data(entry: os.DirEntry[str]) -> bool:
    """Whether an entry would count if nothing spoke against it: a picture by its name, or a folder."""
    return is_picture(entry.name) or entry.is_dir()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """Return the visible entries of a folder, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror}). Check its permissions.") from error
    return sorted(visible, key=lambda entry: entry.name)
