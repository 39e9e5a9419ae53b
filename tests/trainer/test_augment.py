"""What the engine does to a critic's pictures, and options that act on networks, in games of a few lines."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import draws as keyed
from ganengine.augment import Augmentation
from ganengine.augment.diffaugment import DiffAugment
from ganengine.config import RunOptions
from ganengine.errors import PluginError, UserError
from ganengine.losses.adversarial import HINGE, NONSATURATING, WASSERSTEIN
from ganengine.ops.counter import uniform
from ganengine.plugins import registry
from ganengine.step import Step
from ganengine.variant import Component, Phase, Schedule, View

from .lab import Lab, Losses, MakeLab, Terms, one_stage, sgd

Seen = list[tuple[Tensor, ...]]


class Judge(nn.Module):
    """A linear D that keeps what it sees."""

    def __init__(self, seen: Seen, channels: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels * 64, 1)
        self.seen = seen

    def forward(self, *pictures: Tensor) -> Tensor:
        self.seen.append(tuple(picture.detach().clone() for picture in pictures))
        logits: Tensor = self.score(pictures[0].flatten(1))
        return logits


class Brush(nn.Module):
    """A G of one picture."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.linspace(-1, 1, 192).view(1, 3, 8, 8))

    def forward(self, z: Tensor) -> Tensor:
        return self.picture * (1 + 0.1 * z)


def fake(step: Step) -> Tensor:
    made: Tensor = step.shared("fake", lambda: step.G(step.randn("z", (1, 1, 1))), of=("G",))
    return made


def game(seen: Seen, told: bool = True, family: Any = NONSATURATING) -> tuple[Any, Losses, Schedule]:
    """A GAN on 8 x 8 pictures with a gradient penalty every other step."""
    rules = family()

    def d(step: Step) -> Terms:
        real, made = step.D(step.batch.real), step.D(fake(step).detach())
        if told:
            step.judged(rules, real=real, fake=made)
        return {"d": rules.d(real, made)}

    def penalty(step: Step) -> Terms:
        x = step.batch.real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(step.D(x).sum(), x, create_graph=True)
        return {"r1": slope.square().sum((1, 2, 3))}

    phases = (
        Phase("d", ("D",), "d", "d"),
        Phase("r1", ("D",), "r1", "d", every=2, second_order=True),
        Phase("g", ("G",), "g", "g"),
    )
    networks = lambda *_: {"G": Brush(), "D": Judge(seen, 3)}  # noqa: E731
    losses = {"d": d, "r1": penalty, "g": lambda step: {"g": rules.g(step.D(fake(step)))}}
    return networks, losses, one_stage(*phases, optimizers={"d": sgd(1e-3), "g": sgd(1e-3)})


# -- what goes through ----------------------------------------------------------------------------------------------


def test_real_and_fake_go_through_in_every_phase_with_draws_keyed_by_step_phase_and_call(lab: MakeLab) -> None:
    seen: Seen = []
    plain: Seen = []
    lab(*game(plain), augment="none").run(2)
    lab(*game(seen), augment="diffaugment").run(2)
    # step 0: D(real), D(fake), D(real) of R1, D(fake) of G; step 1 without R1
    calls = [(0, "d", 0), (0, "d", 1), (0, "r1", 0), (0, "g", 0), (1, "d", 0), (1, "d", 1), (1, "g", 0)]
    assert len(seen) == len(plain) == len(calls)
    augment = DiffAugment(RunOptions(), torch.device("cpu"))
    for (pictures,), (given,), (step, phase, call) in zip(seen, plain, calls, strict=True):
        if phase in ("d", "r1") and call == 0:  # real ones are the same in both runs; G and D differ from step 1 on
            key = keyed.key(keyed.key(keyed.key(0, "step", step, 0), phase), "D", call)
            drawn = uniform(keyed.key(key, "augment"), 0, (4, 7))
            torch.testing.assert_close(pictures, augment(given, drawn))
        assert not torch.equal(pictures, given)
    assert not torch.equal(seen[0][0], seen[2][0])  # the same real pictures, another phase


def test_parts_of_a_batch_draw_what_the_whole_would(lab: MakeLab) -> None:
    whole: Seen = []
    parts: Seen = []
    options = {"augment": "diffaugment", "instance_noise": 0.5}
    lab(*game(whole), **options).run(1)
    lab(*game(parts), accumulate=2, **options).run(1)
    reals = torch.cat((parts[0][0], parts[2][0]))
    torch.testing.assert_close(reals, whole[0][0])


