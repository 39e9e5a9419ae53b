"""The error that is reported, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ganengine.bench.equality import max_error

TRUTH = torch.tensor([1.0, -4.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("ours", "error"),
    [
        ([1.0, -4.0], 0.0),
        ([1.5, -4.0], 0.125),
        ([1.0, -3.0], 0.25),
        ([math.nan, -4.0], math.inf),
        ([1.0, math.inf], math.inf),
        ([1.0], math.inf),
    ],
)
def test_by_hand(ours: list[float], error: float) -> None:
    assert max_error([torch.tensor(ours)], [TRUTH]) == error


def test_the_worst_tensor_counts() -> None:
    assert max_error([torch.tensor([1.0, -4.0]), torch.tensor([2.0])], [TRUTH, torch.tensor([4.0])]) == 0.5


def test_nothing_may_be_left_out() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        max_error([TRUTH], [TRUTH, TRUTH])
