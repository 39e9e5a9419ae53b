"""Checkpoints: written whole or not at all, verified on reading, and unable to run code.

A checkpoint is a folder `step-000000120` of three files: `networks.safetensors`, `state.pt` (tensors and plain values,
read with weights_only) and `meta.json` (versions, step, images, sha256 of the other two and of itself).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import pickle
import re
import shutil
import stat
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ganengine.errors import CheckpointError
from ganengine.variant import DataSpec

FORMAT = 1
"""Version of this layout; a newer one is refused."""

_NAME = re.compile(r"step-(\d{9,18})")
_FILES = ("networks.safetensors", "state.pt")
_META = "meta.json"

MOST = 1 << 62
"""More steps or images than any run has."""
_NUMBERS = {
    "step": (0, MOST), "images": (0, MOST), "stage": (0, 1 << 20), "horizon": (1, MOST), "threads": (1, 4096),
    "ranks": (1, 1 << 20),
}  # fmt: skip
"""What meta.json must hold: whole numbers from and to."""
_WORDS = {"variant": r".+", "ganengine": r".+", "precision": r"fp32|bf16|fp16", "device": r"\w+", "fingerprint": r".*"}
"""What meta.json must hold: texts of this form."""
_FULL = 1 << 16
"""Bytes: a disk on which so few are free is full."""
_SIDE = 1 << 20
"""No axis of a sample is longer."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and verified."""

    path: Path
    meta: dict[str, Any]
    networks: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps done when it was written."""
        return int(self.meta["step"])

    @property
    def ranks(self) -> int:
        """How many processes trained together."""
        return int(self.meta["ranks"])


def write(folder: Path, networks: Mapping[str, Tensor], state: Mapping[str, Any], meta: Mapping[str, Any]) -> Path:
    """Write a checkpoint under a temporary name, sync it, rename it; what is left of a failed one is removed.

    Args:
        folder: the run's `checkpoints` folder.
        networks: tensors by name; saved contiguous and without aliases.
        state: what else is needed to go on: tensors, numbers, strings, lists and dicts of them.
        meta: JSON values; must hold what `Trainer` states of a run.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    final = folder / f"step-{meta['step']:09d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        safetensors.torch.save_file(_separate(networks), temporary / _FILES[0], metadata={"format": "pt"})
        torch.save(_canonical(state), temporary / _FILES[1])
        shutil.copymode(temporary / _FILES[1], temporary / _FILES[0])  # safetensors lets its owner alone read it
        digests = {name: sha256(temporary / name) for name in _FILES}
        record = {"format": FORMAT, **meta, "sha256": digests}
        record["own_sha256"] = _own_digest(record)
        (temporary / _META).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        _sync(folder)
    except (safetensors.SafetensorError, RuntimeError) as error:
        # How these libraries tell of a disk that does not take it, and of a full one rather darkly.
        full = shutil.disk_usage(temporary).free < _FULL
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(os.strerror(errno.ENOSPC) if full else " ".join(str(error).split())) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def listed(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first, unverified."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_step_of, reverse=True)


def _step_of(path: Path) -> int:
    return int(path.name.partition("-")[2])


def prune(folder: Path, keep: int, last: int = MOST) -> None:
    """Remove all but the newest `keep` checkpoints and the last one of each stage, and what a killed writer left.

    Args:
        folder: the run's `checkpoints` folder.
        keep: how many to keep.
        last: step of the one just written. Those that state a later one were passed over: they do not count as kept,
            and are left alone.
    """
    paths = [path for path in listed(folder) if _step_of(path) <= last]
    stages: list[int | None] = [_stage_of(path) for path in paths]
    for place, (path, stage) in enumerate(zip(paths, stages, strict=True)):
        if place >= keep and (stage is None or stage in stages[:place]):
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _stage_of(path: Path) -> int | None:
    """Return the stage that a checkpoint says it was written in, or None where that cannot be read."""
    try:
        return int(json.loads((path / _META).read_text(encoding="utf-8"))["stage"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def at_step(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint that was written at this step.

    Raises:
        CheckpointError: there is none, or it is not whole.
    """
    known = {_step_of(path): path for path in listed(folder)}
    if step not in known:
        told = ", ".join(map(str, sorted(known))) or "none"
        raise CheckpointError(f"--step: expected the step of a checkpoint in {folder} ({told}), got {step}.")
    return read(known[step])


def read(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: a file is missing, damaged, a link, of a newer format, or holds something else than it should.
    """
    try:
        for name in (*_FILES, _META):
            # What a link leads to, or a pipe gives, is nothing that a writer of checkpoints left here.
            if not stat.S_ISREG((path / name).lstat().st_mode):
                raise CheckpointError(f"{path}: {name} is refused: expected a file, got a link or something else.")
        meta = json.loads((path / _META).read_text(encoding="utf-8"))
        if meta["format"] > FORMAT:
            raise CheckpointError(
                f"{path}: written by a newer ganengine (format {meta['format']}, this one reads {FORMAT}). Upgrade it."
            )
        stated = meta["sha256"]
        if not _is_whole(meta):
            raise CheckpointError(f"{path}: {_META} is damaged (its checksum differs from the one that it states).")
        _check_meta(path, meta)
        for name in _FILES:
            if sha256(path / name) != stated[name]:
                raise CheckpointError(f"{path}: {name} is damaged (its checksum differs from the one in {_META}).")
        networks = safetensors.torch.load_file(path / _FILES[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch wonders at in a file that it then refuses, or reads
            state = torch.load(path / _FILES[1], map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: {Path(str(error.filename)).name} is missing.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        what = " ".join(str(error).split())
        raise CheckpointError(f"{path}: it cannot be read ({what:.300}).") from error
    except (pickle.UnpicklingError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: refused, since it holds something else than tensors ({reason}).") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: refused, since state.pt holds a {type(state).__name__}; expected a dict.")
    return Checkpoint(path, meta, networks, state)


def _check_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Look at every fact that the engine acts on.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: one is missing or makes no sense.
    """
    for name, (low, high) in _NUMBERS.items():
        if type(meta[name]) is not int or not low <= meta[name] <= high:
            raise ValueError(f"{_META}: {name}: expected a whole number from {low} to {high}, got {meta[name]!r:.40}")
    if meta["step"] != _step_of(path):
        raise ValueError(f"{_META}: step: expected that of the folder's name, got {meta['step']}")
    for name, form in _WORDS.items():
        if not re.fullmatch(form, meta[name]):
            raise ValueError(f"{_META}: {name}: expected {form}, got {meta[name]!r:.40}")
    elapsed = float(meta["time"]["elapsed_s"])
    if not (math.isfinite(elapsed) and elapsed >= 0):
        raise ValueError(f"{_META}: time: expected seconds, got {elapsed}")
    meta["versions"].items()
    spec = DataSpec.from_dict(meta["data"])
    sizes = [n for field in spec.fields.values() for n in (*field.shape, field.num_classes or 1)]
    if not all(1 <= n <= _SIDE for n in sizes) or not 0 <= spec.count <= MOST:
        raise ValueError(f"{_META}: data: expected the form of a sample, got sizes from {min(sizes)} to {max(sizes)}")


def _is_whole(meta: dict[str, Any]) -> bool:
    """Take meta.json's own checksum out and return whether it is right; the first releases did not state it."""
    stated = meta.pop("own_sha256", None)
    if stated is not None:
        return bool(stated == _own_digest(meta))
    *before, (_, last) = meta.items()
    return bool(last != _own_digest(dict(before)))  # equal: a checksum whose name is damaged


def _own_digest(meta: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what meta.json says, however it is laid out."""
    return hashlib.sha256(json.dumps(meta).encode()).hexdigest()


def newest(folder: Path, run: str = "") -> tuple[Checkpoint, list[str]]:
    """Return the newest checkpoint that is whole, and why newer ones were passed over.

    Args:
        folder: the run's `checkpoints` folder.
        run: identity of the run (`RunFolder.identity`); a checkpoint that states another is passed over.

    Raises:
        CheckpointError: there is none.
    """
    faults: list[str] = []
    for path in listed(folder):
        try:
            found = read(path)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        if run and found.meta.get("run", run) != run:
            faults.append(f'{path}: it belongs to another run (of "{found.meta["variant"]}").')
            continue
        return found, faults
    if not faults:
        raise CheckpointError(
            f"{folder}: expected a checkpoint to go on from; there is none: the run ended before it wrote its first. "
            f"Remove {folder.parent} and start again."
        )
    raise CheckpointError(f"{folder}: expected a checkpoint to go on from; {'; '.join(faults)}")


def load_tensors(into: Mapping[str, Tensor], saved: Checkpoint) -> None:
    """Copy a checkpoint's tensors into existing ones, which keep their own strides.

    An empty buffer takes the saved shape: a pool of images has none before its first use.

    Raises:
        CheckpointError: names or shapes differ.
    """
    missing = sorted(set(into) - set(saved.networks))
    surplus = sorted(set(saved.networks) - set(into))
    shared = {name: tensor for name, tensor in into.items() if name in saved.networks}
    wrong = sorted(n for n, t in shared.items() if t.numel() and t.shape != saved.networks[n].shape)
    if missing or surplus or wrong:
        told = [f"{len(names)} {what} (such as {names[0]})" for what, names in
                (("missing", missing), ("unknown", surplus), ("of another shape", wrong)) if names]  # fmt: skip
        raise CheckpointError(f"{saved.path}: its tensors do not fit these networks: {', '.join(told)}.")
    with torch.no_grad():
        for name, tensor in into.items():
            value = saved.networks[name]
            if tensor.shape != value.shape:
                tensor.data = torch.empty_like(value, device=tensor.device)
            tensor.copy_(value)


def _canonical(value: Any) -> Any:
    """Rebuild containers and intern strings: pickle writes an object that it meets twice differently from two equal
    ones, and a resumed run must write the same bytes as an unbroken one."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Mapping):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    return value


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors of which no two share memory."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        storage = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if storage in seen or plain.storage_offset() else plain
        seen.add(storage)
    return result


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
