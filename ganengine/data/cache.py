"""Decoded samples on disk, memory-mapped and shared by all runs on this machine.

A data set at one size has two files below `cache_root()`/pixels: NAME.pixels, records one after another in segments of
64 MiB, and NAME.index, an entry for each. A record is found by the hash of the files that it was decoded from and of
all that decoding depends on, so it does not matter where the data lies, and an edited picture is decoded anew.

Nothing needs cleaning up after a writer that was killed: the entry is written after the record, under a lock that goes
with the process, and carries a checksum that every process verifies before its first use. Whatever is not whole is
decoded again and written behind.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import struct
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock

import numpy as np

try:
    import fcntl
except ImportError:  # not on this system: without a lock nothing is kept on disk
    fcntl = None  # type: ignore[assignment]

SEGMENT = 64 << 20
"""Bytes that are mapped at once; a record lies within one."""
ALIGN = 64
"""Records and arrays begin at multiples of this."""
ENTRY = struct.Struct("<16sQIQI")
"""Of the index: key, offset of the record, bytes of its description, bytes of its arrays, CRC-32 of both."""
SPARE = 1 << 30
"""The cache does not grow when less than this is free on its disk."""
PATIENCE_S = 2.0
"""How long to wait for another process that writes; a write takes well below a millisecond."""


def cache_root() -> Path:
    """Return the folder for derived data: GANENGINE_CACHE, else ganengine under XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("GANENGINE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganengine"


class PixelCache:
    """The records of one data set at one size; safe to use from several threads and processes at once.

    The first time that writing fails (a full disk, another process that was stopped while it held the lock) is the
    last: from then on this process only reads.

    Args:
        path: where, without suffix. Files are made where they are missing.
        limit: bytes that the records may take.

    Raises:
        OSError: the files cannot be opened.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._limit = limit
        self._pixels = os.open(path.with_suffix(".pixels"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._index = os.open(path.with_suffix(".index"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            os.close(self._pixels)
            raise
        weakref.finalize(self, _close, self._pixels, self._index)
        for descriptor in (self._pixels, self._index):
            os.utime(descriptor)  # the least recently used go first
        self._places: dict[bytes, tuple[int, int, int, int]] = {}
        self._verified: set[bytes] = set()
        self._maps: dict[int, mmap.mmap] = {}
        self._entries = 0
        self._end = 0
        self._writable = True
        self._lock = Lock()

    @classmethod
    def open(cls, name: str, limit: int) -> PixelCache | None:
        """Open the cache called `name`, and remove the least recently used others while all take more than `limit`.

        Returns:
            None where nothing can be kept: the folder cannot be written, or the system has no file locks.
        """
        if fcntl is None or limit <= 0:
            return None
        folder = cache_root() / "pixels"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / ".lock").open("w") as lock, _locked(lock.fileno()):
                _evict(folder, name, limit)
                if not (folder / f"{name}.index").exists():
                    # Left alone, by hand: whoever has it mapped must not find other pixels in it.
                    (folder / f"{name}.pixels").unlink(missing_ok=True)
                return cls(folder / name, limit)
        except OSError:
            return None

    def read(self, key: bytes) -> dict[str, np.ndarray] | None:
        """Return a sample as read-only views of the mapped file, or None where it is not there or not whole."""
        with self._lock:
            if key not in self._places:
                self._refresh()  # another process may have written it
            place = self._places.get(key)
            view = None if place is None else self._view(place[0], place[1] + place[2])
        if place is None or view is None:
            return None
        _, described, _, checksum = place
        if key not in self._verified:
            if zlib.crc32(view) != checksum:
                with self._lock:
                    if self._places.get(key) == place:
                        del self._places[key]
                return None
            self._verified.add(key)
        sample, start = {}, described
        for name, dtype, shape in json.loads(bytes(view[:described])):
            array: np.ndarray = np.ndarray(shape, dtype, view, start)
            sample[name] = array
            start += _aligned(array.nbytes)
        return sample

    def write(self, key: bytes, sample: Mapping[str, np.ndarray]) -> None:
        """Keep a sample, unless it is there already or there is no room."""
        if not self._writable:
            return
        arrays = {name: np.asarray(array) for name, array in sample.items()}
        description = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
        head = description.ljust(_aligned(len(description)))
        body = b"".join(array.tobytes().ljust(_aligned(array.nbytes), b"\0") for array in arrays.values())
        record = head + body
        with self._lock:
            try:
                with _locked(self._index):
                    self._refresh()
                    if key not in self._places:
                        self._append(key, record, len(head))
            except OSError:
                self._writable = False

    def _append(self, key: bytes, record: bytes, described: int) -> None:
        start = self._end
        if start // SEGMENT != (start + len(record) - 1) // SEGMENT:
            start = -(-start // SEGMENT) * SEGMENT
        if len(record) > SEGMENT or start + len(record) > self._limit:
            return
        if start + len(record) > os.fstat(self._pixels).st_size:
            if shutil.disk_usage(self._pixels).free < SPARE:
                return
            os.ftruncate(self._pixels, (start // SEGMENT + 1) * SEGMENT)
        _write_all(self._pixels, record, start)
        place = (start, described, len(record) - described, zlib.crc32(record))
        # Over what a killed writer left of an entry.
        _write_all(self._index, ENTRY.pack(key, *place), self._entries * ENTRY.size)
        self._entries += 1
        self._end = start + len(record)
        self._places[key] = place
        self._verified.add(key)

    def _refresh(self) -> None:
        """Read the entries that were written since the last time."""
        whole = os.fstat(self._index).st_size // ENTRY.size
        if whole <= self._entries:
            return
        size = os.fstat(self._pixels).st_size
        found = os.pread(self._index, (whole - self._entries) * ENTRY.size, self._entries * ENTRY.size)
        for key, start, described, length, checksum in ENTRY.iter_unpack(found):
            end = start + described + length
            self._entries += 1
            if end <= size and described + length and start // SEGMENT == (end - 1) // SEGMENT:
                self._places[key] = (start, described, length, checksum)
                self._end = max(self._end, _aligned(end))
            else:  # damaged: where its record lies is unknown, so nothing that is there is written over
                self._end = max(self._end, size)

    def _view(self, start: int, length: int) -> memoryview | None:
        segment, within = divmod(start, SEGMENT)
        if segment not in self._maps:
            if os.fstat(self._pixels).st_size < (segment + 1) * SEGMENT:
                return None
            offset = segment * SEGMENT
            try:
                self._maps[segment] = mmap.mmap(self._pixels, SEGMENT, access=mmap.ACCESS_READ, offset=offset)
            except OSError:  # no address space left for it
                return None
        return memoryview(self._maps[segment])[within : within + length]


def _evict(folder: Path, name: str, limit: int) -> None:
    """Remove files of other data sets, the least recently used first, until all fit. Who has one open keeps it."""
    sets: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if path.suffix in (".pixels", ".index"):
            sets.setdefault(path.stem, []).append(path)
    status = {stem: [path.stat() for path in paths] for stem, paths in sets.items()}
    sizes = {stem: sum(entry.st_blocks * 512 for entry in entries) for stem, entries in status.items()}
    used = sum(sizes.values())
    for stem in sorted(sets, key=lambda stem: max(entry.st_mtime_ns for entry in status[stem])):
        if used > limit and stem != name:
            for path in sets[stem]:
                path.unlink()
            used -= sizes[stem]


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.0005)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
