"""Networks: sizes by hand, and that neither place, nor order of people or scenes, nor the others' scenes matter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ganengine.errors import UserError
from ganengine.ragged import starts_of
from ganengine.variant import DataSpec, FieldSpec, Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine_social_gan.config import SocialGANConfig
from ganengine_social_gan.networks import build

STAGE = Stage(())
CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}


def spec(observe: int = 8, predict: int = 12, scale: float = 0.5) -> DataSpec:
    lengths = {"observed": observe, "future": predict}
    return DataSpec({n: FieldSpec("points", (steps, 2), ragged=True, scale=scale) for n, steps in lengths.items()}, 9)


def built(seed: int = 0, **options: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    networks = build(SocialGANConfig(**options), spec(), STAGE)
    return networks["G"].double(), networks["D"].double()


def scenes(counts: list[int], k: int = 2, noise: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(sum(counts))
    walked = torch.randn(sum(counts), 8, 2, generator=source, dtype=torch.float64).cumsum(1)
    return walked, starts_of(torch.tensor(counts)), torch.randn(len(counts), k, noise, generator=source).double()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def lstm(inputs: int, hidden: int) -> int:
    return 4 * hidden * (inputs + hidden + 2)


# -- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "pool", "expected"),
    [
        ({}, linear(2, 16) + linear(16 + 32, 64) + linear(64, 24), (30_258, 15_921)),
        ({"pooling": "none"}, 0, (23_978, 15_921)),
    ],
)
def test_default_networks_have_the_number_of_parameters_worked_out_by_hand(
    options: dict[str, Any], pool: int, expected: tuple[int, int]
) -> None:
    G, D = built(**options)
    context = 32 + (24 if pool else 0)
    by_hand = linear(2, 16) + lstm(16, 32) + pool + linear(context, 64) + linear(64, 40)
    by_hand += linear(2, 16) + lstm(16, 48) + linear(48, 2)
    assert parameters(G) == by_hand == expected[0]
    assert parameters(D) == linear(2, 16) + lstm(16, 48) + linear(48, 64) + linear(64, 1) == expected[1]


def test_papers_networks_have_the_number_of_parameters_worked_out_by_hand() -> None:
    G, D = built(g_encoder=16, g_decoder=32, d_encoder=48, pool_hidden=512, bottleneck=8, residual=False)
    pool = linear(2, 16) + linear(16 + 16, 512) + linear(512, 8)
    walk = linear(2, 16) + lstm(16, 16) + linear(24, 64) + linear(64, 24) + linear(2, 16) + lstm(16, 32) + linear(32, 2)
    assert parameters(G) == pool + walk == 32_946
    assert parameters(D) == 15_921


@pytest.mark.parametrize("pooling", ["people", "none"])
def test_shapes(pooling: str) -> None:
    G, D = built(pooling=pooling)
    observed, starts, z = scenes([2, 1, 4], k=3)
    futures = G(observed, starts, z)
    assert futures.shape == (7, 3, 12, 2)
    logits = D(torch.cat((observed, futures[:, 0]), 1))
    assert logits.shape == (7,)
    assert logits.std() > 0


def test_without_learning_it_nearly_walks_straight_on() -> None:
    G, _ = built()
    observed = torch.arange(8.0).double()[None, :, None] * torch.tensor([0.5, 0.1]).double()
    future = G(observed, torch.tensor([0, 1]), torch.zeros(1, 1, 8).double())
    ahead = observed[:, -1:] + torch.arange(1.0, 13)[None, :, None] * torch.tensor([0.5, 0.1])
    assert (future[:, 0] - ahead).norm(dim=-1).mean() < 0.2 * ahead.norm(dim=-1).mean()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"observed": FieldSpec("image", (1, 8, 8)), "future": FieldSpec("image", (1, 8, 8))},
            "expected ragged points",
        ),
        ({n: FieldSpec("points", (4, 3), ragged=True) for n in ("observed", "future")}, "expected ragged points"),
        (
            {n: FieldSpec("points", (1, 2), ragged=True) for n in ("observed", "future")},
            "at least 2 observed steps, got 1",
        ),
    ],
)
def test_other_data_is_refused(fields: dict[str, FieldSpec], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(SocialGANConfig(), DataSpec(fields), STAGE)


# -- what must not matter ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    pooling=st.sampled_from(["people", "none"]),
    seed=st.integers(0, 9),
)
def test_order_of_people_and_of_scenes_changes_nothing(counts: list[int], pooling: str, seed: int) -> None:
    G, D = built(pooling=pooling)
    observed, starts, z = scenes(counts)
    futures = G(observed, starts, z)
    source = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(counts), generator=source).tolist()
    rows = torch.cat(
        [torch.arange(sum(counts)).split(counts)[n][torch.randperm(counts[n], generator=source)] for n in order]
    )
    shuffled = starts_of(torch.tensor([counts[n] for n in order]))
    torch.testing.assert_close(G(observed[rows], shuffled, z[order]), futures[rows], **CLOSE)
    path = torch.cat((observed, futures[:, 0]), 1)
    torch.testing.assert_close(D(path[rows]), D(path)[rows], **CLOSE)


@pytest.mark.parametrize("pooling", ["people", "none"])
def test_others_count_in_the_same_scene_alone(pooling: str) -> None:
    G, _ = built(pooling=pooling)
    observed, starts, z = scenes([2, 2])
    futures = G(observed, starts, z)
    moved = observed.clone()
    moved[3] += 0.7 * torch.arange(8.0).double()[:, None]
    again = G(moved, starts, z)
    assert torch.equal(again[:2], futures[:2])
    assert torch.equal(again[2], futures[2]) == (pooling == "none")


def test_neither_origin_nor_units_matter() -> None:
    G, D = built()
    observed, starts, z = scenes([3, 1])
    futures = G(observed, starts, z)
    torch.testing.assert_close(G(observed + 100.0, starts, z), futures + 100.0, **CLOSE)
    other = build(SocialGANConfig(), spec(scale=0.5 * 1000), STAGE)["G"].double()
    other.load_state_dict(G.state_dict())
    torch.testing.assert_close(other(1000 * observed, starts, z), 1000 * futures, **CLOSE)
    torch.testing.assert_close(D(observed + 5), D(observed), **CLOSE)


def test_noise_is_shared_by_the_people_of_a_scene_and_moves_them_all() -> None:
    G, _ = built()
    observed, starts, z = scenes([2, 1])
    futures = G(observed, starts, z)
    other = z.clone()
    other[0, 1] += 1
    moved = (G(observed, starts, other) - futures).abs().amax((2, 3)) > 0
    assert moved.tolist() == [[False, True], [False, True], [False, False]]


def test_pooling_is_its_formula() -> None:
    pool = built()[0].pool
    assert isinstance(pool, nn.Module)
    place, h = torch.randn(3, 2).double(), torch.randn(3, 32).double()
    found = pool(place, h, torch.tensor([0, 2, 3]))
    first, second = pool.mlp[0], pool.mlp[2]  # type: ignore[index]

    def of(i: int, j: int) -> Tensor:
        way = pool.embed.weight @ (place[j] - place[i]) + pool.embed.bias  # type: ignore[operator,union-attr]
        hidden = (first.weight @ torch.cat((way, h[j])) + first.bias).relu()
        return (second.weight @ hidden + second.bias).relu()

    expected = torch.stack([torch.maximum(of(0, 0), of(0, 1)), torch.maximum(of(1, 0), of(1, 1)), of(2, 2)])
    torch.testing.assert_close(found, expected, **CLOSE)
    assert math.isfinite(found.sum().item())
