"""Stateless random numbers: every draw is a pure function of a seed and of what it is drawn for.

Nothing has to be saved to go on exactly, and several ranks see the numbers that one would see. PyTorch's global
generator plays no part.
"""

from __future__ import annotations

import hashlib

import torch


def key(seed: int, *parts: str | int) -> int:
    """Return a 63-bit key that depends on the seed and on each part (blake2b, the same in every process).

    Args:
        seed: any int.
        parts: what the numbers are for: a step, a repeat, a name. `1` and `"1"` are different parts.
    """
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for part in parts:
        mark = b"\x00i" if isinstance(part, int) else b"\x00s"
        digest.update(mark + str(part).encode())
    return int.from_bytes(digest.digest(), "big") >> 1


def generator(seed: int, *parts: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh torch generator seeded with `key(seed, *parts)`."""
    fresh = torch.Generator(device=device)
    fresh.manual_seed(key(seed, *parts))
    return fresh
