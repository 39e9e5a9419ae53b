"""The data source `idx`: files as MNIST has them, train-images-idx3-ubyte and train-labels-idx1-ubyte, .gz or not."""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ganengine.data.archives import MEMBER_LIMIT, File, file_bytes, read_bytes
from ganengine.data.arrays import ArrayDataset
from ganengine.data.dataset import BadPictureError
from ganengine.data.files import SPLITS, Folder, open_folder, relative, some
from ganengine.data.options import DataOptions
from ganengine.errors import DataError

NAME = re.compile(
    rf"(?P<set>.+[-_.])?(?P<split>t10k|{'|'.join(SPLITS)})[-_.](?P<what>images|labels)[-_.]idx\d[-_.]ubyte(\.gz)?",
    re.IGNORECASE,
)
"""Names of the files, perhaps behind that of the set, as in emnist-digits-train-images-idx3-ubyte.gz."""
UINT8 = 8
"""The code of unsigned bytes in an IDX header."""
AGAIN = "Get the file again, or take it out."
FIELD = {"images": "real", "labels": "label"}


def recognise(path: Path) -> bool:
    """Whether there is a file in this format, by its name."""
    try:
        return any(NAME.fullmatch(name.rpartition("/")[2]) for name in open_folder(path).listing().others)
    except DataError:
        return False


def build(argument: str, options: DataOptions) -> ArrayDataset:
    """Open a folder or zip file of IDX files; train and t10k are the splits. Without labels there is no field `label`.

    Raises:
        DataError: no such folder, no such files, those of several sets, or one that is damaged.
    """
    root = open_folder(argument)
    found = _find(root)
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for split, files in found.items():
        if "images" not in files:
            raise DataError(
                f"{root}: expected the pictures of {relative(files['labels'], root)} beside it; they are not there. "
                f"Add them, or take the labels out."
            )
        arrays[split] = {FIELD[what]: _read(files[what], what) for what in sorted(files)}
    if not arrays:
        listing = root.listing()
        raise DataError(
            f"{root}: expected files such as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz, "
            f"got {some(listing.others or listing.pictures) or 'nothing'}. Name the folder that they are in."
        )
    bare = [split for split, fields in arrays.items() if "label" not in fields]
    notes = []
    if 0 < len(bare) < len(arrays):
        notes.append(f"The labels are left aside: the split {bare[0]} has none. Add its file of labels.")
        arrays = {split: {"real": fields["real"]} for split, fields in arrays.items()}
    dataset = ArrayDataset(arrays, options, source=str(root), layout="IDX files")
    dataset.notes = notes
    return dataset


def _find(root: Folder) -> dict[str, dict[str, File]]:
    """Return the files by split and by what they hold: images, labels.

    Raises:
        DataError: they belong to several sets.
    """
    found: dict[str, dict[str, File]] = {}
    sets: dict[str, str] = {}
    for name in root.listing().others:
        folder, _, last = name.rpartition("/")
        match = NAME.fullmatch(last)
        if match is None:
            continue
        sets.setdefault(f"{folder}/{match['set'] or ''}".lower(), name)
        split = SPLITS.get(match["split"].lower(), "test")
        # Where both are there, the unpacked one comes first in the listing.
        found.setdefault(split, {}).setdefault(match["what"].lower(), root.file(name))
    if len(sets) > 1:
        raise DataError(
            f"{root}: expected the IDX files of one set, got those of {len(sets)} ({some(list(sets.values()))}). "
            f"Name the folder of one, or move each set to a folder of its own."
        )
    return {split: found[split] for split in dict.fromkeys(SPLITS.values()) if split in found}


def _read(file: File, what: str) -> np.ndarray:
    """Return pictures [N, H, W, C] or labels [N], both uint8; what is not packed is mapped, not read.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    try:
        if isinstance(file, Path) and file.suffix.lower() != ".gz":
            with file.open("rb") as opened:
                shape = _shape(file, opened.read, what)
            start = 4 + 4 * len(shape)
            _check_length(file, math.prod(shape), file_bytes(file) - start)
            array = np.asarray(np.memmap(file, np.uint8, "r", start, shape))
        else:
            stream = io.BytesIO(read_bytes(file))
            read = gzip.GzipFile(fileobj=stream).read if file.suffix.lower() == ".gz" else stream.read
            shape = _shape(file, read, what)
            if math.prod(shape) > MEMBER_LIMIT:
                raise DataError(
                    f"{file}: expected at most {MEMBER_LIMIT >> 30} GiB in a packed file, got "
                    f"{math.prod(shape) / 2**30:.1f} GiB. Unpack it."
                )
            data = read(math.prod(shape) + 1)
            _check_length(file, math.prod(shape), len(data))
            array = np.frombuffer(data, np.uint8).reshape(shape)
    except BadPictureError as error:
        raise DataError(f"{error}. {AGAIN}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: the file is damaged or cannot be read ({error}). {AGAIN}") from error
    return array[..., None] if array.ndim == 3 else array


def _shape(file: File, read: Callable[[int], bytes], what: str) -> tuple[int, ...]:
    """Read the header: two zeros, the code of the type, the number of dimensions, and each as 4 bytes, big-endian."""
    head = read(4)
    wanted = (1,) if what == "labels" else (3, 4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != UINT8 or head[3] not in wanted:
        raise DataError(
            f"{file}: expected an IDX file of bytes with {wanted[0]} dimension{'s' * (wanted[0] > 1)} "
            f"(it begins with 00 00 08 0{wanted[0]}), got {head.hex(' ') or 'an empty file'}. {AGAIN}"
        )
    sizes = read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{file}: the file is cut off in its header. {AGAIN}")
    shape = struct.unpack(f">{head[3]}I", sizes)
    if 0 in shape:
        raise DataError(f"{file}: expected {what}, got none: its header says {list(shape)}. {AGAIN}")
    return shape


def _check_length(file: File, expected: int, got: int) -> None:
    if got != expected:
        raise DataError(
            f"{file}: expected {expected} bytes behind the header, as it says, got "
            f"{got if got < expected else 'more'}. {AGAIN}"
        )
