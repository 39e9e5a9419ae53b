"""Random numbers as a pure function of what they are drawn for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganengine.draws import generator, key

parts = st.lists(st.one_of(st.text(max_size=8), st.integers(-(2**70), 2**70)), max_size=4)


@given(seed=st.integers(), what=parts)
def test_a_key_is_a_63_bit_number_that_repeats(seed: int, what: list[str | int]) -> None:
    assert 0 <= key(seed, *what) < 2**63
    assert key(seed, *what) == key(seed, *what)


@given(seed=st.integers(-5, 5), other=st.integers(-5, 5), a=parts, b=parts)
def test_different_purposes_have_different_keys(seed: int, other: int, a: list[str | int], b: list[str | int]) -> None:
    # Text that holds the very marks that separate parts is left out: names of draws are words.
    plain = all("\x00" not in part for part in (*a, *b) if isinstance(part, str))
    if plain and (seed, a) != (other, b):
        assert key(seed, *a) != key(other, *b)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), ("1",)), (("ab", "c"), ("a", "bc")), (("a",), ("a", "")), ((12, 3), (1, 23)), (("a", "b"), ("b", "a"))],
)
def test_parts_do_not_run_together(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert key(0, *one) != key(0, *other)


def test_a_key_is_blake2b_of_seed_and_marked_parts() -> None:
    digest = hashlib.blake2b(b"7\x00sstep\x00i12", digest_size=8).digest()
    assert key(7, "step", 12) == int.from_bytes(digest, "big") // 2


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = "from ganengine.draws import key; print(key(3, 'noise', 1))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{key(3, 'noise', 1)}\n"


def test_generators_repeat_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    a, b, c = generator(1, "x"), generator(1, "x"), generator(1, "y")
    first = torch.randn(4, generator=a)
    assert torch.equal(first, torch.randn(4, generator=b))
    assert not torch.equal(first, torch.randn(4, generator=c))
    assert torch.equal(torch.get_rng_state(), before)
