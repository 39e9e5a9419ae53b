"""Compile the emulator's module and programs, once for each state of the sources."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off"]


def compiler() -> list[str]:
    """Return the C++ compiler's command; skip the test where there is none."""
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        pytest.skip("no C++ compiler: the CUDA kernels are not run in the emulator")
    return shlex.split(found)


def build(source: str, output: str, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compile tests/emulator/`source` into folder/`output`, or take what an earlier call made of the same sources."""
    command = [*compiler(), *FLAGS, *flags, f"-I{CSRC}", f"-I{HERE}", "-isystem", str(torch_headers())]
    state = hashlib.blake2b(repr(command).encode(), digest_size=8)
    for path in (*sorted(HERE.iterdir()), *sorted(CSRC.rglob("*.h")), *sorted(CSRC.rglob("*.cuh"))):
        if path.suffix in (".h", ".cuh", ".cpp"):
            state.update(path.name.encode() + path.read_bytes())
    made = folder / state.hexdigest() / output
    with open(folder / f"{output}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side: one process compiles, the others wait for it
        if not made.exists():
            for old in folder.glob(f"*/{output}"):
                old.unlink()
            made.parent.mkdir(exist_ok=True)
            fresh = made.with_name(f"{output}.new")
            done = subprocess.run([*command, str(HERE / source), "-o", str(fresh)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            fresh.replace(made)  # in one step: it is there whole or not at all
    return made


def torch_headers() -> Path:
    """Return the folder of torch's headers, of which the emulator takes the 16-bit floats."""
    return Path(torch.__file__).resolve().parent / "include"


def load_module(folder: Path) -> ModuleType:
    """Return the module that runs the kernels."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed: pip install 'ganengine[test]'")
    python = Path(sysconfig.get_paths()["include"])
    if not (python / "Python.h").is_file():
        pytest.skip(f"no Python headers in {python}: the CUDA kernels are not run in the emulator")
    includes = [flag for path in (pybind11.get_include(), python) for flag in ("-isystem", str(path))]
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    made = build("module.cpp", f"ganengine_emulator{suffix}", folder, ["-fPIC", "-shared", *includes])
    spec = importlib.util.spec_from_file_location("ganengine_emulator", made)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
