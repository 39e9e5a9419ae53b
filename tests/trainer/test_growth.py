"""Stages that follow one another: hand-over by name and by rename, moments, averages, sizes, and resuming across."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.errors import PluginError
from ganengine.step import Step
from ganengine.variant import Optimizer, Phase, Progress, Schedule, Stage, State

from .lab import Lab, Losses, MakeLab, Terms, bits

FIRST = 8
"""Images of the first stage: two steps of 4."""


class Small(nn.Module):
    """4 x 4 pictures from a latent, by a base and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(5, 6 * 16)
        self.to_rgb = nn.Conv2d(6, 3, 1)

    def forward(self, z: Tensor, alpha: float) -> Tensor:
        picture: Tensor = self.to_rgb(self.base(z).view(-1, 6, 4, 4))
        return picture


class Large(Small):
    """8 x 8 pictures: a new block and a new output layer; the old one is the skip that fades out."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = self.to_rgb
        self.block = nn.Conv2d(6, 4, 3, padding=1)
        self.to_rgb = nn.Conv2d(4, 3, 1)  # another shape under the old name

    def forward(self, z: Tensor, alpha: float) -> Tensor:
        small = F.interpolate(self.base(z).view(-1, 6, 4, 4), scale_factor=2.0)
        picture: Tensor = (1 - alpha) * self.skip(small) + alpha * self.to_rgb(F.leaky_relu(self.block(small), 0.2))
        return picture


class Judge(nn.Module):
    """Judges pictures of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.from_rgb = nn.Conv2d(3, 8, 1)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.leaky_relu(self.from_rgb(x), 0.2).mean((2, 3)))
        return logits


def networks(config: Any, spec: Any, stage: Stage) -> dict[str, nn.Module]:
    return {"G": Small() if stage.size == 4 else Large(), "D": Judge()}


def alpha_of(step: Step) -> float:
    return min(1.0, step.progress.stage_images / 8) if step.progress.stage else 1.0


def losses(seen: list[Any]) -> Losses:
    def fake(step: Step) -> Tensor:
        made: Tensor = step.shared("fake", lambda: step.G(step.randn("z", (5,)), alpha_of(step)), of=("G",))
        return made

    def d(step: Step) -> Terms:
        seen.append((step.progress.stage, tuple(step.batch.real.shape), alpha_of(step)))
        real, made = step.D(step.batch.real), step.D(fake(step).detach())
        return {"real": F.softplus(-real)[:, 0], "fake": F.softplus(made)[:, 0]}

    return {"d": d, "g": lambda step: {"g": F.softplus(-step.D(fake(step)))[:, 0]}}


PHASES = (Phase("d", ("D",), "d", "d"), Phase("g", ("G",), "g", "g"))


def growing(*, reset: bool = False, frozen: bool = False, hand_over: Mapping[str, str] | None = None) -> Schedule:
    """4 x 4 with batch 4 for 8 images, then 8 x 8 with batch 2; `frozen` sets all rates to 0 in the second stage."""

    def rate(at: Progress, state: State) -> float:
        return 0.0 if frozen and at.stage else 1e-2

    rename = {"G.skip": "G.to_rgb"} if hand_over is None else hand_over
    stages = (
        Stage(PHASES, "4x4", images=FIRST, size=4, batch=4),
        Stage(PHASES, "8x8", size=8, batch=2, hand_over=rename, reset_optimizers=reset),
    )
    adam = Optimizer(rate, options={"betas": (0.0, 0.99)})
    return Schedule(stages, {"d": adam, "g": adam}, averaged=("G",))


def bench(lab: MakeLab, schedule: Schedule, seen: list[Any] | None = None, **options: Any) -> Lab:
    return lab(networks, losses([] if seen is None else seen), schedule, **{"ema_images": 100, **options})


def test_size_batch_and_fade_change_at_the_border(lab: MakeLab) -> None:
    seen: list[Any] = []
    run = bench(lab, growing(), seen)
    run.run(7)
    assert seen == [
        (0, (4, 3, 4, 4), 1.0),
        (0, (4, 3, 4, 4), 1.0),
        *[(1, (2, 3, 8, 8), alpha) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)],
    ]
    assert [line["images"] for line in run.log] == [4, 8, 10, 12, 14, 16, 18]


def test_what_is_left_of_a_stage_is_known(lab: MakeLab) -> None:
    run = bench(lab, growing())
    assert run.run(1).left_of_stage() == ("4x4", FIRST - 4, "8x8")
    assert run.run(2).left_of_stage() == ("4x4", 0, "8x8")
    assert run.run(3).left_of_stage() is None, "the last one ends with the run"