def test_views_are_left_alone(lab: MakeLab) -> None:
    seen: Seen = []
    networks, losses, schedule = game(seen)

    def look(step: Step, n: int) -> dict[str, Tensor]:
        step.D(step.batch.real)
        assert torch.equal(seen[-1][0], step.batch.real)
        return {"real": step.batch.real}

    view = {"grid": View(look, "real pictures")}
    trainer = lab(networks, losses, schedule, views=view, preview=4, augment="diffaugment", instance_noise=1.0).run(1)
    assert trainer.players.networks["D"].training
    assert any(pictures[0].shape[0] == 4 for pictures in seen)


def test_pictures_of_one_call_have_one_geometry_and_other_tensors_stay(lab: MakeLab) -> None:
    seen: Seen = []
    networks, _, schedule = game(seen)

    def d(step: Step) -> Terms:
        real, n = step.batch.real, step.batch.size
        return {"d": step.D(real, torch.cat((real, -real), 1), torch.ones(n, 3, 1, 1), torch.ones(n, 2)).mean(1)}

    losses = {"d": d, "r1": d, "g": lambda step: {"g": fake(step).mean((1, 2, 3))}}
    lab(networks, losses, schedule, augment="diffaugment", augment_policy="translation,cutout").run(1)
    first, pair, latent, vector = seen[0]
    assert torch.equal(pair, torch.cat((first, -first), 1))
    assert bool((latent == 1).all())
    assert bool((vector == 1).all())


def test_noise_is_normal_and_falls_to_nothing_over_the_horizon(lab: MakeLab) -> None:
    seen: Seen = []
    plain: Seen = []
    lab(*game(plain)).run(6)
    lab(*game(seen), instance_noise=0.5, horizon=16).run(6)
    at = [0, 4, 7, 11, 14, 18]  # D(real) of each step
    strengths = [float((seen[i][0] - plain[i][0]).std()) for i in at]
    assert strengths == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.0, 0.0], rel=0.08)
    noise = seen[0][0] - plain[0][0]
    assert not torch.equal(noise[0], noise[1])


def test_the_critic_stays_what_it_is(lab: MakeLab) -> None:
    trainer = lab(*game([]), augment="diffaugment", instance_noise=0.1).run(1)
    critic = trainer.players.networks["D"]
    assert type(critic) is Judge
    assert list(critic.state_dict()) == ["score.weight", "score.bias"]
    x = torch.randn(2, 3, 8, 8)
    critic(x)
    assert torch.equal(critic.seen[-1][0], x)  # in a notebook, outside the engine, nothing happens


# -- going on -------------------------------------------------------------------------------------------------------


def test_adaptive_augmentation_goes_on_byte_for_byte_with_p_in_the_checkpoint(lab: MakeLab) -> None:
    options = {"augment": "ada", "ada_images": 40, "ada_target": -0.5, "instance_noise": 0.1}
    unbroken, broken = lab(*game([]), **options), lab(*game([]), **options)
    unbroken.run(11)
    for step in (5, 6, 11):
        broken.run(step)
    assert broken.files() == unbroken.files()
    state = unbroken.saved.state["augment"]["augmentation"]
    assert float(state["p"]) == pytest.approx(0.8)
    readings = [line["d"] for line in unbroken.log]
    assert all({"real", "fake", "ada_p", "ada_r"} <= set(line) for line in readings)
    assert [line["ada_p"] for line in readings] == pytest.approx([0, 0, 0, 0.4, 0.4, 0.4, 0.4, 0.8, 0.8, 0.8, 0.8])


def test_signs_are_means_over_parts_and_updates(lab: MakeLab) -> None:
    signs = iter([1.0, 0.0, -1.0, 0.0])
    networks, losses, schedule = game([])
    first = losses["d"]

    def d(step: Step) -> Terms:
        terms = first(step)
        step.signs[:] = [torch.tensor(next(signs))]
        return terms

    trainer = lab(networks, {**losses, "d": d}, schedule, augment="ada", accumulate=2).run(2)
    assert trainer.critics.state_dict()["augmentation"]["sum"].item() == pytest.approx(0.5 - 0.5)
    assert trainer.critics.state_dict()["augmentation"]["count"] == 2


# -- an augmentation of one's own -----------------------------------------------------------------------------------


class Invert(Augmentation):
    """Turns every picture into its negative."""

    groups = ("all",)
    numbers = 0

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return -images


