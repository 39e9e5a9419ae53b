"""Losses against numbers worked out by hand, and one step against the formulas in float64."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.data import Batch
from ganengine.plugins import add_path
from ganengine.step import Step
from ganengine.testing.subject import Subject
from ganengine.variant import Phase, Progress
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_infogan import equilibrium, losses, schedule
from ganengine_infogan.config import InfoGANConfig
from ganengine_infogan.networks import build

add_path(Path(__file__).parents[1])


# -- information ---------------------------------------------------------------------------------------------------


def test_information_about_a_category_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0], [0.0, 100.0]], dtype=torch.float64)
    category = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    # log(3/4) + log 2, log(1/2) + log 2, log 1 + log 2
    expected = [math.log(1.5), 0.0, math.log(2)]
    assert losses.category_information(logits, category).tolist() == pytest.approx(expected)


def test_information_about_codes_by_hand() -> None:
    mean, codes = torch.tensor([[0.5, 0.0], [-0.5, 1.0]]), torch.tensor([[0.5, 1.0], [0.5, 1.0]])
    one = math.log(2) - 0.5 * math.log(2 * math.pi)  # of a code that is met, with a standard deviation of 1
    at_one = losses.code_information(mean, torch.zeros(2, 2), codes)
    assert at_one.tolist() == pytest.approx([2 * one - 0.5, 2 * one - 0.5])
    at_half = losses.code_information(mean, torch.full((2, 2), math.log(0.5)), codes)
    assert at_half.tolist() == pytest.approx([2 * (one + math.log(2)) - 2, 2 * (one + math.log(2)) - 2])
    assert one == pytest.approx(-0.2258, abs=1e-4)


def test_information_is_never_more_than_the_entropy() -> None:
    logits = 50 * torch.randn(200, 10, dtype=torch.float64)
    category = F.one_hot(torch.arange(200) % 10, 10).double()
    assert losses.category_information(logits, category).max() <= math.log(10) + 1e-12


# -- one step ------------------------------------------------------------------------------------------------------


def parameters(networks: dict[str, nn.Module], names: tuple[str, ...]) -> list[Tensor]:
    return [p for name in names for p in networks[name].parameters()]


@pytest.mark.parametrize("std", [1.0, 0.5, None])
def test_gradients_are_those_of_the_formulas(std: float | None) -> None:
    """d: sum of cross-entropies - lambda I for trunk, head and Q; g: -log D - lambda I for G; all in float64."""
    subject = Subject("infogan", None)
    config = InfoGANConfig(
        **{name.replace("-", "_"): v for name, v in subject.variant.smallest.items() if name not in ("size", "batch")},
        lambda_category=0.7, lambda_codes=0.3, code_std=std,
    )  # fmt: skip
    torch.manual_seed(0)
    networks = {
        name: net.double() for name, net in build(config, subject.dataset.spec, subject.schedule.stages[0]).items()
    }
    real = torch.rand(5, *subject.dataset.spec.fields["real"].shape, dtype=torch.float64) * 2 - 1
    step = Step(networks, Batch({"real": real}, torch.arange(5)), Progress(), seed=0)
    latent = {name: step.latent(f"z.{name}", config.prior).double() for name in "dg"}
    step.latent = lambda name, prior: latent[name[-1]]  # type: ignore[method-assign]
    phases = {phase.name: phase for phase in schedule.build(config).phases(0)}
    built = losses.build(config)

    def information(net: dict[str, Any], features: Tensor, z: Tensor) -> Tensor:
        out = net["Q"].out(net["Q"].hidden(features))
        log_q = -F.cross_entropy(out[:, :3], z[:, 3:6].argmax(1), reduction="none")
        sigma = torch.exp(out[:, 5:]) if std is None else torch.full_like(out[:, 3:5], std)
        log_n = torch.distributions.Normal(out[:, 3:5], sigma).log_prob(z[:, 6:]).sum(1)
        return 0.7 * (log_q + math.log(3)).mean() + 0.3 * (log_n + 2 * math.log(2)).mean()

    def total(phase: Phase) -> Tensor:
        terms = built[phase.loss](step)
        weights: Any = phase.weights
        return sum((weights.get(name, 1.0) * term.mean() for name, term in terms.items()), torch.zeros(()))

    for name, trained in (("d", ("D", "Q")), ("g", ("G",))):
        mine = copy.deepcopy(networks)
        fake = mine["G"](latent[name])
        features = mine["D"].trunk(fake)
        l_fake = mine["D"].head(features)[:, 0]
        if name == "d":
            l_real = mine["D"].head(mine["D"].trunk(real))[:, 0]
            expected = -(torch.log(torch.sigmoid(l_real)) + torch.log(1 - torch.sigmoid(l_fake))).mean()
        else:
            expected = -torch.log(torch.sigmoid(l_fake)).mean()
        expected = expected - information(mine, features, latent[name])
        got = total(phases[name])
        torch.testing.assert_close(got, expected)
        grads = torch.autograd.grad(got, parameters(networks, trained))
        wanted = torch.autograd.grad(expected, parameters(mine, trained))
        for a, b in zip(grads, wanted, strict=True):
            torch.testing.assert_close(a, b)
    found = math.log(3) - float(step.reports["I(category)"])
    assert found > 0
    assert set(step.reports) == {"real", "fake", "I(category)", "I(codes)"}


def test_phases_train_what_the_paper_says() -> None:
    config = InfoGANConfig()
    d, g = schedule.build(config).phases(0)
    assert (d.params, g.params) == (("D.trunk", "D.head", "Q"), ("G",))
    assert g.hold == ("D", "Q")
    (due_d,), (due_g,) = schedule.build(config).at(Progress(), {})
    assert (due_d.lr, due_g.lr) == (2e-4, 1e-3)
    assert all(o.options["betas"] == (0.5, 0.999) for o in schedule.build(config).optimizers.values())


def test_lambda_zero_teaches_q_nothing() -> None:
    subject = Subject("infogan", None)
    with subject.trainer() as trainer:
        Q = trainer.players.networks["Q"]
        before = copy.deepcopy(Q.state_dict())
        trainer.round()
        assert any(not torch.equal(before[name], p) for name, p in Q.named_parameters())
    without = dataclasses.replace(subject.settings.config, lambda_category=0.0, lambda_codes=0.0)
    with subject.trainer(dataclasses.replace(subject.settings, config=without)) as trainer:
        Q = trainer.players.networks["Q"]
        before = copy.deepcopy(Q.state_dict())
        trainer.round()
        assert all(torch.equal(before[name], p) for name, p in Q.named_parameters())


def test_a_g_that_shows_its_category_is_found_out() -> None:
    """The bound rises to nearly H(c) where G writes the category into the picture."""
    config = InfoGANConfig(noise=2, categories=3, codes=0)

    class Writer(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return (z[:, 2:] * 2 - 1).reshape(-1, 1, 1, 3)

    class Trunk(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            features = x.flatten(1)
            return features.sum(1), features

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            out = self.layer(features)
            return out, out[:, :0], out[:, :0]

    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {"G": Writer(), "D": Trunk(), "Q": Reader()}
    adam = torch.optim.Adam(networks["Q"].parameters(), 0.1)
    values = []
    for seed in range(60):
        step = Step(networks, Batch({"real": torch.zeros(32, 1, 1, 3)}, torch.arange(32)), Progress(), seed)
        terms = losses.build(config)["d"](step)
        adam.zero_grad()
        terms["category"].mean().backward()
        adam.step()
        values.append(float(step.reports["I(category)"]))
    assert values[0] < 0.5
    assert values[-1] > 0.95 * math.log(3)


def test_lines_of_the_report() -> None:
    lines = equilibrium.build(InfoGANConfig())
    assert lines["loss"] == {"d.d": pytest.approx(2 * math.log(2)), "g.g": pytest.approx(math.log(2))}
    assert lines["d"] == {"real": 0.5, "fake": 0.5}
    assert equilibrium.build(InfoGANConfig(adversarial="mine")) == {}
