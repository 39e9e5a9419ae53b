from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.errors import UserError
from ganengine.ops.counter import keep_mask, normal, signed64, uniform, uniform_bits

M = 2**64 - 1
SEEDS = st.integers(min_value=-(2**64), max_value=2**65)
OFFSETS = st.one_of(st.integers(0, 5), st.integers(min_value=0, max_value=2**64 - 1))


def splitmix64(state: int) -> tuple[int, int]:
    """The algorithm as published, in Python's integers: (next state, output)."""
    state = (state + 0x9E3779B97F4A7C15) & M
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M
    return state, z ^ (z >> 31)


def element(seed: int, e: int) -> int:
    """Element e of the stream by its definition."""
    _, word = splitmix64(seed + (e >> 1) * 0x9E3779B97F4A7C15)
    return word >> 32 if e & 1 else word & 0xFFFFFFFF


def test_known_answers_of_seed_zero() -> None:
    halves = uniform_bits(0, 0, 6).tolist()
    words = [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]
    assert words == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_known_answers_of_the_published_seed() -> None:
    # The first three outputs of seed 1234567, as listed at rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64.
    halves = uniform_bits(1234567, 0, 6).tolist()
    words = [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(deadline=None, max_examples=60)
@given(SEEDS, OFFSETS, st.integers(0, 9))
def test_elements_follow_their_definition(seed: int, offset: int, numel: int) -> None:
    bits = uniform_bits(seed, offset, numel)
    assert bits.dtype == torch.int64
    assert bits.tolist() == [element(seed & M, offset + i) for i in range(numel)]


@settings(deadline=None, max_examples=60)
@given(SEEDS, OFFSETS, st.integers(1, 7), st.integers(1, 5), st.data())
def test_rows_of_a_mask_are_the_mask_of_those_rows(
    seed: int, offset: int, rows: int, width: int, data: st.DataObject
) -> None:
    offset = min(offset, M - rows * width)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first, rows))
    whole = keep_mask(seed, offset, (rows, width), 0.4)
    assert torch.equal(keep_mask(seed, offset + first * width, (last - first, width), 0.4), whole[first:last])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_dropped_elements(p: float) -> None:
    n = 2**18
    dropped = n - int(keep_mask(5, 0, (n,), p).sum())
    assert abs(dropped - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_mask_is_the_comparison_with_the_bits() -> None:
    p = 0.3
    assert torch.equal(keep_mask(3, 7, (1000,), p), uniform_bits(3, 7, 1000) >= int(p * 2**32))
    assert keep_mask(3, 7, (1000,), 0.0).all()


def test_bits_are_uniform_and_uncorrelated() -> None:
    n = 2**18
    first, second = uniform_bits(1, 0, n), uniform_bits(2, 0, n)
    counts = torch.bincount(first >> 24, minlength=256).double()
    chi2 = float(((counts - n / 256) ** 2 / (n / 256)).sum())
    assert 255 - 6 * math.sqrt(510) < chi2 < 255 + 6 * math.sqrt(510)
    for a, b in ((first, second), (first[:-1], first[1:])):
        assert abs(float(torch.corrcoef(torch.stack((a, b)).double())[0, 1])) < 6 / math.sqrt(n)
    for bit in range(32):
        assert abs(int((first >> bit & 1).sum()) - n / 2) < 6 * math.sqrt(n) / 2


@given(st.integers(min_value=-(2**70), max_value=2**70))
def test_signed64_keeps_the_low_64_bits(number: int) -> None:
    assert -(2**63) <= signed64(number) < 2**63
    # Counts outside [-2^63, 2^64) keep their low 64 bits as well.
    assert signed64(number) & M == number & M


def test_empty_mask() -> None:
    assert keep_mask(0, 3, (0, 4), 0.5).shape == (0, 4)


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_probability_out_of_range(p: float) -> None:
    with pytest.raises(UserError, match=r"expected a dropout probability p in \[0, 1\)"):
        keep_mask(0, 0, (2,), p)


@settings(deadline=None)
@given(SEEDS, OFFSETS)
def test_uniform_and_normal_numbers_are_those_of_the_high_24_bits(seed: int, offset: int) -> None:
    bits = [element(seed & M, offset + i) >> 8 for i in range(4)]
    assert uniform(seed, offset, (2, 2)).flatten().tolist() == [b / 2**24 for b in bits]
    expected = [NormalDist().inv_cdf((b + 0.5) / 2**24) for b in bits]
    assert normal(seed, offset, (2, 2)).flatten().tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_normal_numbers_are_normal() -> None:
    x = normal(3, 0, (1_000_000,)).double()
    assert bool(torch.isfinite(x).all())
    moments = [float((x**k).mean()) for k in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.02)
    below = [float((x < t).double().mean()) for t in (-2.0, -1.0, 0.5, 1.5)]
    assert below == pytest.approx([NormalDist().cdf(t) for t in (-2.0, -1.0, 0.5, 1.5)], abs=0.002)


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("offset", [0, 3])
def test_a_traced_mask_has_the_same_bits_in_any_size(offset: int) -> None:
    def mask(x: torch.Tensor) -> torch.Tensor:
        return keep_mask(11, offset, x.shape, 0.3)

    traced = torch.jit.trace(mask, torch.zeros(3, 5))
    program = torch.export.export(_Called(mask), (torch.zeros(3, 5),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    for x in (torch.zeros(3, 5), torch.zeros(8, 5)):
        assert torch.equal(traced(x), mask(x))
        assert torch.equal(program.module()(x), mask(x))


class _Called(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)
