"""The compiled kernels: one shared object beside the package, found and loaded once, never made at run time."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Build:
    """What setup.py says of its work in `ganengine/_build.json`."""

    reason: str | None
    """Why nothing was built; None where it was."""
    compiler: str | None
    torch: str | None
    """Version of the torch whose headers were used."""
    cuda_reason: str | None
    """Why the object has no CUDA kernels; None where it has them."""
    cuda_architectures: tuple[str, ...]


@dataclass(frozen=True)
class Library:
    """What became of the attempt to load the kernels."""

    path: Path | None
    """The shared object, where one was found."""
    reason: str | None
    """Why there are no kernels; None when they are loaded."""
    build: Build | None = None
    """How it was built, where a record of that was found."""


@functools.cache
def load() -> Library:
    """Load `ganengine/_C*.so` at the first call; every call returns the same answer, a failure included."""
    path, build = find(FOLDER), read_record(FOLDER)
    if path is None:
        if build is not None and build.reason is not None:
            return Library(None, f"the kernels were not built: {build.reason}", build)
        return Library(
            None,
            f"no compiled kernels (_C*.so) in {FOLDER}: install with a C++ compiler, and with GANENGINE_BUILD=require "
            "to see why they were not built",
            build,
        )
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        return Library(path, f"{path.name} cannot be loaded beside torch {torch.__version__} ({error})", build)
    return Library(path, None, build)


def find(folder: Path) -> Path | None:
    """Return the shared object in `folder` that this Python can load, or None."""
    candidates = (folder / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_record(folder: Path) -> Build | None:
    """Return what the build in `folder` recorded, or None where there is no record that can be read."""
    try:
        record: dict[str, Any] = json.loads((folder / "_build.json").read_text())
        cuda = record.get("cuda", {})
        return Build(
            record["reason"],
            record.get("compiler"),
            record.get("torch"),
            cuda.get("reason"),
            tuple(cuda.get("architectures", ())),
        )
    except (OSError, ValueError, KeyError, AttributeError):
        return None
