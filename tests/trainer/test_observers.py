"""Those who watch a run: what they are told, and that they cannot harm it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from ganengine.hookspecs import hookimpl
from ganengine.plugins import registry
from ganengine.records import CheckpointRecord, EndRecord, RunRecord, StepRecord, TickRecord

from .lab import Lab, MakeLab, Rows, Scalar, one_stage, sgd
from .test_schedule import P, slope_one


class Witness:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @hookimpl
    def ganengine_run_start(self, record: RunRecord) -> None:
        self.told.append(record)

    @hookimpl
    def ganengine_step(self, record: StepRecord) -> None:
        self.told.append(record)

    @hookimpl
    def ganengine_tick(self, record: TickRecord) -> None:
        self.told.append(record)

    @hookimpl
    def ganengine_checkpoint(self, record: CheckpointRecord) -> None:
        self.told.append(record)

    @hookimpl
    def ganengine_run_end(self, record: EndRecord) -> None:
        self.told.append(record)


class Clumsy:
    """Fails at the second step; takes no argument at the end."""

    def __init__(self) -> None:
        self.steps, self.ended = 0, False

    @hookimpl
    def ganengine_step(self, record: StepRecord) -> None:
        self.steps += 1
        if self.steps == 2:
            raise OSError("no network")

    @hookimpl
    def ganengine_run_end(self) -> None:
        self.ended = True


@pytest.fixture
def watch() -> Iterator[Any]:
    added: list[Any] = []

    def add(observer: Any) -> Any:
        added.append(observer)
        registry().manager.register(observer, name=type(observer).__name__.lower())
        return observer

    yield add
    for observer in added:
        registry().manager.unregister(observer)


def bench(lab: MakeLab) -> Lab:
    return lab(
        lambda *_: {"P": Scalar(0.0)}, {"p": slope_one}, one_stage(P, optimizers={"p": sgd(1.0)}),
        data=Rows(real=[[1.0]] * 8), tick_every=2,
    )  # fmt: skip


def test_an_observer_is_told_of_everything_in_order(lab: MakeLab, watch: Any) -> None:
    witness = watch(Witness())
    run = bench(lab)
    run.run(3)
    kinds = [type(record) for record in witness.told]
    assert kinds == [
        RunRecord, CheckpointRecord, StepRecord, StepRecord, TickRecord, StepRecord, CheckpointRecord, EndRecord,
    ]  # fmt: skip
    start, first, step, _, tick, _, last, end = witness.told
    assert (start.folder, start.step, start.options["batch"]) == (run.path, 0, 4)
    assert (first.step, last.step, last.path) == (0, 3, run.path / "checkpoints" / "step-000000003")
    assert last.path.is_dir()
    assert (step.step, step.images, set(step.losses)) == (1, 4, {"p", "p.p"})
    assert all(isinstance(value, Tensor) and not value.requires_grad for value in step.losses.values())
    assert (tick.folder, tick.step, tick.images, tick.preview) == (run.path, 2, 8, None)
    assert tick.line["loss"] == run.log[0]["loss"] == {"p": -0.5, "p.p": -0.5}  # the mean of 0 and -1
    assert (end.step, end.images, end.reason) == (3, 12, "3 steps reached")
    run.run(4)
    assert [r.step for r in witness.told if isinstance(r, RunRecord)] == [0, 3]


def test_one_that_fails_is_told_of_once_and_changes_nothing(
    lab: MakeLab, watch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = bench(lab)
    alone.run(4)
    clumsy, witness = watch(Clumsy()), watch(Witness())
    watched = bench(lab)
    watched.run(4)
    assert clumsy.steps == 2
    assert not clumsy.ended, "it no longer watches anything"
    assert capsys.readouterr().err.count("plugin clumsy: its ganengine_step failed (OSError: no network)") == 1
    assert sum(isinstance(record, StepRecord) for record in witness.told) == 4
    assert watched.files() == alone.files()


def test_an_observer_takes_only_the_arguments_that_it_needs(lab: MakeLab, watch: Any) -> None:
    class Brief:
        ended = False

        @hookimpl
        def ganengine_run_end(self) -> None:
            self.ended = True

    brief = watch(Brief())
    bench(lab).run(1)
    assert brief.ended
