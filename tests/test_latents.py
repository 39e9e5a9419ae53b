"""Ways between latents and grids of them, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.latents import Way, between, class_grid, corners, one_hot


@pytest.mark.parametrize("way", ["linear", "spherical"])
def test_ends_are_met_exactly(way: Way) -> None:
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    path = between(a, b, torch.linspace(0, 1, 7), way)
    assert path.shape == (3, 7, 5)
    assert torch.equal(path[:, 0], a)
    assert torch.equal(path[:, -1], b)


def test_a_spherical_way_keeps_to_the_circle() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    (path,) = between(a, b, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]), "spherical")
    expected = [[2 * math.cos(t), 2 * math.sin(t)] for t in (0, math.pi / 6, math.pi / 3, math.pi / 2)]
    assert torch.allclose(path, torch.tensor(expected), atol=1e-6)
    (path,) = between(a, b, torch.tensor([0.5]), "linear")
    assert torch.equal(path, torch.tensor([[1.0, 1.0]]))


@settings(deadline=None)
@given(scale=st.floats(-3, 3).filter(lambda s: abs(s) > 0.1))
def test_parallel_latents_have_a_way(scale: float) -> None:
    a = torch.tensor([[1.0, -2.0, 0.5]])
    path = between(a, scale * a, torch.linspace(0, 1, 5), "spherical")
    assert torch.isfinite(path).all()


def test_a_class_grid_has_one_label_a_row_and_one_latent_a_column() -> None:
    z = torch.randn(3, 4)
    latents, weights = class_grid(z, 2)
    assert torch.equal(latents, torch.cat((z, z)))
    assert torch.equal(weights, torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3))


def test_no_class_is_a_row_of_zeros() -> None:
    assert torch.equal(one_hot(torch.tensor([1, -1]), 3), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


def test_corners_stand_in_the_corners() -> None:
    z = torch.randn(4, 6)
    square = corners(z, 5).reshape(5, 5, 6)
    found = torch.stack((square[0, 0], square[0, -1], square[-1, 0], square[-1, -1]))
    assert torch.equal(found, z)