def test_parameters_and_averages_are_handed_over_by_name_and_by_rename(lab: MakeLab) -> None:
    # A half-life far beyond the run: the average stays at the first weights, so it cannot be mistaken for G.
    run = bench(lab, growing(frozen=True), ema_images=10**12, ema_rampup=0)
    old = {name: tensor.clone() for name, tensor in run.run(2).players.tensors().items()}
    new = run.run(3).players.tensors()
    origins = {name: name.replace("/skip.", "/to_rgb.") for name in new if "/block." not in name}
    kept = {name: origin for name, origin in origins.items() if "/to_rgb." not in name}
    assert set(kept) == {
        *[f"{net}/{part}.{leaf}" for net in ("G", "G_ema") for part in ("base", "skip") for leaf in ("weight", "bias")],
        *[f"D/{part}.{leaf}" for part in ("from_rgb", "head") for leaf in ("weight", "bias")],
    }
    for name, origin in kept.items():
        torch.testing.assert_close(new[name], old[origin], rtol=0, atol=1e-6 if "_ema" in name else 0, msg=name)
        if name.startswith("G/"):
            assert not torch.equal(new[name], new[name.replace("G/", "G_ema/")]), f"{name} tells nothing"
    # What is new in G begins equal in its average.
    for name in (n for n in new if "/block." in n and n.startswith("G/")):
        torch.testing.assert_close(new[name], new[name.replace("G/", "G_ema/")], rtol=0, atol=1e-6)


def test_at_the_beginning_of_a_fade_nothing_has_changed(lab: MakeLab) -> None:
    run = bench(lab, growing(frozen=True), ema_images=10**12, ema_rampup=0)
    before = run.run(2).players
    after = run.run(3).players
    z = torch.randn(3, 5)
    for small, large in ((before.networks["G"], after.networks["G"]), *_averages(before, after)):
        torch.testing.assert_close(large(z, 0.0), F.interpolate(small(z, 0.0), scale_factor=2.0))


def _averages(before: Any, after: Any) -> list[tuple[nn.Module, nn.Module]]:
    return [(before.averages["G"].network, after.averages["G"].network)]


@pytest.mark.parametrize("reset", [False, True])
def test_moments_of_what_stays_are_kept_unless_reset(lab: MakeLab, reset: bool) -> None:
    run = bench(lab, growing(reset=reset))
    run.run(2)
    moments = {name: entry["exp_avg_sq"] for name, entry in run.saved.state["optimizers"]["g"].items()}
    run.run(3)
    state = run.saved.state["optimizers"]
    steps = {name: int(entry["step"]) for optimizer in state.values() for name, entry in optimizer.items()}
    stayed = {"G.base", "G.skip", "D.from_rgb", "D.head"}
    assert steps == {
        f"{part}.{leaf}": 3 if part in stayed and not reset else 1
        for part in (*stayed, "G.block", "G.to_rgb")
        for leaf in ("weight", "bias")
    }
    if not reset:
        # At alpha = 0 all of G's gradient goes through the skip: m <- 0.99 m + 0.01 g^2 cannot fall below 0.99 m.
        now = state["g"]["G.skip.weight"]["exp_avg_sq"]
        assert bool((now >= 0.99 * moments["G.to_rgb.weight"] * (1 - 1e-6)).all())
    assert state["g"]["G.to_rgb.weight"]["exp_avg"].shape == (3, 4, 1, 1)


@pytest.mark.parametrize("broken_at", [1, 2, 3, 5])
def test_a_run_resumes_before_at_and_after_the_border(lab: MakeLab, broken_at: int) -> None:
    unbroken, broken = bench(lab, growing(), tick_every=3), bench(lab, growing(), tick_every=3)
    unbroken.run(7)
    broken.run(broken_at)
    broken.run(7)
    assert broken.files() == unbroken.files()


def test_a_stage_may_end_by_a_rule_on_measured_state(lab: MakeLab) -> None:
    seen: list[Any] = []
    built = growing()
    first = Stage(PHASES, "4x4", size=4, batch=4, until=lambda at, state: state["steps"] >= 3)
    schedule = Schedule(
        (first, built.stages[1]), built.optimizers, state={"steps": 0.0},
        update=lambda state, measured: {"steps": state["steps"] + 1},
    )  # fmt: skip
    bench(lab, schedule, seen).run(5)
    assert [stage for stage, *_ in seen] == [0, 0, 0, 1, 1]


def test_the_last_stage_goes_on_past_its_length(lab: MakeLab) -> None:
    seen: list[Any] = []
    built = growing()
    last = Stage(PHASES, "8x8", size=8, batch=2, images=4, hand_over={"G.skip": "G.to_rgb"})
    bench(lab, Schedule((built.stages[0], last), built.optimizers), seen).run(7)
    assert [stage for stage, *_ in seen] == [0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("rule", [{"G.skp": "G.to_rgb"}, {"G.skip": "G.to_rbg"}])
def test_a_hand_over_that_names_nothing_is_refused(lab: MakeLab, rule: dict[str, str]) -> None:
    with pytest.raises(PluginError, match=r'Stage "8x8": hand_over .*(G\.skp|G\.to_rbg)'):
        bench(lab, growing(hand_over=rule)).run(3)


def test_a_stage_has_its_own_weights_at_the_start_in_every_run(lab: MakeLab) -> None:
    a, b = (bench(lab, growing(frozen=True)) for _ in range(2))
    assert bits(a.run(4).players.tensors().values()) == bits(b.run(4).players.tensors().values())
