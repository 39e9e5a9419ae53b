"""What a folder of data is, and what is wrong with it: the report of `ganengine data inspect`."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ganengine.data import captions, classes, idx, images, npz, pairs, tracks, unpaired
from ganengine.data.archives import File
from ganengine.data.arrays import ArrayDataset
from ganengine.data.captions import CaptionedDataset
from ganengine.data.dataset import BadPictureError, Dataset
from ganengine.data.files import SUFFIXES, Folder, count_of, open_folder, relative, some
from ganengine.data.folders import FolderDataset
from ganengine.data.headers import Header, read_headers
from ganengine.data.options import DataOptions
from ganengine.data.pictures import read_picture
from ganengine.data.scenes import SceneDataset
from ganengine.data.text import plain
from ganengine.data.unpaired import UnpairedDataset
from ganengine.errors import DataError

UNREAD = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".eps", ".pdf", ".exr", ".hdr", ".dng"})
"""Pictures that are not read, and would be missed without a word."""
PACKED = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"})
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "NPY": (".npy",),
}
"""Suffixes that fit pillow's formats."""
FORBIDDEN = frozenset('<>:"|?*\\')
"""Characters that file names on Windows cannot have."""

LAYOUTS: Mapping[str, Callable[[str, DataOptions], FolderDataset | UnpairedDataset]] = {
    "captions": captions.build,
    "pairs": pairs.build,
    "unpaired": unpaired.build,
    "classes": classes.build,
    "images": images.build,
}
"""Data sources of picture files."""
FOLDERS = ("Add a folder train/", "Move some pictures to a folder test/ (and the rest to train/)")
SPLITTING = {
    "tracks": (
        "Write train into the column split of some tracks",
        "Write test into the column split of some tracks (add it where there is none, and train for the rest)",
    ),
    "captions": (
        'Write "split": "train" into some entries of captions.json',
        'Write "split": "test" into some entries of captions.json',
    ),
    "idx": ("Add the file train-images-idx3-ubyte", "Put some pictures into a file t10k-images-idx3-ubyte"),
    "npz": ("Add an array x_train", "Put some pictures into an array x_test (and the rest into x_train)"),
}
"""How training and test samples are told apart in data of other sources than picture folders."""
ARRAYS = {"idx": idx, "npz": npz}
"""Data sources of arrays, where there are no picture files."""


