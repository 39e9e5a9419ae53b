"""The build backend: that of setuptools, which also asks for torch where the build needs its headers and finds none.

An isolated build sees none of the packages of the environment it builds for, but knows where they are; a torch there
serves, as the stable ABI makes the object independent of the torch whose headers it was built with.
"""

from __future__ import annotations

import os
import re
import shutil
import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks that stay as they are

OLDEST = (2, 13)
"""The torch whose stable ABI the sources are written for."""


@dataclass(frozen=True)
class Torch:
    """An installed torch, as far as a compiler is concerned."""

    include: Path
    version: str


def find_torch() -> Torch | None:
    """Return a torch whose headers serve: that of the target environment, else that of the build's own, else None."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    found = (_torch_in(Path(folder)) for folder in folders if folder)
    return next((torch for torch in found if torch is not None), None)


def find_compiler() -> str | None:
    """Return the C++ compiler: `CXX` where it is set, else g++, else clang++."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    """Return what building a wheel needs beside the static requirements."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_torch_requirement()]


def get_requires_for_build_editable(config_settings: object = None) -> list[str]:
    """Return what an editable install needs beside the static requirements."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_torch_requirement()]


def _torch_requirement() -> list[str]:
    idle = os.environ.get("GANENGINE_BUILD") == "off" or find_compiler() is None  # nothing will be compiled
    return [] if idle or find_torch() else ["torch>=" + ".".join(map(str, OLDEST))]


def _torch_in(folder: Path) -> Torch | None:
    include, version = folder / "torch" / "include", folder / "torch" / "version.py"
    if not (include / "torch" / "csrc" / "stable" / "library.h").is_file() or not version.is_file():
        return None
    text = version.read_text()
    stated = re.search(r"^__version__ = ['\"](.+?)['\"]", text, re.MULTILINE)
    numbers = re.match(r"(\d+)\.(\d+)", stated[1]) if stated else None
    if stated is None or numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
        return None
    return Torch(include, stated[1])
