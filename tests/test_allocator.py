"""malloc keeps what is freed: a large tensor's memory stays in the process. In processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from ganengine.allocator import keep_freed_memory
from ganengine.errors import UserError

SIZE = 200 << 20
CODE = f"""
import ctypes
from ganengine.allocator import keep_freed_memory
told = keep_freed_memory()
import torch

class Info(ctypes.Structure):  # struct mallinfo2 of malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

look = ctypes.CDLL(None).mallinfo2
look.restype = Info
tensor = torch.ones({SIZE}, dtype=torch.uint8)
mapped = look().hblkhd
del tensor
print(told, int(mapped >= {SIZE}), int(look().fordblks >= {SIZE}), sep="|")
"""
THEIRS = ("MALLOC_", "GLIBC_TUNABLES", "GANENGINE_ALLOCATOR")
LIBC, VERSION = platform.libc_ver()
OLD = LIBC != "glibc" or tuple(int(n) for n in VERSION.split(".")[:2]) < (2, 33)

pytestmark = pytest.mark.skipif(OLD, reason="mallinfo2 is of glibc 2.33 and newer")


def looked_at(**environment: str) -> list[str]:
    """Return what was told, whether a large tensor was mapped by itself, and whether its memory stayed when freed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(THEIRS)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.strip().split("|")


def test_freed_memory_is_kept() -> None:
    assert looked_at() == ["freed memory is kept", "0", "1"]


def test_it_can_be_switched_off() -> None:
    told = "as the system has it (GANENGINE_ALLOCATOR=system)"
    assert looked_at(GANENGINE_ALLOCATOR="system") == [told, "1", "0"]


def test_set_to_nothing_is_not_set() -> None:
    assert looked_at(GANENGINE_ALLOCATOR="") == ["freed memory is kept", "0", "1"]


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANENGINE_ALLOCATOR", "sytem")
    keep_freed_memory.cache_clear()
    with pytest.raises(UserError, match=r"^GANENGINE_ALLOCATOR: expected auto or system, got 'sytem'"):
        keep_freed_memory()


def test_malloc_s_own_variables_go_first() -> None:
    assert looked_at(MALLOC_TRIM_THRESHOLD_="1000000")[0] == "as MALLOC_TRIM_THRESHOLD_ says"
