"""Errors of forecasts: by hand, and against loops over scenes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.builtin import ganengine_metrics
from ganengine.fans import SIDE, fans
from ganengine.metrics.forecasts import ade, ade_mean, fde, fde_mean, spread, straight_on
from ganengine.ragged import starts_of
from ganengine.sampling import FUTURES


def test_by_hand() -> None:
    # one scene of two people, two futures, two steps; what came is 0 throughout
    futures = torch.tensor([[[[0.0, 1], [0, 1]], [[3, 4], [0, 2]]], [[[0, 9], [6, 8]], [[0, 0], [0, 0]]]])
    truth, starts = torch.zeros(2, 2, 2), torch.tensor([0, 2])
    # future 0: (1 + 1) / 2 and (9 + 10) / 2; future 1: (5 + 2) / 2 and 0
    assert ade(futures, truth, starts) == pytest.approx((3.5 + 0) / 2)
    assert fde(futures, truth, starts) == pytest.approx((2 + 0) / 2)
    assert ade_mean(futures, truth, starts) == pytest.approx((1 + 3.5 + 9.5 + 0) / 4)
    assert fde_mean(futures, truth, starts) == pytest.approx((1 + 2 + 10 + 0) / 4)
    # ends (0, 1) (0, 2): 0.5 from their middle; (6, 8) (0, 0): 5
    assert spread(futures, truth, starts) == pytest.approx((0.5 + 5) / 2)
    # each by itself, the best of the first is another one
    assert ade(futures, truth, torch.tensor([0, 1, 2])) == pytest.approx((1 + 0) / 2)


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=5), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_like_loops_and_in_any_order_of_scenes(counts: list[int], k: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    futures = torch.randn(sum(counts), k, 3, 2, generator=source)
    truth = torch.randn(sum(counts), 3, 2, generator=source)
    starts = starts_of(torch.tensor(counts))
    whole = finals = 0.0
    for made, came in zip(futures.split(counts), truth.split(counts), strict=True):
        errors = (made - came[:, None]).double().norm(dim=-1)
        whole += min(float(errors[:, j].mean(-1).sum()) for j in range(k))
        finals += min(float(errors[:, j, -1].sum()) for j in range(k))
    assert ade(futures, truth, starts) == pytest.approx(whole / sum(counts), rel=1e-5)
    assert fde(futures, truth, starts) == pytest.approx(finals / sum(counts), rel=1e-5)
    order = torch.randperm(len(counts), generator=source).tolist()
    rows = torch.cat([torch.arange(sum(counts)).split(counts)[scene].flip(0) for scene in order])
    shuffled = starts_of(torch.tensor([counts[scene] for scene in order]))
    for metric in (ade, fde, ade_mean, fde_mean, spread):
        again = metric(futures[rows], truth[rows], shuffled)
        assert again == pytest.approx(metric(futures, truth, starts), rel=1e-9)
    assert ade(futures, truth, starts) <= ade_mean(futures, truth, starts) + 1e-9


def test_straight_on_goes_on_as_in_the_last_step() -> None:
    observed = torch.tensor([[[9.0, 9], [1, 1], [2, 3]]])
    assert straight_on(observed, 2).tolist() == [[[[3, 5], [4, 7]]]]


def test_every_metric_of_forecasts_is_registered_and_loads() -> None:
    found = {record.name: record.load() for record in ganengine_metrics() if record.view == "forecast"}
    assert found == {"ade": ade, "fde": fde, "ade-mean": ade_mean, "fde-mean": fde_mean, "spread": spread}


# -- fans ----------------------------------------------------------------------------------------------------------


def test_a_fan_shows_what_was_what_came_and_what_may_come() -> None:
    observed = torch.tensor([[[-4.0, 0], [-2, 0], [0, 0]], [[0, 4], [0, 3], [0, 2]]])
    truth = torch.tensor([[[2.0, 0], [4, 0]], [[0, 1], [0, 0.5]]])
    futures = truth.unsqueeze(1).repeat(1, FUTURES, 1, 1)
    futures[0, :, :, 1] -= 2
    starts = torch.tensor([0, 1, 2])
    both = fans(observed, truth, futures, starts)
    assert both.shape == (2, 3, SIDE, SIDE)
    assert both.min() >= -1
    assert both.max() == 1
    alone = fans(observed[:1], truth[:1], futures[:1], starts[:2])
    assert torch.equal(both[:1], alone)  # a picture does not depend on those beside it
    ink = (both[0] < 0.9).any(0)
    middle = SIDE // 2
    assert ink[middle - 3 : middle + 3, SIDE // 4].any()  # what was, left of the middle
    assert not ink[8 : middle - 8, 8:-8].any()  # nothing above
    assert ink[middle + 20 : middle + 60, SIDE // 2 + 20 : -20].any()  # the futures, below and right of it


def test_a_fan_that_leaves_the_picture_or_is_no_number_is_drawn_all_the_same() -> None:
    observed, truth = torch.zeros(1, 3, 2), torch.zeros(1, 2, 2)
    futures = torch.tensor([[[[1e30, -1e30], [float("nan"), float("inf")]]]])
    assert fans(observed, truth, futures, torch.tensor([0, 1])).isfinite().all()
