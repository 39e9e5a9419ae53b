"""What a folder of data is, and what is wrong with it: the report of `ganengine data inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ganengine.data import images, pairs
from ganengine.data.files import count_of, list_files, open_folder
from ganengine.data.folders import FolderDataset
from ganengine.data.headers import read_headers
from ganengine.data.options import DataOptions
from ganengine.errors import DataError


def inspect(path: str | Path) -> dict[str, Any]:
    """Look at a folder without decoding anything.

    Returns:
        plain JSON values: `schema` 1, `path`, `layout` (in words), `source` (name of the data source), `fields`
        ({name: {channels, sizes: {"WxH": count}, modes: {mode: count}}}; sizes are those of files), `splits` ({name:
        count}), `odd` ([{path, reason}]: unreadable pictures, and files that are no pictures), `problem` (why it cannot
        be trained on, or None), `repairs` (what to do, in sentences).

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    root = open_folder(path)
    listing = list_files(root)
    problem = None
    dataset: FolderDataset | None = None
    options = DataOptions()
    as_pairs = pairs.recognise(root) or bool(_folders_of_sides(root))
    try:
        dataset = pairs.build(str(root), options) if as_pairs else images.build(str(root), options)
    except DataError as error:
        problem = str(error)
        if not listing.pictures:
            raise
    bad = dict(dataset.bad) if dataset else _unreadable(root, listing.pictures)
    odd = [{"path": name, "reason": reason} for name, reason in bad.items()]
    odd += [{"path": str(root / name), "reason": "no picture: ignored"} for name in listing.others]
    fields = dataset.spec.fields if dataset else {}
    return {
        "schema": 1,
        "path": str(root),
        "layout": dataset.layout if dataset else None,
        "source": "pairs" if as_pairs else "images",
        "fields": {name: _field(dataset, name) for name in fields if dataset},
        "splits": dict(dataset.splits) if dataset else {},
        "odd": odd,
        "problem": problem,
        "repairs": _repairs(dataset, problem, bad),
    }


def _folders_of_sides(root: Path) -> bool:
    try:
        return bool(pairs.find_sides(root)[1])
    except DataError:  # a partner is missing: `pairs` says which
        return True


def _unreadable(root: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {str(path): reason for path, reason in read_headers(root / name for name in names)[1].items()}


def _field(dataset: FolderDataset, name: str) -> dict[str, Any]:
    headers = dataset.field_headers(name)
    return {
        "channels": dataset.spec.channels(name),
        "sizes": dict(Counter(header.size for header in headers).most_common()),
        "modes": dict(Counter(header.mode for header in headers).most_common()),
    }


def _repairs(dataset: FolderDataset | None, problem: str | None, bad: dict[str, str]) -> list[str]:
    repairs = [problem] if problem else []
    if bad:
        repairs.append(f"Replace or remove {count_of(len(bad), 'unreadable picture')}; training leaves them out.")
    if dataset is None:
        return repairs
    if "train" not in dataset.splits:
        repairs.append("Add a folder train/: there is nothing to train on.")
    elif "test" not in dataset.splits:
        repairs.append(
            "Move some pictures to a folder test/ (and the rest to train/) to judge a trained model on them."
        )
    return repairs
