"""The folder of a run: config.yaml, log.jsonl, notes.jsonl, environment.json, samples/ and checkpoints/."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import secrets
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ganengine.config import Settings, from_dict, read_mapping
from ganengine.data.pictures import save_picture
from ganengine.errors import PluginError, UserError
from ganengine.plugins import Registry, stated, words

if TYPE_CHECKING:
    from ganengine.hardware import Hardware

try:
    import fcntl
except ImportError:  # not on this system: nothing keeps two processes from training one run
    fcntl = None  # type: ignore[assignment]

PACKAGES = ("ganengine", "torch", "numpy", "pillow", "safetensors", "pluggy", "tyro")


_FILES = ("config.yaml", "log.jsonl", "notes.jsonl", "environment.json")
_FOLDERS = ("checkpoints", "samples")


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.log = path / "log.jsonl"
        self.notes = path / "notes.jsonl"
        self.identity = ""
        """Tells its checkpoints from those of other runs; "": not known."""
        self._made: list[Path] = []

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def check_free(cls, out: Path | None) -> None:
        """Raise a UserError if the folder that was asked for exists already, or has no place to be made in."""
        if out is None:
            return
        if out.exists() or out.is_symlink():
            is_run = (out / "config.yaml").is_file()
            further = f", or go on with it by `ganengine resume {shlex.quote(str(out))}{stated()}`" if is_run else ""
            raise UserError(f"--out {out}: expected a name that is free; it exists. Choose another{further}.")
        above = next((place for place in out.parents if place.exists() or place.is_symlink()), Path())
        if not above.is_dir():
            raise UserError(f"--out {out}: expected a folder to make it in; {above} is none. Choose another.")

    @classmethod
    def create(cls, out: Path | None, variant: str) -> RunFolder:
        """Make the folder of a new run: `out`, or runs/VARIANT, runs/VARIANT-2, ...

        Raises:
            UserError: `out` exists, or the folder cannot be made.
        """
        cls.check_free(out)
        number = 1
        while True:
            path = out or Path("runs") / (variant if number == 1 else f"{variant}-{number}")
            made = [parent for parent in path.parents if not parent.exists()]
            folder = cls(path)
            folder._made, folder.identity = made, secrets.token_hex(8)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if out is not None:
                    cls.check_free(out)
                number += 1
                continue
            except (OSError, ValueError) as error:  # a name with a null character is a ValueError
                folder._remove_made()
                why = getattr(error, "strerror", None) or error
                raise UserError(f"The run's folder {path} cannot be made: {why}.") from error
            try:
                folder.checkpoints.mkdir()
                folder.samples.mkdir()
            except OSError as error:
                folder.remove()
                raise UserError(f"The run's folder {path} cannot be filled: {error.strerror or error}.") from error
            return folder

    @classmethod
    def joined(cls, path: Path, identity: str) -> RunFolder:
        """Return the folder of a run that the first of several ranks has made."""
        folder = cls(path)
        folder.identity = identity
        return folder

    def remove(self) -> None:
        """Take a folder away that `create` made, and those above it that it made and nobody has used since."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._remove_made()

    def _remove_made(self) -> None:
        with contextlib.suppress(OSError):
            for parent in self._made:
                parent.rmdir()

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an existing run.

        Raises:
            UserError: it is no such folder, or a link in it leads elsewhere.
        """
        if not path.is_dir():
            raise UserError(f"{path}: expected the folder of a run; there is no such folder.")
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path}: expected the folder of a run; it has no config.yaml.")
        for name in (*_FILES, *_FOLDERS):
            _check_own(path / name, stat.S_ISDIR if name in _FOLDERS else stat.S_ISREG)
        folder = cls(path)
        with contextlib.suppress(LookupError):
            folder.identity = str(folder.read_environment()["run"])
        return folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the run to this process while the block runs; the lock goes with the process, however it ends.

        Raises:
            UserError: another process trains it, or it cannot be written to.
        """
        for folder in (self.path, self.checkpoints):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise UserError(
                    f"{folder}: expected a folder that can be written to; it is read-only. Change its permissions, or "
                    "copy the run to where you may write."
                )
        if fcntl is None:
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)  # the folder itself: nothing is left behind
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise UserError(f"{self}: another process trains this run. Wait until it ends, or stop it.") from error
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            os.close(handle)

    def write_config(self, settings: Settings) -> None:
        """Write config.yaml: all options, also usable as `--config`."""
        text = yaml.safe_dump(settings.to_dict(), sort_keys=False, default_flow_style=None)
        _write(self.path / "config.yaml", text)

    def read_options(self) -> dict[str, Any]:
        """Read config.yaml as it stands, whatever is installed.

        Raises:
            UserError: it is damaged.
        """
        path = self.path / "config.yaml"
        record = read_mapping(path, f"{path}: expected the options of a run")
        if not isinstance(record.get("variant"), str):
            raise UserError(f"{path}: expected the options of a run; it cannot be read (it names no variant).")
        return record

    def read_config(self, registry: Registry) -> Settings:
        """Read config.yaml back.

        Raises:
            UserError: it is damaged, or names a variant or option that is not there.
        """
        record = self.read_options()
        try:
            variant = registry.variant(record["variant"])
        except PluginError as error:
            paths = self.read_environment().get("plugin")
            if not isinstance(paths, list) or not paths:
                raise
            raise PluginError(f"{error} This run was made with{words(paths)}: state that again.") from error
        return from_dict(variant, record, str(self.path / "config.yaml"))

    def read_environment(self) -> dict[str, Any]:
        """Read environment.json as it stands; empty where it cannot be read."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            record = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
            if isinstance(record, dict):
                return record
        return {}

    def write_environment(self, hardware: Hardware, notes: Mapping[str, Any]) -> None:
        """Write environment.json: versions, machine, and every automatic choice."""
        import torch  # here, so that what only reads a run needs none

        from ganengine.allocator import keep_freed_memory
        from ganengine.hardware import cpu_name

        record = {
            "schema": 1,
            "run": self.identity,
            "versions": versions(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu": cpu_name(),
            "device": str(hardware.device),
            "threads": hardware.threads,
            "precision": hardware.precision,
            "channels_last": hardware.channels_last,
            "allocator": keep_freed_memory(),
            **notes,
        }
        if hardware.device.type == "cuda":
            record["gpu"] = torch.cuda.get_device_name(hardware.device)
        _write(self.path / "environment.json", json.dumps(record, indent=1) + "\n")

    def append_log(self, line: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl, whole or not at all; JSON has no word for a number that is not finite: null.

        Raises:
            OSError: it cannot be written.
        """
        data = (json.dumps(_finite(line), allow_nan=False) + "\n").encode()
        with self.log.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(before)  # a full disk may have taken a part of it
                raise

    def append_note(self, step: int, text: str) -> None:
        """Append what the user was told to notes.jsonl; that it cannot be written is no reason to end a run."""
        with contextlib.suppress(OSError), self.notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "text": text}) + "\n")

    def cut_log(self, lines: int) -> None:
        """Drop what stands in log.jsonl past so many lines."""
        if not self.log.exists():
            return
        with self.log.open("rb+") as file:
            for _ in range(lines):
                file.readline()
            file.truncate()

    def sweep(self) -> None:
        """Remove what a killed writer left half-written; of checkpoints `checkpoint.prune` does."""
        for path in (*self.samples.glob(".*.png"), *self.path.glob(".*.tmp")):
            path.unlink(missing_ok=True)

    def save_sample(self, images: int, sheet: np.ndarray) -> Path:
        """Write a preview, numbered by images shown."""
        self.samples.mkdir(exist_ok=True)
        path = self.samples / f"{images:09d}.png"
        save_picture(path, sheet)
        return path


def run_of(path: Path) -> Path | None:
    """Return the run that would take a file at this place for one of its own: its records, all under checkpoints/."""
    place = Path(os.path.realpath(path.parent), path.name)
    for folder in place.parents:
        inside = place.relative_to(folder).parts
        if (inside in [(name,) for name in _FILES] or inside[0] == "checkpoints") and (
            folder / "config.yaml"
        ).is_file():
            return folder
    return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Return the versions of what matters to a run's numbers."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written, told with its own name; nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        # A full disk is told of without a name, another fault with the temporary one.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def _check_own(path: Path, kind: Callable[[int], bool]) -> None:
    """Raise a UserError if something is there that is not of this kind itself: what is written to it goes elsewhere."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # not there, as in a run that was never begun
    if stat.S_ISLNK(mode) or not kind(mode):
        what = "a link" if stat.S_ISLNK(mode) else "something else"
        expected = "folder" if kind is stat.S_ISDIR else "file"
        raise UserError(f"{path}: expected a {expected} of the run's own, got {what}. Put the {expected} itself there.")