def test_a_plugin_brings_an_augmentation(lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = registry().entries["augmentation"]
    record = Component("invert", "negatives", f"{__name__}:Invert")
    monkeypatch.setitem(entries, "invert", dataclasses.replace(entries["ada"], record=record))
    seen: Seen = []
    plain: Seen = []
    lab(*game(plain)).run(1)
    lab(*game(seen), augment="invert").run(1)
    assert torch.equal(seen[0][0], -plain[0][0])


# -- options that do not fit ----------------------------------------------------------------------------------------


def without_critic() -> tuple[Any, Losses, Schedule]:
    one = one_stage(Phase("g", ("G",), "g", "g"), optimizers={"g": sgd(0.1)})
    return lambda *_: {"G": Brush()}, {"g": lambda step: {"g": fake(step).mean((1, 2, 3))}}, one


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda: game([]), {"augment": "difaugment"}, PluginError, 'No augmentation is called "difaugment".*diffaug'),
        (lambda: game([]), {"augment": "ada", "augment_policy": "colour"}, UserError, "some of blit,geometry,color"),
        (lambda: game([]), {"augment_policy": "color"}, UserError, "--augment-policy color: expected --augment beside"),
        (without_critic, {"augment": "ada"}, UserError, "--augment: expected a game with a critic, .* trains G"),
        (without_critic, {"instance_noise": 0.1}, UserError, "--instance-noise: expected a game with a critic"),
        (lambda: game([]), {"spectral_norm": "d"}, UserError, r'networks that are trained \(D, G\), got "d"'),
        (lambda: game([]), {"spectral_norm": "D,G"}, UserError, 'expected a network with plain weights, got "G"'),
    ],
)  # fmt: skip
def test_what_would_do_nothing_is_refused_before_training(
    lab: MakeLab, make: Callable[[], Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lab(*make(), **options).trainer()


@pytest.mark.parametrize("how", [{"told": False}, {"family": WASSERSTEIN}])
def test_losses_that_tell_nothing_are_refused_by_ada_alone(lab: MakeLab, how: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"--augment ada: expected losses that tell .* Use --augment diffaugment"):
        lab(*game([], **how), augment="ada").run(1)
    lab(*game([], **how), augment="diffaugment").run(1)


# -- spectral norm --------------------------------------------------------------------------------------------------


def test_spectral_norm_is_an_option_of_every_game_and_goes_on_exactly(lab: MakeLab) -> None:
    unbroken, broken = (lab(*game([], family=HINGE), spectral_norm="D") for _ in range(2))
    trainer = unbroken.run(6)
    for step in (3, 6):
        broken.run(step)
    assert broken.files() == unbroken.files()
    layer = trainer.players.networks["D"].score
    assert isinstance(layer, nn.Linear)
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, abs=1e-5)
    names = set(unbroken.saved.networks)
    assert {f"D/score.parametrizations.weight.{part}" for part in ("original", "0.u", "0.v")} <= names
    assert not any(re.match("G/.*parametrizations", name) for name in names)


def used(bench: Lab) -> Tensor:
    logits: Tensor = bench.trainer().players.networks["D"].eval()(torch.ones(1, 3, 8, 8))
    return logits


def test_first_vectors_follow_from_the_seed(lab: MakeLab) -> None:
    torch.manual_seed(1)
    one = used(lab(*game([]), spectral_norm="D"))
    torch.manual_seed(2)
    assert torch.equal(one, used(lab(*game([]), spectral_norm="D")))


def test_the_reading_of_a_family_without_zero_is_logged_all_the_same(lab: MakeLab) -> None:
    bench = lab(*game([], family=WASSERSTEIN))
    bench.run(1)
    assert {"real", "fake"} <= set(bench.log[0]["d"])


def test_critics_may_have_other_names(lab: MakeLab) -> None:
    seen: Seen = []

    def d(step: Step) -> Terms:
        return {"d": F.softplus(-step.D_A(step.batch.real)).mean(1)}

    schedule = one_stage(Phase("d", ("D_A",), "d", "d"), optimizers={"d": sgd(0.1)}, critics=("D_A", "D_B"))
    plain: Seen = []
    lab(lambda *_: {"D_A": Judge(plain, 3)}, {"d": d}, schedule).run(1)
    lab(lambda *_: {"D_A": Judge(seen, 3)}, {"d": d}, schedule, augment="diffaugment").run(1)
    assert not torch.equal(seen[0][0], plain[0][0])