def inspect(
    path: str | Path, *, quick: bool = False, progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None
) -> dict[str, Any]:
    """Look at a folder, a zip file, an array file or a table; nothing is written.

    Args:
        path: what a user named.
        quick: read headers only: pictures that are cut off and equal pictures are not found.
        progress: wraps the pictures while they are decoded, given how many there are.

    Returns:
        plain JSON values: `schema` 1, `path`, `layout` (in words), `source` (name of the data source), `fields`
        ({name: {channels, channel_counts: {"1": count}, sizes: {"WxH": count}, modes: {mode: count}}}; sizes are those
        of files, channels those in training, channel_counts those of files; of a label {classes: {name: {split:
        count}}}; of captions {per_picture: {"5": count}, longest: characters}; of embeddings {shape}; of paths {steps,
        rows: {"people of a scene": count}, scale}), `splits` ({name: count}), `bad` ([{path, reason}]: what training
        leaves out), `odd` ([{path, reason}]: the same, files that are no pictures, and odd names), `duplicates`
        ([{paths, splits}]: pictures of equal pixels), `decoded` (whether pixels were looked at), `problem` (why it
        cannot be trained on, or None), `repairs` (what to do, in sentences).

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    place = Path(path).expanduser()
    for source, opener in ARRAYS.items():
        if opener.recognise(place) and not images.recognise(place):
            return _inspect_arrays(place, source, opener.build, quick)
    is_table = place.suffix.lower() == ".csv" and place.is_file()  # `tracks` says what columns it lacks
    if (is_table or tracks.recognise(place)) and not images.recognise(place):
        return _inspect_tracks(place)
    root = open_folder(path)
    problem = None
    dataset: FolderDataset | UnpairedDataset | None = None
    source = _source(root, place)
    if source == "captions":
        root = captions.root_of(place)  # captions.json is beside the folder of pictures
    listing = root.listing()
    try:
        dataset = LAYOUTS[source](str(path), DataOptions())
    except DataError as error:
        problem = str(error)
        if not listing.pictures:
            raise
    problem = problem or _no_train(source, dataset)
    files = {root.file(name): name for name in listing.pictures}
    headers, unreadable = read_headers(files)
    bad = {f"{root}/{name}": reason for name, reason in listing.left_out.items()}
    bad |= {str(file): reason for file, reason in unreadable.items()}
    digests: dict[File, bytes] = {}
    if not quick:
        for file, digest in progress(_digests(headers), len(headers)) if progress else _digests(headers):
            if isinstance(digest, str):
                bad[str(file)] = digest
            else:
                digests[file] = digest
    folders = list(dataset.parts.values()) if isinstance(dataset, UnpairedDataset) else [dataset] if dataset else []
    problem = problem or _no_whole(folders, bad)
    duplicates = _duplicates(folders, digests)
    known = {captions.NAME, captions.EMBEDDINGS} if source == "captions" else set()
    others = {f"{root}/{name}": _no_picture(name) for name in listing.others if name not in known}
    names = {f"{root}/{name}": reason for name, reason in _odd_names(root, headers).items()}
    return {
        "schema": 1,
        "path": str(root),
        "layout": dataset.layout if dataset else None,
        "source": source,
        "fields": {name: _field(folder, name) for folder in folders for name in folder.spec.fields},
        "splits": dict(dataset.splits) if dataset else {},
        "bad": _entries(bad),
        "odd": [*_entries(bad), *_entries(others), *_entries(names)],
        "duplicates": duplicates,
        "decoded": not quick,
        "problem": problem,
        "repairs": [
            *([problem] if problem else []),
            *_repairs(bad, duplicates, others, names),
            *_more(source, dataset),
        ],
    }


def _entries(reasons: dict[str, str]) -> list[dict[str, str]]:
    return [{"path": path, "reason": reason} for path, reason in reasons.items()]


def _source(root: Folder, path: Path) -> str:
    """Return the data source that a folder of pictures is for, by sight."""
    if captions.recognise(path):
        return "captions"
    if pairs.recognise(path):
        return "pairs"
    if unpaired.recognise(path):
        return "unpaired"
    if _has_sides(root):  # with a fault, which `pairs` names
        return "pairs"
    return "classes" if classes.recognise(path) else "images"


def _has_sides(root: Folder) -> bool:
    try:
        return bool(pairs.find_sides(root)[1])
    except DataError:  # a partner is missing: `pairs` says which
        return True


def _digests(headers: dict[File, Header]) -> Iterator[tuple[File, bytes | str]]:
    """Decode all pictures; yield a hash of the pixels of each, or why there are none."""

    def look(file: File) -> tuple[File, bytes | str]:
        try:
            pixels = read_picture(file, alpha="keep")
        except BadPictureError as error:
            return file, error.reason
        seed = f"{pixels.dtype.str} {pixels.shape}".encode()
        return file, hashlib.blake2b(seed + np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()

    decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        yield from decoders.map(look, headers)
    finally:
        decoders.shutdown(cancel_futures=True)  # Ctrl-C does not wait for all of them


def _duplicates(folders: list[FolderDataset], digests: dict[File, bytes]) -> list[dict[str, Any]]:
    """Return the pictures of equal pixels, those that are in several splits first."""
    places: dict[tuple[str, bytes], dict[str, str]] = {}
    parts = ((split, part) for folder in folders for split, members in folder.samples.items() for part in members)
    for split, sample in parts:
        for name, part in sample.parts.items():
            # Halves of one file are in one place; equal pictures in A and B are a choice.
            if part.path in digests:
                side = "" if part.half else name
                places.setdefault((side, digests[part.path]), {})[str(part.path)] = split
    return _groups(places.values())


def _groups(places: Iterable[dict[str, str]]) -> list[dict[str, Any]]:
    """Return those of more than one picture, given as {name: split}, as the report lists them."""
    found = [{"paths": list(paths), "splits": sorted(set(paths.values()))} for paths in places if len(paths) > 1]
    return sorted(found, key=lambda group: -len(group["splits"]))


def _no_picture(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in UNREAD:
        return "a kind of picture that is not read: convert it to .png"
    if suffix in PACKED:
        return "an archive inside: ignored; unpack it, or give it alone"
    return "no picture: ignored"


def _odd_names(root: Folder, headers: dict[File, Header]) -> dict[str, str]:
    """Return, by relative path, what may go wrong with a name on another system."""
    odd: dict[str, str] = {}
    seen: dict[str, str] = {}
    for file, header in headers.items():
        name = relative(file, root)
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            odd[name] = f"its name differs from {seen[folded]} in upper and lower case or accents only"
        elif FORBIDDEN & set(name) or any(ord(letter) < 32 for letter in name):
            odd[name] = "its name has characters that other systems do not allow"
        elif any(part != part.strip() or os.path.splitext(part)[0].endswith(" ") for part in name.split("/")):
            odd[name] = "its name begins or ends with a space"
        elif file.suffix.lower() not in FORMATS.get(header.format, SUFFIXES):
            odd[name] = f"its suffix says otherwise, but it is {header.format}; it is read all the same"
        seen.setdefault(folded, name)
    return odd


def _inspect_arrays(
    path: Path, source: str, build: Callable[[str, DataOptions], ArrayDataset], quick: bool
) -> dict[str, Any]:
    """Return the report on data that is arrays: samples are named by split and number."""
    problem = None
    dataset: ArrayDataset | None = None
    try:
        dataset = build(str(path), DataOptions())
    except DataError as error:
        problem = str(error)
    problem = problem or _no_train(source, dataset)
    equal: dict[bytes, dict[str, str]] = {}
    for split, fields in dataset.arrays.items() if dataset and not quick else ():
        for number, picture in enumerate(fields["real"]):
            digest = hashlib.blake2b(np.ascontiguousarray(picture).tobytes(), digest_size=16).digest()
            equal.setdefault(digest, {})[f"{path}/{split}/{number}"] = split
    duplicates = _groups(equal.values())
    return {
        "schema": 1,
        "path": str(path),
        "layout": dataset.layout if dataset else None,
        "source": source,
        "fields": {name: _array_field(dataset, name) for name in dataset.spec.fields} if dataset else {},
        "splits": dict(dataset.splits) if dataset else {},
        "bad": [],
        "odd": [],
        "duplicates": duplicates,
        "decoded": not quick,
        "problem": problem,
        "repairs": [*([problem] if problem else []), *_repairs({}, duplicates, {}, {}), *_more(source, dataset)],
    }


def _inspect_tracks(path: Path) -> dict[str, Any]:
    """Return the report on a table of tracks, which is read whole: no sample of it can be bad."""
    problem = None
    dataset: SceneDataset | None = None
    try:
        dataset = tracks.build(str(path), DataOptions())
    except DataError as error:
        problem = str(error)
    problem = problem or _no_train("tracks", dataset)
    fields: dict[str, Any] = {}
    if dataset:
        people = Counter(len(scene) for members in dataset.scenes.values() for scene in members)
        rows = {str(count): number for count, number in people.most_common()}
        fields = {
            name: {"steps": field.shape[0], "rows": rows, "scale": field.scale}
            for name, field in dataset.spec.fields.items()
        }
    return {
        "schema": 1,
        "path": str(path),
        "layout": dataset.layout if dataset else None,
        "source": "tracks",
        "fields": fields,
        "splits": dict(dataset.splits) if dataset else {},
        "bad": [],
        "odd": [],
        "duplicates": [],
        "decoded": True,
        "problem": problem,
        "repairs": [*([problem] if problem else []), *_more("tracks", dataset)],
    }


def _array_field(dataset: ArrayDataset, name: str) -> dict[str, Any]:
    arrays = {split: fields[name] for split, fields in dataset.arrays.items()}
    if name == "label":
        return _classes(dataset.classes, {split: array.tolist() for split, array in arrays.items()})
    sizes: Counter[str] = Counter()
    for array in arrays.values():
        sizes[f"{array.shape[2]}x{array.shape[1]}"] += len(array)
    count = sum(map(len, arrays.values()))
    first = next(iter(arrays.values()))
    return {
        "channels": dataset.spec.channels(name),
        "channel_counts": {str(first.shape[3]): count},
        "sizes": dict(sizes.most_common()),
        "modes": {str(first.dtype): count},
    }


def _classes(names: Sequence[str], labels: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return how many samples of each class each split has."""
    counts = {split: Counter(found) for split, found in labels.items()}
    return {"classes": {name: {split: counts[split][number] for split in counts} for number, name in enumerate(names)}}


