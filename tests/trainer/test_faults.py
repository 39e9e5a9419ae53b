"""Gradients that are not finite: left out, fatal, or answered by going back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ganengine.data import Loader
from ganengine.errors import DataError, TrainingError
from ganengine.step import Step
from ganengine.trainer import ROLLBACKS, SKIPS_IN_A_ROW
from ganengine.variant import Optimizer, Phase

from .lab import Lab, Losses, MakeLab, Rows, Scalar, Terms, one_stage, sgd, values

DATA = Rows(real=[[1.0]] * 16)
BAD = [float("nan"), float("inf"), float("-inf")]


def faulty(lab: MakeLab, factor: Callable[[Step], float], optimizer: Optimizer | None = None, **options: Any) -> Lab:
    """A weight that falls by 1 a step, times `factor`."""

    def loss(step: Step) -> Terms:
        return {"p": step.P(torch.ones(step.batch.size)) * factor(step)}

    losses: Losses = {"p": loss}
    schedule = one_stage(Phase("p", ("P",), "p", "p"), optimizers={"p": optimizer or sgd(1.0)})
    return lab(lambda *_: {"P": Scalar(0.0)}, losses, schedule, data=DATA, **options)


def at_step_two(bad: float) -> Callable[[Step], float]:
    return lambda step: bad if step.progress.step == 2 else 1.0


def test_skips_in_a_row_are_counted_over_an_interruption(lab: MakeLab) -> None:
    bench = faulty(lab, lambda step: float("nan"), tick_every=1000)
    bench.run(SKIPS_IN_A_ROW - 2)
    assert bench.saved.state["position"]["skips_in_a_row"] == SKIPS_IN_A_ROW - 2
    bench.run(SKIPS_IN_A_ROW - 1)
    with pytest.raises(TrainingError, match=f"{SKIPS_IN_A_ROW} updates in a row"):
        bench.run(SKIPS_IN_A_ROW)
    assert bench.saved.step == SKIPS_IN_A_ROW - 1


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("clip_norm", [None, 10.0])
def test_a_bad_update_is_left_out_and_counted(lab: MakeLab, bad: float, clip_norm: float | None) -> None:
    bench = faulty(lab, at_step_two(bad), Optimizer(1.0, "sgd", clip_norm=clip_norm))
    assert values(bench.run(5))["P"] == -4.0
    assert [line.get("skipped", 0) for line in bench.log] == [0, 0, 1, 1, 1]
    assert bench.saved.state["position"]["skipped"] == 1
    assert bench.log[3]["loss"] == {"p": -2.0, "p.p": -2.0}


def test_the_moments_do_not_see_a_bad_update(lab: MakeLab) -> None:
    # Adam moves by lr, whatever the gradient's size; with a moment of NaN it would be NaN for good.
    bench = faulty(lab, at_step_two(float("nan")), Optimizer(0.25))
    assert values(bench.run(5))["P"] == pytest.approx(-1.0)
    assert int(bench.saved.state["optimizers"]["p"]["P.value"]["step"]) == 4


def test_too_many_bad_updates_in_a_row_end_the_run(lab: MakeLab) -> None:
    bench = faulty(lab, lambda step: float("nan"), tick_every=1000)
    with pytest.raises(TrainingError, match=f"{SKIPS_IN_A_ROW} updates in a row .* --precision fp32"):
        bench.run(SKIPS_IN_A_ROW + 1)
    assert values(faulty(lab, lambda step: float("nan"), tick_every=1000).run(SKIPS_IN_A_ROW - 1))["P"] == 0.0


def test_a_bad_update_can_end_the_run(lab: MakeLab) -> None:
    bench = faulty(lab, at_step_two(float("nan")), on_nonfinite="stop", checkpoint_every=1)
    with pytest.raises(TrainingError, match='phase "p" at step 2 is not finite'):
        bench.run(5)
    assert bench.saved.step == 2
    assert float(bench.saved.networks["P/value"]) == -2.0


def test_a_rollback_goes_on_from_the_last_checkpoint_with_other_numbers(lab: MakeLab) -> None:
    drawn: list[tuple[int, float]] = []

    def factor(step: Step) -> float:
        number = float(step.rand("u")[0])
        drawn.append((step.progress.step, number))
        return float("nan") if len(drawn) == 4 else 1.0

    bench = faulty(lab, factor, on_nonfinite="rollback", checkpoint_every=2)
    assert values(bench.run(6))["P"] == -6.0
    assert [step for step, _ in drawn] == [0, 1, 2, 3, 2, 3, 4, 5]
    assert drawn[2][1] != drawn[4][1]
    assert [line["step"] for line in bench.log] == [1, 2, 3, 4, 5, 6], "no line stands twice in the log"
    assert bench.log[-1]["skipped"] == 1
    # The salt is in the checkpoint: a run that is resumed draws as the unbroken one.
    unbroken = drawn[-1]
    drawn.clear()
    bench = faulty(lab, factor, on_nonfinite="rollback", checkpoint_every=2)
    bench.run(5)
    bench.run(6)
    assert drawn[-1] == unbroken


def test_rolling_back_to_one_checkpoint_is_not_tried_forever(lab: MakeLab) -> None:
    bench = faulty(lab, at_step_two(float("nan")), on_nonfinite="rollback", checkpoint_every=2)
    with pytest.raises(TrainingError, match=f"{ROLLBACKS} times after going back"):
        bench.run(5)
    assert bench.saved.step == 2


def test_time_is_not_counted_twice_after_a_rollback(lab: MakeLab) -> None:
    failed: list[int] = []

    def factor(step: Step) -> float:
        if step.progress.step == 3 and not failed:
            failed.append(1)
            return float("nan")
        return 1.0

    trainer = faulty(lab, factor, on_nonfinite="rollback", checkpoint_every=2).run(4)
    assert failed
    assert trainer.clock.before == 0.0, "this command did not go on from an earlier one"


# -- data that cannot be read any more ------------------------------------------------------------------------------


@pytest.mark.parametrize(("fails_at", "saved"), [(8, 2), (10, 0)])
def test_only_whole_steps_are_saved_when_data_fails(
    lab: MakeLab, monkeypatch: pytest.MonkeyPatch, fails_at: int, saved: int
) -> None:
    """Two batches of two a step: before the first of step 2 all is whole, before the second the weight has moved."""
    schedule = one_stage(Phase("p", ("P",), "p", "p", repeats=2), optimizers={"p": sgd(1.0)})

    def bench() -> Lab:
        losses: Losses = {"p": lambda step: {"p": step.P(step.batch.real[:, 0]) * step.rand("u")}}
        return lab(lambda *_: {"P": Scalar(0.0)}, losses, schedule, data=DATA, batch=2)

    unbroken, broken = bench(), bench()
    unbroken.run(5)
    draw = Loader.draw

    def failing(self: Loader, position: int, count: int, **options: Any) -> Any:
        if position == fails_at:
            raise DataError("the disk is gone")
        return draw(self, position, count, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "draw", failing)
        with pytest.raises(DataError, match="the disk is gone"):
            broken.run(5)
    assert broken.saved.step == saved
    broken.run(5)
    assert broken.files() == unbroken.files()
