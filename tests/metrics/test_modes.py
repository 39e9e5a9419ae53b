"""Modes of a mixture, and when a collapse is flagged."""

from __future__ import annotations

import math

import pytest
import torch

from ganengine.errors import UserError
from ganengine.metrics.modes import CollapseDetector, count_modes

CENTRES = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]])


def test_near_is_within_three_deviations_and_covered_is_a_hundredth() -> None:
    good = [[2.0, 0.05]] * 97 + [[-2.059, 0.0]] * 1 + [[-2.0, 0.061]] * 1 + [[0.0, 2.0]] * 1
    modes = count_modes(torch.tensor(good), CENTRES, 0.02)
    assert modes.counts.tolist() == [97, 1, 1 - 0]
    assert (modes.covered, modes.good) == (3, 0.99)
    assert count_modes(torch.tensor([*good, [9.0, 9.0]]), CENTRES, 0.02).covered == 1  # 1 of 101 is below 1 %


def test_what_is_not_finite_is_near_nothing() -> None:
    modes = count_modes(torch.tensor([[2.0, 0.0], [math.nan, 0.0], [math.inf, 0.0], [2.0, -math.inf]]), CENTRES, 0.02)
    assert modes.counts.tolist() == [1, 0, 0]
    assert modes.good == 0.25


@pytest.mark.parametrize("shape", [(0, 2), (5, 3), (5,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="points: expected"):
        count_modes(torch.zeros(shape), CENTRES, 0.02)


@pytest.mark.parametrize(
    ("coverage", "flags"),
    [
        ([1.0, 0.4, 0.4, 0.4, 0.4], [False, False, False, True, True]),
        ([0.4, 0.4, 0.5, 0.4, 0.4, 0.4], [False, False, False, False, False, True]),
        ([math.nan, 0.0, 0.0, 1.0], [False, False, True, False]),
    ],
)
def test_collapse_is_low_coverage_for_some_ticks_in_a_row(coverage: list[float], flags: list[bool]) -> None:
    detector = CollapseDetector(share=0.5, ticks=3)
    assert [detector.collapsed(value) for value in coverage] == flags


@pytest.mark.parametrize(("share", "ticks"), [(0.0, 3), (1.1, 3), (0.5, 0)])
def test_settings_that_make_no_sense(share: float, ticks: int) -> None:
    with pytest.raises(UserError, match="collapse: expected"):
        CollapseDetector(share, ticks)