def _field(dataset: FolderDataset, name: str) -> dict[str, Any]:
    if name == "label":
        labels = {split: [s.values[name] for s in members] for split, members in dataset.samples.items()}
        return _classes(dataset.classes, labels)
    if isinstance(dataset, CaptionedDataset) and name == "captions":
        texts = [dataset.captions[s.name] for members in dataset.samples.values() for s in members]
        return {
            "per_picture": {str(count): number for count, number in Counter(map(len, texts)).most_common()},
            "longest": max(len(plain(text)) for each in texts for text in each),
        }
    if dataset.spec.fields[name].kind == "vector":
        return {"shape": list(dataset.spec.fields[name].shape)}
    headers = dataset.field_headers(name)
    return {
        "channels": dataset.spec.channels(name),
        "channel_counts": {
            str(count): number
            for count, number in Counter(header.colours + header.alpha for header in headers).most_common()
        },
        "sizes": dict(Counter(header.size for header in headers).most_common()),
        "modes": dict(Counter(header.mode for header in headers).most_common()),
    }


def _repairs(
    bad: dict[str, str],
    duplicates: list[dict[str, Any]],
    others: dict[str, str],
    names: dict[str, str],
) -> list[str]:
    repairs = []
    if bad:
        repairs.append(f"Replace or remove {count_of(len(bad), 'unreadable picture')}; training leaves them out.")
    unread = [name for name, reason in others.items() if "not read" in reason]
    if unread:
        repairs.append(f"Convert {count_of(len(unread), 'picture')} to .png: {some([*map(os.path.basename, unread)])}.")
    if names:
        repairs.append(f"Rename {count_of(len(names), 'picture')} before the data goes to another system.")
    leaks = [group for group in duplicates if len(group["splits"]) > 1]
    if leaks:
        repairs.append(
            f"Keep {count_of(len(leaks), 'picture')} in one split only: "
            f"figures on pictures that were trained on flatter."
        )
    if len(duplicates) > len(leaks):
        count = sum(len(group["paths"]) - 1 for group in duplicates if len(group["splits"]) == 1)
        repairs.append(f"Remove {count_of(count, 'copy', 'copies')}, unless they are meant to count twice.")
    return repairs


def _no_train(source: str, dataset: Dataset | None) -> str | None:
    """Return what to do where there is nothing to train on; None where there is."""
    if dataset is None or "train" in dataset.splits:
        return None
    return f"{SPLITTING.get(source, FOLDERS)[0]}: there is nothing to train on."


def _no_whole(folders: list[FolderDataset], bad: Collection[str]) -> str | None:
    """Return what to do where no training sample is whole; None where there is one."""
    for folder in folders:
        samples = folder.samples.get("train", [])
        if samples and all(any(str(part.path) in bad for part in sample.parts.values()) for sample in samples):
            return f"None of the {len(samples)} training samples can be read whole: replace what is listed as odd."
    return None


def _more(source: str, dataset: Dataset | None) -> list[str]:
    """Return what else there is to say of data that can be opened."""
    if dataset is None:
        return []
    to_train_on = "train" in dataset.splits and "test" not in dataset.splits
    judged = [f"{SPLITTING.get(source, FOLDERS)[1]} to judge a trained model on them."] if to_train_on else []
    return [*dataset.notes, *judged]
