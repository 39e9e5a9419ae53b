"""In which order weights move: alternating and simultaneous phases, trunks in two phases, shared forward passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganengine.errors import PluginError, StaleForwardError
from ganengine.step import Step
from ganengine.variant import Group, Phase, Schedule

from .lab import Losses, MakeLab, Rows, Scalar, Terms, one_stage, sgd, values

# -- the linear game: real is 1, G makes the number g, D judges x by w x; D minimises w g - w, G minimises -w g ------

D = Phase("d", ("D",), "d", "d")
G = Phase("g", ("G",), "g", "g")
RATES = {"d": sgd(0.5), "g": sgd(0.5)}

REAL = Rows(real=[[1.0]] * 8)


def players(*_: Any) -> dict[str, nn.Module]:
    return {"G": Scalar(0.0), "D": Scalar(0.0)}


def linear_game() -> Losses:
    def fake(step: Step) -> Tensor:
        made: Tensor = step.shared("fake", lambda: step.G(torch.ones(step.batch.size)), of=("G",))
        return made

    def d(step: Step) -> Terms:
        return {"d": step.D(fake(step).detach()) - step.D(step.batch.real[:, 0])}

    def g(step: Step) -> Terms:
        return {"g": -step.D(fake(step))}

    return {"d": d, "g": g}


# w <- w - 1/2 (g - 1); g <- g + 1/2 w, with the new w (alternating) or the old one (simultaneous). All numbers are
# sums of few powers of two, hence exact.
ALTERNATING = [(0.5, 0.25), (0.875, 0.6875), (1.03125, 1.203125)]
SIMULTANEOUS = [(0.5, 0.0), (1.0, 0.25), (1.375, 0.75)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (one_stage(D, G, optimizers=RATES), ALTERNATING),
        (one_stage(Group((D, G)), optimizers=RATES), SIMULTANEOUS),
        (one_stage(Group((G, D)), optimizers=RATES), SIMULTANEOUS),
    ],
    ids=["alternating", "simultaneous", "simultaneous, the other way round"],
)
def test_the_two_update_orders_give_their_own_weights(
    lab: MakeLab, schedule: Schedule, expected: list[tuple[float, float]]
) -> None:
    bench = lab(players, linear_game(), schedule, data=REAL)
    seen = []
    for step in (1, 2, 3):
        now = values(bench.run(step))
        seen.append((now["D"], now["G"]))
    assert seen == expected


def linear(*_: Any) -> dict[str, nn.Module]:
    networks = {"G": nn.Linear(1, 1, bias=False), "D": nn.Linear(1, 1, bias=False)}
    for network in networks.values():
        nn.init.zeros_(network.weight)
    return networks  # type: ignore[return-value]


def test_under_autocast_g_sees_the_new_d(lab: MakeLab) -> None:
    """Autocast keeps its casts of weights; one kept over an optimizer step would be of the old weights."""
    game: Losses = {
        "d": lambda step: {"d": (step.D(generated(step).detach()) - step.D(step.batch.real))[:, 0]},
        "g": lambda step: {"g": -step.D(generated(step))[:, 0]},
    }
    bench = lab(linear, game, one_stage(D, G, optimizers=RATES), data=REAL, precision="bf16")
    seen = []
    for step in (1, 2, 3):
        now = values(bench.run(step))
        seen.append((now["D"], now["G"]))
    assert seen == ALTERNATING  # few enough digits for bfloat16
    assert bench.saved.networks["D/weight"].dtype == torch.float32


def generated(step: Step) -> Tensor:
    made: Tensor = step.shared("fake", lambda: step.G(torch.ones(step.batch.size, 1)), of=("G",))
    return made


# -- one trunk in two phases ----------------------------------------------------------------------------------------


class Headed(nn.Module):
    """trunk, then a head: x -> head * trunk * x."""

    def __init__(self, trunk: Scalar, head: float) -> None:
        super().__init__()
        self.trunk, self.head = trunk, Scalar(head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def two_heads(*_: Any) -> dict[str, nn.Module]:
    trunk = Scalar(1.0)
    return {"D": Headed(trunk, 0.5), "Q": Headed(trunk, -0.25)}


def towards(network: str, goal: float) -> Losses:
    return {network.lower(): lambda step: {"fit": (step[network](step.batch.real[:, 0]) - goal) ** 2}}


HEADS = (Phase("d", ("D.trunk", "D.head"), "d", "d"), Phase("q", ("Q",), "q", "q"))


def by_hand(steps: int, *, shared: bool, lr: float = 0.05, momentum: float = 0.9) -> dict[str, float]:
    """Fit trunk * d to 2 and trunk * q to -1 in turn, in plain floats; x = 1."""
    trunk, d, q = 1.0, 0.5, -0.25
    speed = {"d": {"trunk": 0.0, "head": 0.0}, "q": {"trunk": 0.0, "head": 0.0}}
    if shared:
        speed["q"]["trunk"] = 0.0
    for _ in range(steps):
        slope = 2 * (trunk * d - 2)
        speed["d"]["trunk"] = momentum * speed["d"]["trunk"] + slope * d
        speed["d"]["head"] = momentum * speed["d"]["head"] + slope * trunk
        trunk, d = trunk - lr * speed["d"]["trunk"], d - lr * speed["d"]["head"]
        slope = 2 * (trunk * q + 1)
        carried = speed["d" if shared else "q"]
        carried["trunk"] = momentum * carried["trunk"] + slope * q
        speed["q"]["head"] = momentum * speed["q"]["head"] + slope * trunk
        trunk, q = trunk - lr * carried["trunk"], q - lr * speed["q"]["head"]
    return {"trunk": trunk, "d": d, "q": q}


@pytest.mark.parametrize("shared", [False, True])
def test_a_trunk_in_two_phases_has_one_momentum_each_or_one_shared(lab: MakeLab, shared: bool) -> None:
    momentum = sgd(0.05, momentum=0.9)
    if shared:
        # One optimizer for both phases; each steps only what its phase trains.
        phases = (HEADS[0], Phase("q", ("Q",), "q", "d"))
        schedule = one_stage(*phases, optimizers={"d": momentum})
    else:
        schedule = one_stage(*HEADS, optimizers={"d": momentum, "q": momentum})
    bench = lab(two_heads, towards("D", 2.0) | towards("Q", -1.0), schedule, data=REAL)
    bench.run(3)
    nets = bench.run(6).players.networks  # resumed in between: the momenta must come along
    expected = by_hand(6, shared=shared)
    got = {"trunk": nets["D"].trunk.value, "d": nets["D"].head.value, "q": nets["Q"].head.value}
    assert {name: float(value.detach()) for name, value in got.items()} == pytest.approx(expected, rel=1e-12)
    assert nets["Q"].trunk is nets["D"].trunk
    states = bench.saved.state["optimizers"]
    assert {name: set(members) for name, members in states.items()} == (
        {"d": {"D.trunk.value", "D.head.value", "Q.head.value"}}
        if shared
        else {"d": {"D.trunk.value", "D.head.value"}, "q": {"D.trunk.value", "Q.head.value"}}
    )


def test_a_part_of_a_network_can_be_trained_alone(lab: MakeLab) -> None:
    schedule = one_stage(Phase("q", ("Q.head",), "q", "q"), optimizers={"q": sgd(0.1)})
    nets = lab(two_heads, towards("Q", -1.0), schedule, data=REAL).run(3).players.networks
    assert float(nets["D"].trunk.value.detach()) == 1.0
    assert float(nets["D"].head.value.detach()) == 0.5
    assert float(nets["Q"].head.value.detach()) == pytest.approx(-1 + 0.75 * 0.8**3)  # q + 1 shrinks by 1 - 2 lr


@pytest.mark.parametrize("name", ["H", "D.nose", "D.trunk.nose"])
def test_a_group_that_does_not_exist_is_named(lab: MakeLab, name: str) -> None:
    schedule = one_stage(Phase("d", (name,), "d", "d"), optimizers={"d": sgd(0.1)})
    with pytest.raises(PluginError, match=f'A phase trains "{name}"'):
        lab(two_heads, towards("D", 2.0), schedule, data=REAL).trainer()


# -- shared forward passes ------------------------------------------------------------------------------------------


class Counting(Scalar):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_shared_forward_is_computed_once_in_a_step(lab: MakeLab, simultaneous: bool) -> None:
    phases = (Group((D, G)),) if simultaneous else (D, G)
    schedule = one_stage(*phases, optimizers=RATES)
    trainer = lab(lambda *_: {"G": Counting(0.0), "D": Scalar(0.0)}, linear_game(), schedule, data=REAL).run(3)
    assert trainer.players.networks["G"].calls == 3


def judged_once(step: Step) -> Tensor:
    def judge() -> Tensor:
        logits: Tensor = step.D(step.G(torch.ones(step.batch.size)))
        return logits

    value: Tensor = step.shared("judged", judge, of=("G", "D"))
    return value


JUDGED: Losses = {"d": lambda step: {"d": judged_once(step)}, "g": lambda step: {"g": -judged_once(step)}}


def test_logits_may_be_shared_by_a_simultaneous_group_alone(lab: MakeLab) -> None:
    lab(players, JUDGED, one_stage(Group((D, G)), optimizers=RATES), data=REAL).run(2)
    with pytest.raises(StaleForwardError, match=r'shared\("judged"\): D has stepped'):
        lab(players, JUDGED, one_stage(D, G, optimizers=RATES), data=REAL).run(1)


def test_a_forward_is_stale_when_a_trunk_inside_it_has_stepped_as_part_of_another_network(lab: MakeLab) -> None:
    def code(step: Step) -> Tensor:
        value: Tensor = step.shared("code", lambda: step.Q(step.batch.real[:, 0]), of=("Q",))
        return value

    losses: Losses = {
        "d": lambda step: {"d": (step.D(step.batch.real[:, 0]) + code(step).detach()) ** 2},
        "q": lambda step: {"q": code(step) ** 2},
    }
    schedule = one_stage(*HEADS, optimizers={"d": sgd(0.1), "q": sgd(0.1)})
    with pytest.raises(StaleForwardError, match="Q has stepped"):
        lab(two_heads, losses, schedule, data=REAL).run(1)
