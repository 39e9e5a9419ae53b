"""Stopping and going on: budgets stop and never bend; N steps, then M, are N + M to the byte."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from ganengine.checkpoint import listed
from ganengine.config import Budget
from ganengine.errors import UserError
from ganengine.runfolder import RunFolder
from ganengine.step import Step
from ganengine.testing import Synthetic, synthetic_spec
from ganengine.variant import Optimizer, Phase, Schedule, Stage, View

from .lab import Lab, MakeLab, Terms, bits, final_files
from .tiny_gan import TinyConfig, game


def bench(lab: MakeLab, views: Mapping[str, View] | None = None, **options: Any) -> Lab:
    """The tiny GAN: batch norm, keyed dropout, a decaying rate, a lazy phase, averaged weights; ten samples."""
    config = TinyConfig()
    return lab(
        lambda _, spec, stage: game.networks(config, spec, stage), game.losses(config), game.schedule(config),
        data=Synthetic(synthetic_spec(("real",), 8, 10)), views=views or {},
        **{"horizon": 48, "ema_images": 20, "flip": True, **options},
    )  # fmt: skip


@pytest.mark.parametrize("legs", [(1,), (2, 3), (5, 6), (3, 7)])
def test_stopping_and_going_on_changes_no_byte(lab: MakeLab, legs: tuple[int, ...]) -> None:
    unbroken, broken = bench(lab, tick_every=3), bench(lab, tick_every=3)
    unbroken.run(8)
    for leg in (*legs, 8):
        broken.run(leg)
    assert broken.files() == unbroken.files()


def test_reduced_precision_resumes_too(lab: MakeLab) -> None:
    unbroken, broken = bench(lab, precision="bf16"), bench(lab, precision="bf16")
    unbroken.run(5)
    broken.run(2)
    broken.run(5)
    assert broken.files() == unbroken.files()
    assert broken.saved.meta["precision"] == "bf16"
    exact = bench(lab)
    exact.run(5)
    assert exact.log != unbroken.log


def test_previews_at_stated_steps_stand_beside_those_of_ticks(lab: MakeLab) -> None:
    view = {"real": View(lambda step, n: {"real": step.batch["real"][:n]}, "what is there")}
    run = bench(lab, views=view, preview=2, preview_at="1, 5,4", tick_every=4, batch=2)
    run.run(6)
    shown = sorted(int(path.stem) for path in (run.path / "samples").iterdir())
    assert shown == [0, *(images_after(run, step) for step in (1, 4, 5, 6))]
    with pytest.raises(UserError, match=r"--preview-at: expected steps such as .*, got \"-3\""):
        bench(lab, preview_at="10,-3").trainer()


def images_after(run: Lab, step: int) -> int:
    """How many images so many steps draw, in which each phase draws as in every other."""
    saved = run.saved
    return int(saved.meta["images"]) * step // int(saved.meta["step"])


def test_how_often_is_saved_and_told_changes_no_number(lab: MakeLab) -> None:
    often, seldom = bench(lab, checkpoint_every=1, tick_every=2), bench(lab, checkpoint_every=5, tick_every=4)
    often.run(8)
    seldom.run(8)
    assert final_files(often.path)["networks.safetensors"] == final_files(seldom.path)["networks.safetensors"]
    (first, second), (whole,) = often.log[:2], seldom.log[:1]
    for name in ("critic", "generator", "generator.generator"):
        assert (first["loss"][name] + second["loss"][name]) / 2 == pytest.approx(whole["loss"][name])
    assert first["loss"]["penalty"] != pytest.approx(second["loss"]["penalty"])  # at steps 0 and 3: once in each


def test_runs_repeat_and_seeds_differ(lab: MakeLab) -> None:
    one, same, other = bench(lab), bench(lab), bench(lab, seed=1)
    for run in (one, same, other):
        run.run(3)
    assert one.files() == same.files()
    assert one.log != other.log


def test_the_global_generators_play_no_part(lab: MakeLab) -> None:
    torch.manual_seed(1)
    one = bench(lab)
    one.run(3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other = bench(lab)
    other.run(3)
    assert one.files() == other.files()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("budget", "steps", "reason"),
    [
        ({"max_steps": 3}, 3, "3 steps reached"),
        ({"max_images": 9}, 3, "12 images reached"),
        ({"max_images": 8}, 2, "8 images reached"),
        ({"max_steps": 5, "max_images": 8}, 2, "8 images reached"),
        ({}, 12, "48 images reached"),  # the horizon
        ({"max_steps": 14}, 14, "14 steps reached"),  # a budget may exceed it
        ({"max_minutes": 0}, 0, "0 minutes reached"),
    ],
)
def test_budgets(lab: MakeLab, budget: dict[str, Any], steps: int, reason: str) -> None:
    run = bench(lab)
    trainer = run.run(budget.pop("max_steps", None), **budget)
    assert trainer.position.step == steps
    goal = Budget(max_steps=steps) if "steps" in reason else Budget(max_images=trainer.position.images)
    if "minutes" not in reason:
        assert trainer.why_stop(goal) == reason
    assert run.saved.step == steps


def test_the_handlers_of_a_caller_come_back(lab: MakeLab) -> None:
    """Training in a notebook must not take Ctrl-C away from it."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    seen: list[Any] = []
    run = bench(lab)
    trainer = run.trainer()
    trainer.observers.tell = lambda *_: seen.append([signal.getsignal(number) for number in numbers])  # type: ignore
    trainer.observers.watched = lambda event: event == "step"  # type: ignore[method-assign]
    trainer.train(RunFolder.create(run.path, "tiny"), Budget(max_steps=1))
    assert [signal.getsignal(number) for number in numbers] == before
    assert before not in seen[1:-1]
    assert seen[1:-1]


