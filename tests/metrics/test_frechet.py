"""The Frechet distance, against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.errors import UserError
from ganengine.metrics.frechet import Gaussian, fit_gaussian, frechet_distance


def gaussian(mean: list[float], covariance: list[list[float]]) -> Gaussian:
    return Gaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64))


EYE = [[1.0, 0.0], [0.0, 1.0]]
CASES = [
    # one dimension: (m1 - m2)^2 + (s1 - s2)^2
    (gaussian([1.0], [[4.0]]), gaussian([-2.0], [[9.0]]), 9.0 + 1.0),
    (gaussian([0.0], [[0.0]]), gaussian([0.0], [[2.0]]), 2.0),
    # equal covariances: the distance of the means alone
    (gaussian([0.0, 0.0], EYE), gaussian([3.0, 4.0], EYE), 25.0),
    # diagonal: the sum over axes
    (gaussian([0.0, 0.0], [[4.0, 0.0], [0.0, 1.0]]), gaussian([0.0, 1.0], [[1.0, 0.0], [0.0, 9.0]]), 1.0 + 1.0 + 4.0),
    # not commuting: A = [[1, 0], [0, 4]], B = [[2, 1], [1, 2]]; tr (A^1/2 B A^1/2)^1/2 = sqrt(tr AB + 2 sqrt(det AB))
    (
        gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 4.0]]),
        gaussian([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]]),
        5.0 + 4.0 - 2.0 * math.sqrt(10.0 + 2.0 * math.sqrt(12.0)),
    ),
    # singular: both on the same line
    (
        gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]),
        gaussian([0.0, 0.0], [[4.0, 4.0], [4.0, 4.0]]),
        2.0 + 8.0 - 2.0 * 4.0,
    ),
]


@pytest.mark.parametrize(("a", "b", "expected"), CASES)
def test_by_hand(a: Gaussian, b: Gaussian, expected: float) -> None:
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), axes=st.integers(1, 8), shift=st.floats(-5, 5))
def test_zero_of_equals_and_the_square_of_a_shift(seed: int, axes: int, shift: float) -> None:
    features = torch.randn(50, axes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    here, there = fit_gaussian(features), fit_gaussian(features + shift)
    assert frechet_distance(here, here) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(here, there) == pytest.approx(axes * shift**2, abs=1e-6)


def test_the_fit_is_mean_and_unbiased_covariance() -> None:
    fitted = fit_gaussian(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 6.0]]))
    assert fitted.mean.tolist() == [2.0, 2.0]
    assert fitted.covariance.tolist() == [[4.0, 6.0], [6.0, 12.0]]
    assert fitted.covariance.dtype == torch.float64
    assert fit_gaussian(torch.tensor([[1.0], [3.0]])).covariance.tolist() == [[2.0]]


@pytest.mark.parametrize("features", [torch.zeros(1, 3), torch.zeros(3), torch.tensor([[1.0], [math.nan]])])
def test_what_cannot_be_fitted(features: torch.Tensor) -> None:
    with pytest.raises(UserError, match="features: expected"):
        fit_gaussian(features)
