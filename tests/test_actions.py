"""Clipping and the image pool, against a plain-Python pool that keeps numbers in a list."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine.actions import ImagePool, clip_weights
from ganengine.errors import UserError


def test_clip_weights():
    D, G = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        D.weight.copy_(torch.tensor([[0.5, -0.5], [0.005, -0.01]]))
        D.bias.copy_(torch.tensor([-3.0, 0.002]))
    before = G.weight.clone()
    clip_weights("D", 0.01)({"D": D, "G": G})
    torch.testing.assert_close(D.weight.detach(), torch.tensor([[0.01, -0.01], [0.005, -0.01]]))
    torch.testing.assert_close(D.bias.detach(), torch.tensor([-0.01, 0.002]))
    assert torch.equal(G.weight, before)
    assert D.weight.requires_grad


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_clip_weights_needs_a_limit(limit):
    with pytest.raises(UserError, match="expected a limit above 0"):
        clip_weights("D", limit)


def pictures(*values: float) -> Tensor:
    """Pictures of shape [3, 2, 2] that hold one value each."""
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2).clone()


def read(images: Tensor) -> list[float]:
    return images[:, 0, 0, 0].tolist()


def test_the_rule_by_hand():
    pool = ImagePool(2)
    # Not full: stored and returned, whatever the draws say.
    assert read(pool(pictures(1, 2), torch.tensor([[0.0, 0.0], [0.0, 0.0]]))) == [1, 2]
    # Full: below 1/2 swaps with slot floor(u * 2), 1/2 and above returns the new one. The 4 meets the stored 3.
    draws = torch.tensor([[0.49, 0.5], [0.1, 0.9], [0.5, 0.0], [0.2, 0.0]])
    assert read(pool(pictures(3, 4, 5, 6), draws)) == [2, 3, 5, 1]
    assert read(pool.images) == [6, 4]
    assert int(pool.count) == 2


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(0, 4),
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_against_a_list(size, batches, seed):
    generator = torch.Generator().manual_seed(seed)
    pool, stored, name = ImagePool(size), [], 0.0
    for n in batches:
        new = [name + i for i in range(n)]
        name += n
        draws = torch.rand(n, 2, generator=generator)
        expected = []
        for value, (u, v) in zip(new, draws.tolist(), strict=True):
            if len(stored) < size:
                stored.append(value)
                expected.append(value)
            elif size and u < 0.5:
                expected.append(stored[int(v * size)])
                stored[int(v * size)] = value
            else:
                expected.append(value)
        assert read(pool(pictures(*new), draws)) == expected
    assert int(pool.count) == len(stored)


def test_the_largest_draw_stays_inside():
    pool = ImagePool(3)
    pool(pictures(1, 2, 3), torch.zeros(3, 2))
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()
    assert read(pool(pictures(4), torch.tensor([[0.0, largest]]))) == [3]


def test_results_are_detached_copies():
    pool = ImagePool(1)
    fake = pictures(1).requires_grad_()
    shown = pool(fake * 2, torch.zeros(1, 2))
    assert not shown.requires_grad
    shown.zero_()
    assert read(pool.images) == [2]
    assert not ImagePool(0)(fake * 2, torch.zeros(1, 2)).requires_grad


def test_state_goes_through_a_checkpoint():
    pool = ImagePool(2)
    pool(pictures(1, 2), torch.zeros(2, 2))
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    other = nn.ModuleDict({"pool": ImagePool(2)})
    other.load_state_dict({f"pool.{k}": v for k, v in torch.load(file, weights_only=True).items()})
    draws = torch.tensor([[0.0, 0.6], [0.0, 0.0]])
    assert read(other["pool"](pictures(3, 4), draws)) == read(pool(pictures(3, 4), draws)) == [2, 1]
    assert torch.equal(other["pool"].images, pool.images)
    assert not list(pool.parameters())


def test_an_unused_pool_loads_into_a_used_one():
    pool = ImagePool(2)
    pool(pictures(1), torch.zeros(1, 2))
    pool.load_state_dict(ImagePool(2).state_dict())
    assert int(pool.count) == 0
    assert read(pool(pictures(7), torch.zeros(1, 2))) == [7]


def test_a_pool_of_another_size_is_refused():
    pool = ImagePool(2)
    pool(pictures(1), torch.zeros(1, 2))
    with pytest.raises(RuntimeError, match="size mismatch for images"):
        ImagePool(3).load_state_dict(pool.state_dict())


@pytest.mark.parametrize(
    ("images", "draws", "message"),
    [
        (pictures(1), torch.zeros(1), r"expected draws \[1, 2\], got \[1\]"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2), r"expected images \[3, 2, 2\] as stored before, got \[3, 4, 4\]"),
    ],
)
def test_wrong_input(images, draws, message):
    pool = ImagePool(2)
    pool(pictures(1), torch.zeros(1, 2))
    with pytest.raises(UserError, match=message):
        pool(images, draws)


def test_wrong_size():
    with pytest.raises(UserError, match="expected a size of 0 or more"):
        ImagePool(-1)