def test_epochs_are_passes_over_the_data(lab: MakeLab) -> None:
    assert bench(lab, epochs=2.5).run().position.images == 28  # 25 of 10 samples, in batches of 4


def test_the_rate_falls_to_nothing_at_the_horizon_and_stays_there(lab: MakeLab) -> None:
    run = bench(lab, ema_images=0)
    at_horizon = run.run(12).players.networks
    later = run.run(14).players.networks
    assert bits(at_horizon["G"].parameters()) == bits(later["G"].parameters())
    assert bits(at_horizon["D"].parameters()) == bits(later["D"].parameters())


def test_old_checkpoints_are_pruned_and_the_first_is_there_at_once(lab: MakeLab) -> None:
    run = bench(lab, checkpoint_every=2, keep_checkpoints=2)
    run.run(7)
    assert [path.name for path in listed(run.path / "checkpoints")] == ["step-000000007", "step-000000006"]
    empty = bench(lab)
    empty.run(max_minutes=0)
    assert [path.name for path in listed(empty.path / "checkpoints")] == ["step-000000000"]


def test_a_damaged_newest_checkpoint_is_replaced_when_the_run_gets_there_again(lab: MakeLab) -> None:
    run, whole = bench(lab), bench(lab)
    whole.run(4)
    run.run(2)
    run.run(4)
    newest = listed(run.path / "checkpoints")[0]
    (newest / "state.pt").write_bytes(b"damaged")
    run.run(4)
    assert run.saved.step == 4
    assert run.files() == whole.files()


def test_a_tensor_can_be_what_is_trained(lab: MakeLab) -> None:
    # z <- z - 2 lr (z - m) with the mean m of data that never changes: z - m shrinks by 1 - 2 lr a step.
    start = torch.tensor([[1.0, -1.0]], dtype=torch.float64)

    def fit(step: Step) -> Terms:
        return {"fit": (step["z"] - step.batch.attributes.double().sum() * 0).square().sum(1).expand(step.batch.size)}

    schedule = Schedule((Stage((Phase("z", ("z",), "fit", "z"),)),), {"z": Optimizer(0.25, "sgd")})
    data = Synthetic(synthetic_spec(("attributes",), 8))
    run = lab(lambda *_: {"z": nn.Parameter(start.clone())}, {"fit": fit}, schedule, data=data, ema_images=10)
    run.run(1)
    trainer = run.run(3)
    assert torch.equal(trainer.players.networks["z"].detach(), start / 8)
    assert list(run.saved.networks) == ["z/value"]
    assert isinstance(trainer.players.networks["z"], nn.Parameter)


def test_a_game_without_a_discriminator(lab: MakeLab) -> None:
    def networks(*_: Any) -> dict[str, nn.Module]:
        return {"E": nn.Linear(8, 3), "G": nn.Linear(3, 8), "judge": nn.Linear(8, 2).requires_grad_(False)}

    def rebuild(step: Step) -> Terms:
        x = step.batch.attributes
        return {"l2": (step.G(step.E(x)) - x).square().mean(1), "seen": step.judge(step.G(step.E(x))).square().mean(1)}

    phases = (Phase("rebuild", ("G", "E"), "rebuild", "all", weights={"seen": 0.1}),)
    schedule = Schedule((Stage(phases),), {"all": Optimizer(1e-2)})
    run = lab(networks, {"rebuild": rebuild}, schedule, data=Synthetic(synthetic_spec(("attributes",), 8)), horizon=400)
    before = bits(run.trainer().players.networks["judge"].parameters())
    trainer = run.run()
    assert bits(trainer.players.networks["judge"].parameters()) == before
    assert run.log[-1]["loss"]["rebuild.l2"] < 0.7 * run.log[0]["loss"]["rebuild.l2"]
    assert set(trainer.players.averages) == set(), "no averages were asked for"
