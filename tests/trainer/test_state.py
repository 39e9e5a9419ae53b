"""Measured state: gates and controlled weights, repeated and resumed on the same steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganengine.step import Step
from ganengine.variant import Group, Phase, Schedule

from .lab import Losses, MakeLab, Rows, Scalar, Terms, one_stage, sgd, values

Tensors = Mapping[str, Tensor]
NUMBERS = Rows(real=[[float(i)] for i in range(40)])

# -- a gate: D rests while its accuracy is high ---------------------------------------------------------------------


def gated(ran: list[int]) -> tuple[Any, Losses, Schedule]:
    """Running sets the reading to 1, resting halves it; D runs below 0.3: at steps 0, 2 rests later, and so on."""

    def d(step: Step) -> Terms:
        ran.append(step.progress.step)
        step.measure("accuracy", torch.tensor(1.0))
        return {"d": step.D(step.batch.real[:, 0])}

    def update(state: Tensors, measured: Tensors) -> Tensors:
        return {"accuracy": measured.get("accuracy", state["accuracy"] / 2)}

    phases = (
        Phase("d", ("D",), "d", "d", when=lambda at, state: state["accuracy"] < 0.3),
        Phase("g", ("G",), "g", "g"),
    )
    schedule = one_stage(*phases, optimizers={"d": sgd(0.1), "g": sgd(0.1)}, state={"accuracy": 0.0}, update=update)
    networks = lambda *_: {"D": Scalar(1.0), "G": Scalar(1.0)}  # noqa: E731
    return networks, {"d": d, "g": lambda step: {"g": step.G(step.batch.real[:, 0])}}, schedule


def test_a_gated_phase_is_skipped_on_the_same_steps_when_repeated_and_when_resumed(lab: MakeLab) -> None:
    first: list[int] = []
    unbroken = lab(*gated(first), data=NUMBERS)
    unbroken.run(10)
    assert first == [0, 3, 6, 9]  # 1, 1/2, 1/4 < 0.3
    again: list[int] = []
    lab(*gated(again), data=NUMBERS).run(10)
    assert again == first
    resumed: list[int] = []
    broken = lab(*gated(resumed), data=NUMBERS)
    for step in (4, 5, 10):
        broken.run(step)
    assert resumed == first
    assert broken.files() == unbroken.files()
    assert [line["state"]["accuracy"] for line in broken.log[:4]] == [1.0, 0.5, 0.25, 1.0]
    assert [sorted(line["loss"]) for line in broken.log[:2]] == [["d", "d.d", "g", "g.g"], ["g", "g.g"]]


# -- a controlled weight: BEGAN's k ---------------------------------------------------------------------------------

GAMMA, LAMBDA, RATE = 0.5, 0.25, 0.01


def balanced() -> tuple[Any, Losses, Schedule]:
    """L(x) = (x - e)^2 stands for the autoencoder's error; D minimises L(real) - k L(fake), G minimises L(fake)."""

    def error(step: Step, x: Tensor) -> Tensor:
        return (x.double() - step.D(torch.ones(()))) ** 2

    def fake(step: Step) -> Tensor:
        made: Tensor = step.shared("fake", lambda: step.G(torch.ones(step.batch.size)), of=("G",))
        return made

    def d(step: Step) -> Terms:
        real, made = error(step, step.batch.real[:, 0]), error(step, fake(step).detach())
        step.measure("real", real.mean())
        step.measure("fake", made.mean())
        return {"real": real, "fake": made}

    def update(state: Tensors, measured: Tensors) -> Tensors:
        k = state["k"] + LAMBDA * (GAMMA * measured["real"] - measured["fake"])
        return {
            "k": k.clamp(0.0, 1.0),
            "measure": measured["real"] + (GAMMA * measured["real"] - measured["fake"]).abs(),
        }

    phases = Group(
        (
            Phase("d", ("D",), "d", "d", weights={"fake": lambda at, state: -state["k"]}),
            Phase("g", ("G",), "g", "g"),
        )
    )
    schedule = one_stage(
        phases, optimizers={"d": sgd(RATE), "g": sgd(RATE)}, state={"k": 0.0, "measure": 0.0}, update=update
    )
    networks = lambda *_: {"D": Scalar(0.5), "G": Scalar(0.25)}  # noqa: E731
    return networks, {"d": d, "g": lambda step: {"g": error(step, fake(step))}}, schedule


def test_a_controlled_weight_follows_the_hand_calculation(lab: MakeLab) -> None:
    data = Rows(real=[[1.0], [2.0], [3.0], [2.0]])
    bench = lab(*balanced(), data=data)
    bench.run(3)
    trainer = bench.run(8)
    real, e, g, k = np.array([1.0, 2.0, 3.0, 2.0]), 0.5, 0.25, 0.0
    expected = []
    for _ in range(8):
        of_real, of_fake = ((real - e) ** 2).mean(), (g - e) ** 2
        slope_e = -2 * (real - e).mean() - k * -2 * (g - e)
        slope_g = 2 * (g - e)
        e, g = e - RATE * slope_e, g - RATE * slope_g
        k = min(1.0, max(0.0, k + LAMBDA * (GAMMA * of_real - of_fake)))
        expected.append(k)
    assert [line["state"]["k"] for line in bench.log] == pytest.approx(expected, rel=1e-6)
    assert 0 < expected[0] < 1, "the game must not run into a bound at once"
    # k itself is float32 on the device.
    assert values(trainer) == pytest.approx({"D": e, "G": g}, rel=1e-6)


def test_measured_state_cannot_be_read_before_it_is_there(lab: MakeLab) -> None:
    """Gates and ramps see the state of the step before; losses see the same numbers as tensors on the device."""
    seen: list[tuple[float, Any]] = []

    def d(step: Step) -> Terms:
        seen.append((gate[-1], step.state["n"]))
        step.measure("n", torch.tensor(float(step.progress.step + 1)))
        return {"d": step.D(step.batch.real[:, 0])}

    gate: list[float] = []

    def when(_: Any, state: Any) -> bool:
        assert isinstance(state["n"], float)
        gate.append(state["n"])
        return True

    schedule = one_stage(
        Phase("d", ("D",), "d", "d", when=when), optimizers={"d": sgd(0.1)}, state={"n": 0.0},
        update=lambda state, measured: {"n": measured["n"]},
    )  # fmt: skip
    lab(lambda *_: {"D": Scalar(1.0)}, {"d": d}, schedule, data=NUMBERS, tick_every=100).run(3)
    assert [(a, float(b)) for a, b in seen] == [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]
    assert all(isinstance(b, Tensor) and b.dim() == 0 for _, b in seen)
