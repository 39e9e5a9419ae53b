"""The CUDA kernels under AddressSanitizer (bounds) and ThreadSanitizer (barriers), which both see planted faults."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from .build import CSRC, build, compiler

# One block is that many system threads.
FLAGS = ["-O0", "-DGANENGINE_EMULATOR_THREADS", "-DGANENGINE_THREADS=64", "-pthread"]
BARRIERS = [
    f"{path}:{number}"
    for path in sorted(CSRC.rglob("*.cuh"))
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if "__syncthreads()" in line
]


def program(sanitizer: str, folder: Path) -> Path:
    """Return tests/emulator/sanitize.cpp, compiled with a sanitizer; skip the test where the compiler has none."""
    with tempfile.TemporaryDirectory() as place:
        probe = Path(place) / "probe"
        command = [*compiler(), f"-fsanitize={sanitizer}", "-x", "c++", "-", "-o", str(probe)]
        if subprocess.run(command, input="int main() {}", capture_output=True, text=True).returncode:
            pytest.skip(f"{command[0]} has no {sanitizer} sanitizer")
        if subprocess.run([str(probe)], capture_output=True).returncode:
            pytest.skip(f"programs with the {sanitizer} sanitizer do not run on this machine")
    return build("sanitize.cpp", f"sanitize-{sanitizer}", folder, [*FLAGS, f"-fsanitize={sanitizer}"])


@pytest.fixture(scope="session")
def address(build_folder: Path) -> Path:
    """The program under AddressSanitizer."""
    return program("address", build_folder)


@pytest.fixture(scope="session")
def thread(build_folder: Path) -> Path:
    """The program under ThreadSanitizer."""
    return program("thread", build_folder)


def run(path: Path, *arguments: str) -> tuple[int, str]:
    """Return the program's exit status and all that it said."""
    options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(
        [str(path), *arguments], capture_output=True, text=True, timeout=300, env=os.environ | options
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_kernels_are_clean(sanitizer: str, request: pytest.FixtureRequest) -> None:
    status, said = run(request.getfixturevalue(sanitizer))
    assert status == 0, said
    assert int(said) > 100


@pytest.mark.parametrize("tensor", range(0, 103, 13))
def test_a_tensor_that_is_one_element_short_is_seen(address: Path, tensor: int) -> None:
    status, said = run(address, "--short", str(tensor))
    assert status != 0
    assert "heap-buffer-overflow" in said


def test_there_are_barriers() -> None:
    assert len(BARRIERS) >= 6


@pytest.mark.parametrize("barrier", BARRIERS, ids=lambda b: re.sub(r".*/csrc/", "", b))
def test_each_barrier_is_needed_and_missed(thread: Path, barrier: str) -> None:
    folder = Path(barrier).parent.name
    op = "conditional_batch_norm" if folder == "common" else folder
    status, said = run(thread, "--only", op, "--skip", barrier)
    assert status != 0
    assert "ThreadSanitizer: data race" in said
