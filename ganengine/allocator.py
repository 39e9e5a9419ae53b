"""Keep freed memory in the process, so that a steady step finds its pages mapped already.

The C library's malloc gives a large block back to the system when it is freed, and takes it anew for the next tensor;
the system then clears each page of it at the first touch. A training step asks for the same sizes again and again, so
that work is for nothing: keeping the pages made pix2pix at batch 1 a fifth faster, with the same peak memory.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

from ganengine.errors import UserError

SWITCH = "GANENGINE_ALLOCATOR"

# Numbers of parameters in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_STRIDE = 64 << 20
"""Bytes that the heap grows by at least."""


@cache
def keep_freed_memory() -> str:
    """Tell malloc to keep what is freed; return what became of it, for the log.

    `GANENGINE_ALLOCATOR=system` leaves malloc alone, and so do malloc's own variables (MALLOC_..., GLIBC_TUNABLES).

    Raises:
        UserError: that variable holds something else than `auto` or `system`.
    """
    stated = os.environ.get(SWITCH) or "auto"
    if stated not in ("auto", "system"):
        raise UserError(f"{SWITCH}: expected auto or system, got {stated!r}.")
    if stated == "system":
        return f"as the system has it ({SWITCH}=system)"
    theirs = next((name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"), None)
    if theirs:
        return f"as {theirs} says"
    if platform.libc_ver()[0] != "glibc":
        return "as the system has it (no glibc)"
    mallopt = ctypes.CDLL(None).mallopt
    kept = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER), mallopt(_M_TOP_PAD, _STRIDE)]
    return "freed memory is kept" if all(kept) else "as the system has it (malloc refused)"
