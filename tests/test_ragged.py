"""Rows of many samples in one tensor, against loops over the samples."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine import ragged

COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=6)


def make(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    starts = ragged.starts_of(torch.tensor(counts))
    source = torch.Generator().manual_seed(sum(counts))
    return starts, torch.randn(sum(counts), 3, generator=source, dtype=torch.float64)


def test_by_hand() -> None:
    starts = torch.tensor([0, 2, 2, 3])
    values = torch.tensor([[1.0], [4.0], [7.0]])
    assert ragged.starts_of(torch.tensor([2, 0, 1])).tolist() == starts.tolist()
    assert ragged.owners(starts, 3).tolist() == [0, 0, 2]
    assert ragged.sums(values, starts).flatten().tolist() == [5, 0, 7]
    assert ragged.means(values, starts).flatten().tolist() == [2.5, 0, 7]
    assert ragged.maxima(values, starts).flatten().tolist() == [4, -torch.inf, 7]
    first, second, begins = ragged.pairs(starts, 3)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)]
    assert begins.tolist() == [0, 2, 4, 5]


@settings(deadline=None, max_examples=60)
@given(counts=COUNTS)
def test_like_loops(counts: list[int]) -> None:
    starts, values = make(counts)
    parts = values.split(counts)
    torch.testing.assert_close(ragged.sums(values, starts), torch.stack([part.sum(0) for part in parts]))
    expected = torch.stack([part.mean(0) if len(part) else torch.zeros(3).double() for part in parts])
    torch.testing.assert_close(ragged.means(values, starts), expected)
    for found, part in zip(ragged.maxima(values, starts), parts, strict=True):
        assert torch.equal(found, part.amax(0) if len(part) else torch.full((3,), -torch.inf).double())
    owner = ragged.owners(starts, len(values)).tolist()
    assert owner == [number for number, count in enumerate(counts) for _ in range(count)]
    first, second, begins = ragged.pairs(starts, len(values))
    rows = range(len(values))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [
        (i, j) for i in rows for j in rows if owner[i] == owner[j]
    ]
    assert begins.tolist() == [sum(owner[k] == owner[j] for k in range(i) for j in rows) for i in range(len(rows) + 1)]


def test_gradients() -> None:
    starts, values = make([2, 1, 3])
    values.requires_grad_()
    for fn in (ragged.sums, ragged.means, ragged.maxima):
        assert torch.autograd.gradcheck(lambda v, fn=fn: fn(v, starts), (values,))
