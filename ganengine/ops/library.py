"""The compiled kernels: one shared object beside the package, found and loaded once, never made at run time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Library:
    """What became of the attempt to load the kernels."""

    path: Path | None
    """The shared object, where one was found."""
    reason: str | None
    """Why there are no kernels; None when they are loaded."""


@functools.cache
def load() -> Library:
    """Load `ganengine/_C*.so` at the first call; every call returns the same answer, a failure included."""
    path = find(FOLDER)
    if path is None:
        return Library(
            None,
            f"no compiled kernels (_C*.so) in {FOLDER}: install with a C++ compiler, and with GANENGINE_BUILD=require "
            "to see why they were not built",
        )
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        return Library(path, f"{path.name} cannot be loaded beside torch {torch.__version__} ({error})")
    return Library(path, None)


def find(folder: Path) -> Path | None:
    """Return the shared object in `folder` that this Python can load, or None."""
    candidates = (folder / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)
