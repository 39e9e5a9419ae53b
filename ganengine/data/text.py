"""Captions as numbers: character codes over one fixed alphabet, so that no checkpoint needs a vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

CODES = 97
"""0 is padding; 1 to 95 are the printable characters of ASCII from the space on; 96 is any other character."""
OTHER = 96
LONGEST = 192
"""Characters of a caption that are kept at most."""
STEP = 16
"""Rows of codes are a multiple of this long."""


def plain(text: str) -> str:
    """Return a caption as it is coded: lower case, accents taken off, runs of white space as single spaces."""
    letters = text
    for _ in range(2):  # a letter in bold has a small form only once it is a plain one
        letters = unicodedata.normalize("NFKD", letters.casefold())
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


def encode(text: str, length: int) -> np.ndarray:
    """Return the codes of a caption, padded with 0 or cut: [length], int64.

    code(c) = ord(c) - 31 for printable ASCII, 96 for any other character
    """
    codes = [ord(c) - 31 if " " <= c <= "~" else OTHER for c in plain(text)[:length]]
    return np.array(codes + [0] * (length - len(codes)), np.int64)


def decode(codes: Sequence[int] | np.ndarray) -> str:
    """Return the text of a row of codes; other characters are question marks."""
    return "".join("?" if code == OTHER else chr(int(code) + 31) for code in codes if code)


def encode_all(captions: Sequence[str], count: int, length: int) -> np.ndarray:
    """Return the codes of a picture's captions, rows of zeros where there are fewer: [count, length], int64."""
    rows = np.zeros((count, length), np.int64)
    for row, caption in zip(rows, captions, strict=False):
        row[:] = encode(caption, length)
    return rows


def length_for(longest: int) -> int:
    """Return how long rows of codes are where the longest caption has so many characters."""
    return min(LONGEST, max(1, -(-longest // STEP)) * STEP)
