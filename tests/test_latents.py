"""Ways between latents and grids of them, against their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.errors import PluginError
from ganengine.latents import (
    Way,
    between,
    class_grid,
    corners,
    from_prior,
    number_grid,
    one_hot,
    over_captions,
    scaled,
    value_grid,
)
from ganengine.variant import Part, Prior


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


# -- latents of named parts ----------------------------------------------------------------------------------------

PARTS = Prior.of(Part("noise", 3, "uniform"), Part("category", 4, "categorical"), Part("style", 2))


def drawn(count: int, seed: int = 0) -> Tensor:
    return from_prior(PARTS, count, torch.Generator().manual_seed(seed))


def test_each_part_is_drawn_as_it_says() -> None:
    z = drawn(4000)
    parts = PARTS.split(z)
    assert {name: part.shape[1] for name, part in parts.items()} == {"noise": 3, "category": 4, "style": 2}
    assert torch.equal(torch.cat(list(parts.values()), 1), z)
    assert (parts["noise"].min() < -0.99, parts["noise"].abs().max() <= 1) == (True, True)
    assert abs(parts["style"].std() - 1) < 0.05
    assert torch.equal(parts["category"].sum(1), torch.ones(4000))
    assert sorted(parts["category"].unique().tolist()) == [0, 1]
    assert (parts["category"].mean(0) - 0.25).abs().max() < 0.04  # six standard deviations


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_prior_of_one_piece_is_drawn_as_ever(kind: Any) -> None:
    z = from_prior(Prior((2, 3), kind), 5, torch.Generator().manual_seed(4))
    source = torch.Generator().manual_seed(4)
    plain = torch.randn((5, 2, 3), generator=source)
    if kind == "uniform":
        plain = torch.rand((5, 2, 3), generator=torch.Generator().manual_seed(4)) * 2 - 1
    assert torch.equal(z, plain)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prior.of(Part("a", 2), Part("a", 1)),
        lambda: Prior.of(Part("a", 2), Part("b", 0)),
        lambda: Prior((4,), parts=(Part("a", 2), Part("b", 1))),
        lambda: Prior((1, 3), parts=(Part("a", 3),)),
    ],
)
def test_parts_that_make_no_latent_are_refused(make: Any) -> None:
    with pytest.raises(PluginError, match=r"expected parts with names of their own that fill the shape .*, got a of"):
        make()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), share=st.floats(0, 1), way=st.sampled_from(["linear", "spherical"]))
def test_a_category_is_never_mixed(seed: int, share: float, way: Way) -> None:
    start, stop = drawn(3, seed), drawn(3, seed + 1)
    path = between(start, stop, torch.tensor([0.0, share, 1.0]), way, PARTS)
    assert torch.equal(path[:, 0], start)
    assert torch.equal(path[:, 2], stop)
    place = PARTS.span("category")
    assert torch.equal(path[:, 1, place], (start if share < 0.5 else stop)[:, place])
    noise = PARTS.span("noise")
    alone = between(start[:, noise], stop[:, noise], torch.tensor([share]), way)
    assert torch.equal(path[:, 1:2, noise], alone)  # each part goes its own way
    square = corners(drawn(4, seed), 3, way, PARTS)[:, place]
    assert torch.equal(square.max(1).values, torch.ones(9))
    assert torch.equal(square.sum(1), torch.ones(9))


def test_truncation_leaves_categories_alone() -> None:
    z = drawn(5)
    made, before = PARTS.split(scaled(z, PARTS, 0.5)), PARTS.split(z)
    assert torch.equal(made["category"], before["category"])
    assert torch.equal(made["noise"], 0.5 * before["noise"])
    assert torch.equal(scaled(z, Prior((9,)), 0.5), 0.5 * z)


def test_a_value_grid_has_one_value_a_row_and_one_latent_a_column() -> None:
    z = drawn(2)
    grid = value_grid(z, PARTS, "category").reshape(4, 2, -1)
    for row in range(4):
        parts = PARTS.split(grid[row])
        assert parts["category"].argmax(1).tolist() == [row, row]
        assert torch.equal(parts["noise"], PARTS.split(z)["noise"])
        assert torch.equal(parts["style"], PARTS.split(z)["style"])


def test_a_number_grid_moves_one_number_alone() -> None:
    z = drawn(2)
    grid = number_grid(z, 8, torch.tensor([-2.0, 0.0, 2.0])).reshape(2, 3, -1)
    assert grid[:, :, 8].tolist() == [[-2, 0, 2]] * 2
    assert torch.equal(grid[:, 1, :8], z[:, :8])
    assert torch.equal(grid[:, 0, :8], grid[:, 2, :8])


def test_rows_of_captions_have_the_same_latents() -> None:
    z, ids = torch.randn(3, 2), torch.tensor([[1, 2, 0], [3, 0, 0]])
    latents, codes = over_captions(z, ids)
    assert torch.equal(latents, torch.cat((z, z)))
    assert codes.tolist() == [[1, 2, 0]] * 3 + [[3, 0, 0]] * 3
