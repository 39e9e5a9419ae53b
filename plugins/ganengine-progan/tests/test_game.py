"""Losses against numbers worked out by hand, the levels of the schedule, and one step against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.config import parse
from ganengine.data import Batch
from ganengine.errors import UserError
from ganengine.plan import schedule_of
from ganengine.plugins import add_path, registry
from ganengine.step import Step
from ganengine.testing.subject import Subject
from ganengine.variant import Progress
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine_progan import losses, schedule
from ganengine_progan.config import SIDES, ProGANConfig
from ganengine_progan.networks import blended, down, up

add_path(Path(__file__).parents[1])


class Painter(nn.Module):
    """Paints -0.5 everywhere, and remembers alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(-0.5, dtype=torch.float64))
        self.alphas: list[float] = []

    def forward(self, z: Tensor, alpha: float) -> Tensor:
        self.alphas.append(alpha)
        return self.value.expand(len(z), 1, 2, 2)


class Judge(nn.Module):
    """l = 3 times the first pixel, and remembers alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
        self.alphas: list[float] = []

    def forward(self, x: Tensor, alpha: float) -> Tensor:
        self.alphas.append(alpha)
        return self.scale * x[:, 0, 0, 0]


def toy_step(progress: Progress) -> Step:
    real = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 0.5, 0.0, 0.5]], dtype=torch.float64).view(2, 1, 2, 2)
    return Step({"G": Painter(), "D": Judge()}, Batch({"real": real}, torch.arange(2)), progress, seed=0)


@pytest.mark.parametrize(
    ("progress", "alpha"),
    [
        (Progress(stage=0, stage_images=0), 1.0),  # the first level has nothing to fade in over
        (Progress(stage=1, stage_images=0), 0.0),
        (Progress(stage=1, stage_images=2), 0.25),
        (Progress(stage=2, stage_images=6), 0.75),
        (Progress(stage=1, stage_images=8), 1.0),
        (Progress(stage=3, stage_images=999), 1.0),
    ],
)
def test_losses_by_hand(progress: Progress, alpha: float) -> None:
    config = ProGANConfig(fade_images=8)
    assert config.alpha(progress) == alpha
    step, built = toy_step(progress), losses.build(config)
    # first pixels 1 and -1, means 0.25 and 0: what a fade makes of them
    pixels = [alpha * 1 + (1 - alpha) * 0.25, alpha * -1 + (1 - alpha) * 0]
    terms = built["d"](step)
    assert terms["d"].tolist() == pytest.approx([3 * -0.5 - 3 * pixel for pixel in pixels])
    assert terms["drift"].tolist() == pytest.approx([(3 * pixel) ** 2 for pixel in pixels])
    assert terms["gp"].tolist() == pytest.approx([4.0, 4.0])  # the gradient is 3 at one pixel: (3 - 1)^2
    assert step.reports["real"].item() == pytest.approx(sum(3 * pixel for pixel in pixels) / 2)
    assert step.reports["fake"].item() == pytest.approx(-1.5)
    assert built["g"](step)["g"].tolist() == pytest.approx([1.5, 1.5])
    assert set(step["D"].alphas + step["G"].alphas) == {alpha}


@settings(deadline=None, max_examples=30)
@given(alpha=st.floats(0, 1), seed=st.integers(0, 99))
def test_faded_pictures_keep_their_means_and_fade_linearly(alpha: float, seed: int) -> None:
    real = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = losses.faded(real, alpha)
    torch.testing.assert_close(down(found), down(real))
    torch.testing.assert_close(found, up(down(real)) + alpha * (real - up(down(real))))
    assert torch.equal(losses.faded(real, 1.0), real)
    assert torch.equal(blended(real, 2 * real, 0.0), 2 * real)


# -- the schedule ----------------------------------------------------------------------------------------------------


def options(*words: str) -> Any:
    return parse(registry().variant("progan"), list(words), "ganengine run progan")


def test_levels_of_the_paper() -> None:
    given_ = options("--preset", "paper")
    game = schedule_of(given_)
    assert [(s.name, s.size) for s in game.stages] == [(f"{side}x{side}", side) for side in SIDES]
    assert [s.images for s in game.stages] == [800_000, *[1_600_000] * 8]
    assert [s.batch for s in game.stages] == [16, 16, 16, 16, 16, 16, 14, 6, 3]
    assert all(stage.reset_optimizers for stage in game.stages)
    rates = [game.at(Progress(stage=level), {})[0][0].lr for level in range(9)]
    assert rates == [*[1e-3] * 8, 1.5e-3]
    (d,), (g,) = game.at(Progress(), {})
    assert (d.repeats, g.repeats) == (1, 1)
    assert d.phase.weights == {"gp": 10.0, "drift": 0.001}
    for optimizer in game.optimizers.values():
        assert optimizer.options == {"betas": (0.0, 0.99), "eps": 1e-8}
    # decay 0.999 of the average in a step of 16
    assert 0.5 ** (16 / given_.engine.ema_images) == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("size", [4, 8, 32, 1024])
def test_levels_above_the_size_are_left_out(size: int) -> None:
    assert [stage.size for stage in schedule_of(options("--size", str(size))).stages] == [s for s in SIDES if s <= size]


def test_a_size_that_no_level_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"--size: expected the size of a stage of progan \(4, 8, .*got 28. Use .* 16"):
        schedule_of(options("--size", "28"))


def test_further_levels_have_the_last_batch_or_that_of_the_run() -> None:
    stages = schedule.build(ProGANConfig(level_batch=(8, 4))).stages
    assert [stage.batch for stage in stages] == [8, *[4] * 8]
    assert {stage.batch for stage in schedule.build(ProGANConfig(level_batch=())).stages} == {None}


@pytest.mark.parametrize(
    "words",
    [
        ("--fade-images", "-1"), ("--stable-images", "0"), ("--latent", "0"), ("--level-batch", "8", "0"),
        ("--lr", "0"), ("--betas", "0", "1"), ("--gp-weight", "-1"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=f"{words[0]}: expected"):
        options(*words)


class WideStep(Step):
    """Draws in float64."""

    def randn(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return super().randn(name, shape).double()

    def rand(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        return super().rand(name, shape).double()


# -- one step --------------------------------------------------------------------------------------------------------


def test_a_step_in_a_fade_against_a_reference_in_float64() -> None:
    """D's first update of a level: the gradient of the three weighted terms, and Adam's first step of it."""
    subject = Subject("progan", None)
    with subject.trainer() as trainer:
        trainer.position.stage, trainer.position.images = 1, 4
        trainer.players, trainer.updater = trainer._build(1)
        config, networks = subject.settings.config, trainer.players.networks
        for network in networks.values():
            network.double()
        alpha = 4 / 8
        real = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        step = WideStep(networks, Batch({"real": real}, torch.arange(4)), trainer.progress(), seed=3)
        (due,), _ = trainer.schedule.at(trainer.progress(), {})
        trainer.updater.gradients(due, [step])
        D, G = networks["D"], networks["G"]
        found = [parameter.grad for parameter in D.parameters()]  # type: ignore[union-attr]
        assert all(parameter.grad is None for parameter in G.parameters())  # type: ignore[union-attr]

        fake = G(step.randn("z.d", (config.latent,)), alpha).detach()  # type: ignore[operator]
        small = (real[..., ::2, ::2] + real[..., 1::2, ::2] + real[..., ::2, 1::2] + real[..., 1::2, 1::2]) / 4
        soft = alpha * real + (1 - alpha) * small.repeat_interleave(2, 2).repeat_interleave(2, 3)
        share = step.rand("mix")[:, None, None, None]
        between = (share * soft + (1 - share) * fake).requires_grad_()
        slope = torch.autograd.grad(D(between, alpha).sum(), between, create_graph=True)[0]  # type: ignore[operator]
        penalty = ((slope.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
        on_real = D(soft, alpha)  # type: ignore[operator]
        loss = D(fake, alpha).mean() - on_real.mean()  # type: ignore[operator]
        loss = loss + 10 * penalty + 0.001 * on_real.square().mean()
        expected = torch.autograd.grad(loss, list(D.parameters()))  # type: ignore[union-attr]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
