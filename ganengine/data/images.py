"""The data source `images`: a folder or zip file of pictures, each a sample with the field `real`."""

from __future__ import annotations

from pathlib import Path

from ganengine.data.archives import is_archive
from ganengine.data.classes import are_mirrored, class_of
from ganengine.data.files import no_pictures, open_folder
from ganengine.data.folders import FolderDataset, Part, Sample
from ganengine.data.options import DataOptions


def recognise(path: Path) -> bool:
    """Whether there is a picture anywhere below the folder, or in the zip file."""
    return (path.is_dir() or is_archive(path)) and bool(open_folder(path).listing().pictures)


def build(argument: str, options: DataOptions) -> FolderDataset:
    """Open a folder or zip file of pictures, taken from all folders below it; train/, val/ and test/ are splits.

    Raises:
        DataError: no such folder, a file, no pictures, or pictures that do not go together.
    """
    root = open_folder(argument)
    samples = {}
    for split, folder in (root.splits() or {"train": root}).items():
        names = folder.listing().pictures
        if names:
            samples[split] = [Sample(name, {"real": Part(folder.file(name))}) for name in names]
    if not samples:
        raise no_pictures(root)
    dataset = FolderDataset(root, "images", samples, options)
    dataset.mirrors = are_mirrored({class_of(sample.name) for members in samples.values() for sample in members})
    return dataset
