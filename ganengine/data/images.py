"""The data source `images`: a folder of pictures, each a sample with the field `real`."""

from __future__ import annotations

from pathlib import Path

from ganengine.data.files import list_files, no_pictures, open_folder, split_folders
from ganengine.data.folders import FolderDataset, Part, Sample
from ganengine.data.options import DataOptions


def recognise(path: Path) -> bool:
    """Whether there is a picture anywhere below the folder."""
    return path.is_dir() and bool(list_files(path).pictures)


def build(argument: str, options: DataOptions) -> FolderDataset:
    """Open a folder of pictures, taken from all folders below it; train/, val/ and test/ are splits.

    Raises:
        DataError: no such folder, a file, no pictures, or pictures that do not go together.
    """
    root = open_folder(argument)
    samples = {}
    for split, folder in (split_folders(root) or {"train": root}).items():
        names = list_files(folder).pictures
        if names:
            samples[split] = [Sample(name, {"real": Part(folder / name)}) for name in names]
    if not samples:
        raise no_pictures(root)
    return FolderDataset(root, "images", samples, options)
