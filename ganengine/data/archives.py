"""Zip files read in place, as if they were folders: nothing is unpacked, and hostile ones are refused."""

from __future__ import annotations

import functools
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from ganengine.data.dataset import BadPictureError
from ganengine.errors import DataError

MEMBER_LIMIT = 1 << 30
"""Bytes that one member may unpack to: it is held in memory."""
RATIO_LIMIT = 200
"""How many times its packed size an archive may unpack to, once that is more than `MEMBER_LIMIT`. Pictures in their own
compression unpack to 1, blank bitmaps to up to 1000 times."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True)
class Member:
    """A file in a zip file, with as much of `Path` as reading pictures needs."""

    archive: Archive
    at: str
    """Path inside the archive, with forward slashes."""

    def __str__(self) -> str:
        return f"{self.archive}/{self.at}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.at.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on, as `Path.suffix`."""
        return os.path.splitext(self.name)[1]

    @property
    def file_size(self) -> int:
        """Size when unpacked."""
        return self.archive.members[self.at].file_size

    def open(self) -> IO[bytes]:
        """Open the file for reading.

        Raises:
            BadPictureError: the archive is damaged here.
        """
        try:
            return self.archive.open(self.at)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise BadPictureError(str(self), f"damaged in the archive ({error})") from error

    def read_bytes(self) -> bytes:
        """Return the contents; their checksum has been verified.

        Raises:
            BadPictureError: the archive is damaged here.
        """
        try:
            with self.open() as stream:
                return stream.read()
        except BadPictureError:
            raise
        except Exception as error:  # zlib, bz2 and lzma have errors of their own
            raise BadPictureError(str(self), f"damaged in the archive ({error})") from error


File: TypeAlias = "Path | Member"
"""A file on disk, or in a zip file."""


class Archive:
    """The files of a zip file, by their paths. Nothing is unpacked; two archives at one place are equal.

    Args:
        path: the zip file.

    Raises:
        DataError: it is no zip file or damaged; or it holds what has no place in a data set: a path that leads outside,
            a link, an encrypted file, two files of one path, more than `MEMBER_LIMIT` in one file, or a total of more
            than `RATIO_LIMIT` times what is packed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError(
                f"{path}: expected a zip file; this one is damaged, cut off or something else ({error}). "
                f"Pack it again, or give the unpacked folder."
            ) from error
        except OSError as error:
            raise DataError(f"{path}: the file cannot be read ({error.strerror}). Check its permissions.") from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = self._checked(info)
            if info.is_dir():
                continue
            if name in self.members:
                raise self._refused(name, "is in it twice")
            self.members[name] = info
        packed = sum(info.compress_size for info in self.members.values())
        total = sum(info.file_size for info in self.members.values())
        if packed > path.stat().st_size:
            raise DataError(f"{path}: its files overlap, as in a zip bomb. Pack it again, or give the unpacked folder.")
        if total > max(MEMBER_LIMIT, RATIO_LIMIT * packed):
            raise DataError(
                f"{path}: expected at most {RATIO_LIMIT} times its size when unpacked, got {total // max(1, packed)} "
                f"times ({total / 2**30:.1f} GiB), as in a zip bomb. Give the unpacked folder."
            )

    def __str__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Archive) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def open(self, name: str) -> IO[bytes]:
        """Open a member; several may be read at once, from several threads."""
        return self._zip.open(self.members[name])

    def _checked(self, info: zipfile.ZipInfo) -> str:
        """Return the path of a member, with forward slashes and without one at the end."""
        name = info.filename.replace("\\", "/")  # as some packers on Windows write it
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or name[1:2] == ":" or ".." in parts or "\0" in info.orig_filename:
            raise self._refused(info.orig_filename, "has a path that leads outside, or is none")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise self._refused(name, "is a link")
        if info.flag_bits & 0x1:
            raise self._refused(name, "is encrypted")
        if info.compress_type not in METHODS:
            raise self._refused(name, f"is packed by a method that is not read ({info.compress_type})")
        if info.file_size > MEMBER_LIMIT:
            raise self._refused(name, f"unpacks to {info.file_size / 2**30:.1f} GiB, which may be a zip bomb")
        return "/".join(parts)

    def _refused(self, name: str, why: str) -> DataError:
        return DataError(
            f"{self.path}: the zip file is refused: {name!r} {why}. Pack plain picture files, or give a folder."
        )


def is_archive(path: Path) -> bool:
    """Whether a file is to be read as a zip file: by its name, since an .npz is none for us and yet a zip file."""
    return path.suffix.lower() == ".zip" and path.is_file()


def open_archive(path: Path) -> Archive:
    """Open a zip file, or return the one that was opened before where it has not changed since.

    Raises:
        DataError: as `Archive`.
    """
    state = path.stat()
    return _open(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # recognising and building look at the same one several times
def _open(path: Path, size: int, changed: int) -> Archive:
    return Archive(path)


def file_bytes(file: File) -> int:
    """Return the size of a file, when unpacked."""
    return file.file_size if isinstance(file, Member) else file.stat().st_size


def read_bytes(file: File) -> bytes:
    """Return the contents of a file.

    Raises:
        BadPictureError: it cannot be read, or the archive is damaged here.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise BadPictureError(str(file), "no such file") from error
    except OSError as error:
        raise BadPictureError(str(file), f"it cannot be read ({error.strerror})") from error
