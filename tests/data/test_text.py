"""Captions as codes: the alphabet, by a table and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ganengine.data.text import CODES, LONGEST, OTHER, decode, encode, encode_all, length_for, plain


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (" a", [66]),
        ("A b", [66, 1, 67]),
        ("~!", [95, 2]),
        ("3,\t\n x", [20, 13, 1, 89]),
        ("\u00c9t\u00e9", [70, 85, 70]),  # accents are taken off
        ("\u4e2da", [OTHER, 66]),
        ("", []),
    ],
)
def test_codes(text, codes):
    assert encode(text, 6).tolist() == codes + [0] * (6 - len(codes))


def test_what_is_longer_is_cut():
    assert decode(encode("a red three", 5)) == "a red"


@given(st.text(max_size=40), st.integers(1, 48))
@example("\U0001d790 \U0001d400", 9)  # capitals in bold
@settings(deadline=None)
def test_any_text_is_coded_and_plain_ascii_comes_back(text, length):
    codes = encode(text, length)
    assert (codes.shape, codes.dtype) == ((length,), np.int64)
    assert ((codes >= 0) & (codes < CODES)).all()
    told = codes[codes > 0]
    assert np.array_equal(codes[: len(told)], told)  # padding stands last
    shown = plain(text)
    assert decode(codes) == "".join(c if " " <= c <= "~" else "?" for c in shown[:length])
    assert plain(shown) == shown


def test_rows_of_a_picture():
    rows = encode_all(["ab", "c"], 3, 4)
    assert rows.tolist() == [[66, 67, 0, 0], [68, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("longest", "length"), [(0, 16), (1, 16), (16, 16), (17, 32), (LONGEST, LONGEST), (999, LONGEST)]
)
def test_lengths(longest, length):
    assert length_for(longest) == length
