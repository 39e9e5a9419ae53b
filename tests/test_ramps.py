"""Ramps against tables worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganengine.errors import UserError
from ganengine.ramps import (
    Constant,
    Cosine,
    EveryNth,
    Exponential,
    InverseSqrt,
    Linear,
    Piecewise,
    Staircase,
    linear_decay,
)
from ganengine.variant import Optimizer, Phase, Progress, Schedule, Stage, value_at

WGAN_REPEATS = EveryNth(500, 100, otherwise=Piecewise(((0, 100), (25, 5))))


def at(**fields: int) -> Progress:
    return Progress(**{"horizon": 1000, **fields})


WORKED = [
    (Constant(3.0), at(images=400), 3.0),
    (Linear(1.0, 3.0), at(images=0), 1.0),
    (Linear(1.0, 3.0), at(images=250), 1.5),
    (Linear(1.0, 3.0), at(images=5000), 3.0),
    (Linear(0.0, 1.0, 0.2, 0.6), at(images=100), 0.0),
    (Linear(0.0, 1.0, 0.2, 0.6), at(images=300), 0.25),
    (Linear(0.0, 1.0, 200, 600, unit="images"), at(images=500), 0.75),
    (Linear(0.0, 1.0, 0, 50, unit="stage"), at(images=900, stage_images=10), 0.2),
    (Linear(0.0, 1.0, 0, 50, unit="steps"), at(images=900, step=40), 0.8),
    (linear_decay(2e-4), at(images=0), 2e-4),
    (linear_decay(2e-4), at(images=500), 2e-4),
    (linear_decay(2e-4), at(images=750), 1e-4),
    (linear_decay(2e-4), at(images=1000), 0.0),
    (linear_decay(2e-4, constant=0.8), at(images=900), 1e-4),
    (Cosine(2.0), at(images=0), 2.0),
    (Cosine(2.0), at(images=500), 1.0),
    (Cosine(2.0, 1.0), at(images=1000), 1.0),
    (Cosine(1.0, begin=0.5), at(images=750), 0.5),
    (Cosine(1.0), at(images=333 + 0), 0.5 + 0.5 * math.cos(math.pi * 0.333)),
    (Staircase(8e-5, 100), at(images=99), 8e-5),
    (Staircase(8e-5, 100), at(images=100), 4e-5),
    (Staircase(8e-5, 100), at(images=399), 1e-5),
    (Staircase(8e-5, 100, floor=2e-5), at(images=399), 2e-5),
    (Staircase(1.0, 10, factor=0.1, unit="steps"), at(step=20), 0.01),
    (Exponential(0.1, 1.000004), at(step=0), 0.1),
    (Exponential(0.1, 2.0), at(step=3), 0.0125),
    (Exponential(0.1, 1.000004, floor=1e-6), at(step=1_000_000), 0.1 * math.exp(-1_000_000 * math.log(1.000004))),
    (Exponential(0.1, 1.000004, floor=1e-6), at(step=10_000_000), 1e-6),
    (Exponential(0.1, 2.0, floor=1e-6), at(step=10**6), 1e-6),
    (InverseSqrt(0.01, hold=100), at(images=50), 0.01),
    (InverseSqrt(0.01, hold=100), at(images=400), 0.005),
    (Piecewise(((0, 4.0), (10, 5.0), (20, 6.0))), at(step=9), 4.0),
    (Piecewise(((0, 4.0), (10, 5.0), (20, 6.0))), at(step=10), 5.0),
    (Piecewise(((0, 4.0), (0.5, 5.0)), unit="horizon"), at(images=999), 5.0),
    (EveryNth(4, 1.0, otherwise=2.0), at(step=8), 1.0),
    (EveryNth(4, 1.0, otherwise=2.0), at(step=7), 2.0),
]


@pytest.mark.parametrize(("ramp", "progress", "value"), WORKED, ids=lambda case: str(case))
def test_worked_values(ramp, progress, value):
    assert value_at(ramp, progress, {}) == pytest.approx(value, rel=1e-9, abs=1e-15)


def test_wgan_critic_repeats():
    repeats = [WGAN_REPEATS(at(step=step), {}) for step in range(1001)]
    expected = [100 if step < 25 or step % 500 == 0 else 5 for step in range(1001)]
    assert repeats == expected
    assert all(isinstance(n, int) for n in repeats)


def test_in_a_schedule():
    phase = Phase("d", ("D",), "d", "d", repeats=WGAN_REPEATS)
    schedule = Schedule((Stage((phase,)),), {"d": Optimizer(lr=linear_decay(2e-4))})
    ((due,),) = schedule.at(Progress(step=30, images=75, horizon=100), {})
    assert (due.repeats, due.lr) == (5, pytest.approx(1e-4))


SPANS = [Linear(0.3, 7.0, 0.25, 0.75), Linear(7.0, 0.3), Cosine(7.0, 0.3, 0.1, 0.2), Cosine(0.3, 7.0)]


@given(ramp=st.sampled_from(SPANS), images=st.integers(0, 2000))
def test_spans_stay_between_their_ends_and_move_one_way(ramp, images):
    now, later = (ramp(at(images=i), {}) for i in (images, images + 1))
    assert min(ramp.start, ramp.stop) - 1e-12 <= now <= max(ramp.start, ramp.stop) + 1e-12
    assert (later - now) * (ramp.stop - ramp.start) >= -1e-12


@pytest.mark.parametrize("ramp", [linear_decay(2e-4), Cosine(1.0), Staircase(1.0, 10), WGAN_REPEATS])
def test_repr_can_be_read_back(ramp):
    assert eval(repr(ramp)) == ramp


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(math.nan), "Constant: expected a finite value"),
        (lambda: Linear(1.0, math.inf), "Linear: expected a finite stop"),
        (lambda: Linear(1.0, 0.0, 0.5, 0.5), "expected 0 <= begin < end, got begin 0.5 and end 0.5"),
        (lambda: Linear(1.0, 0.0, -0.1), "expected 0 <= begin < end"),
        (lambda: Linear(1.0, 0.0, 0, 5000), 'To count images, add unit="images"'),
        (lambda: linear_decay(1.0, constant=1.0), "expected 0 <= begin < end"),
        (lambda: Cosine(1.0, unit="image"), 'got "image". Did you mean images'),
        (lambda: Staircase(1.0, 0), "Staircase: expected every above 0"),
        (lambda: Exponential(0.1, 0.9), "expected a divisor of at least 1"),
        (lambda: InverseSqrt(0.1, 0), "InverseSqrt: expected hold above 0"),
        (lambda: Piecewise(()), "positions that start at 0 and rise"),
        (lambda: Piecewise(((5, 1),)), "positions that start at 0 and rise"),
        (lambda: Piecewise(((0, 1), (5, 1), (5, 2))), "positions that start at 0 and rise"),
        (lambda: EveryNth(0, 1, 2), "EveryNth: expected n of at least 1"),
    ],
)
def test_wrong_ramps(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_imports_no_torch():
    code = "import sys, ganengine.ramps, ganengine.builtin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
