"""Peaks of calls whose allocations can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ganengine.bench.memory import peak_bytes

X = torch.ones(1000)
CALLS: dict[str, tuple[Callable[[], object], int]] = {
    "nothing": (lambda: X, 0),
    "a result": (lambda: X * 2, 4000),
    "a result and what it was made of": (lambda: (X * 2) + 1, 8000),
    "one after the other": (lambda: [float((X * 2)[0]) for _ in range(3)], 4000),
    "kept": (lambda: [X * 2 for _ in range(3)], 12000),
}


@pytest.mark.parametrize("name", CALLS)
def test_by_hand(name: str) -> None:
    call, expected = CALLS[name]
    call()
    assert expected <= peak_bytes(call, torch.device("cpu")) <= expected + 64  # numbers on the way take a few bytes


def test_what_a_graph_keeps_counts() -> None:
    x = X.clone().requires_grad_()

    def chain() -> Tensor:
        return (x.exp() * x.sin()).sum()  # both factors are kept for backward, the product is not

    assert 12000 <= peak_bytes(chain, torch.device("cpu")) <= 12064
