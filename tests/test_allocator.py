"""malloc keeps what is freed: a second round of large tensors touches no new page. In processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from ganengine.allocator import keep_freed_memory
told = keep_freed_memory()
import torch
def round_():
    for n in (3 << 20, 40 << 20, 300 << 10):
        torch.ones(n, dtype=torch.uint8)
for _ in range(3):
    round_()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    round_()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, sep="|")
"""
THEIRS = ("MALLOC_", "GLIBC_TUNABLES", "GANENGINE_ALLOCATOR")


def faults(**environment: str) -> tuple[str, int]:
    """Return what was told, and the page faults of twenty rounds: 11,000 pages each where nothing is kept."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(THEIRS)}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    told, number = done.stdout.strip().split("|")
    return told, int(number)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_freed_memory_is_kept() -> None:
    told, number = faults()
    assert told == "freed memory is kept"
    assert number < 2000
    told, number = faults(GANENGINE_ALLOCATOR="system")
    assert told == "as the system has it (GANENGINE_ALLOCATOR=system)"
    assert number > 20 * 10_000


def test_malloc_s_own_variables_go_first() -> None:
    assert faults(MALLOC_TRIM_THRESHOLD_="1000000")[0] in ("as MALLOC_TRIM_THRESHOLD_ says",)
