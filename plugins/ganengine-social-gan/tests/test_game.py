"""Losses by hand, the variety loss against loops, and one step of the game against a float64 reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.config import parse
from ganengine.data import Batch, Loader
from ganengine.errors import UserError
from ganengine.plugins import add_path, registry
from ganengine.ragged import starts_of
from ganengine.session import data_options
from ganengine.step import Step
from ganengine.testing.subject import Subject
from ganengine.variant import Progress
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine_social_gan import equilibrium, losses, schedule
from ganengine_social_gan.config import SocialGANConfig

add_path(Path(__file__).parents[1])


class Walker(nn.Module):
    """Future j of everybody is z of its scene, at every step."""

    scale = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, observed: Tensor, starts: Tensor, z: Tensor) -> Tensor:
        rows = z.repeat_interleave(starts.diff(), 0)
        return self.gain * rows.unsqueeze(2).expand(-1, -1, 3, -1)


class Judge(nn.Module):
    """l = the sum of a path."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, path: Tensor) -> Tensor:
        return self.gain * path.sum((1, 2))


def toy(k: int = 4) -> tuple[Step, SocialGANConfig]:
    source = torch.Generator().manual_seed(1)
    counts = [2, 1, 3]
    fields = {"observed": torch.randn(6, 2, 2, generator=source), "future": torch.randn(6, 3, 2, generator=source)}
    starts = starts_of(torch.tensor(counts))
    batch = Batch(fields, torch.arange(3), dict.fromkeys(fields, starts))
    return Step({"G": Walker(), "D": Judge()}, batch, Progress(), seed=3), SocialGANConfig(noise=2, variety_k=k)


def bce(logit: float, label: float) -> float:
    return -label * math.log(1 / (1 + math.exp(-logit))) - (1 - label) * math.log(1 - 1 / (1 + math.exp(-logit)))


def test_terms_by_hand() -> None:
    step, config = toy()
    built = losses.build(config)
    batch, z = step.batch, step.randn("z", (4, 2))
    labels = {name: (0.7 + 0.5 * step.rand(f"label.{name}")).tolist() for name in "dg"}
    d, g = built["d"](step), built["g"](step)
    for scene, rows in enumerate((range(2), range(2, 3), range(3, 6))):
        real = [float(batch.observed[r].sum() + batch.future[r].sum()) for r in rows]
        fake = [float(batch.observed[r].sum() + 3 * z[scene, 0].sum()) for r in rows]
        n = len(rows)
        assert d["real"][scene].item() == pytest.approx(sum(bce(v, labels["d"][scene]) for v in real) / n, rel=1e-4)
        assert d["fake"][scene].item() == pytest.approx(sum(bce(v, 0) for v in fake) / n, rel=1e-4)
        assert g["adversarial"][scene].item() == pytest.approx(
            sum(bce(v, labels["g"][scene]) for v in fake) / n, rel=1e-4
        )
        errors = [
            sum(float((z[scene, j] - batch.future[r]).norm()) / 2 / math.sqrt(3) for r in rows) / n for j in range(4)
        ]
        assert g["variety"][scene].item() == pytest.approx(min(errors), rel=1e-5)
    assert all(0.7 <= label <= 1.2 for found in labels.values() for label in found)
    assert set(step.reports) == {"real", "fake"}


def test_d_does_not_reach_g_and_both_judge_the_same_futures() -> None:
    step, config = toy()
    built = losses.build(config)
    built["d"](step)["fake"].sum().backward()
    assert step["G"].gain.grad is None
    built["g"](step)["adversarial"].sum().backward()
    assert step["G"].gain.grad is not None


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    k=st.integers(1, 4),
    best=st.sampled_from(["scene", "person"]),
    distance=st.sampled_from(["norm", "squared"]),
)
def test_variety_is_its_formula(counts: list[int], k: int, best: Any, distance: Any) -> None:
    ways = torch.randn(sum(counts), k, 3, 2, generator=torch.Generator().manual_seed(k))
    config = SocialGANConfig(variety_best=best, variety_distance=distance)
    found = losses.variety(ways, starts_of(torch.tensor(counts)), config).tolist()
    expected = []
    for part in ways.split(counts):
        error = [[float(w.norm()) / 3**0.5 for w in person] for person in part]
        error = [[e * e if distance == "squared" else e for e in person] for person in error]
        columns = [sum(person[j] for person in error) for j in range(k)]
        expected.append((min(columns) if best == "scene" else sum(map(min, error))) / len(part))
    assert found == pytest.approx(expected, rel=1e-4)


def test_variety_has_a_slope_where_a_future_is_met_exactly() -> None:
    ways = torch.zeros(1, 2, 3, 2, requires_grad=True)
    losses.variety(ways, torch.tensor([0, 1]), SocialGANConfig()).sum().backward()
    assert ways.grad is not None
    assert ways.grad.isfinite().all()


def test_micro_batches_give_the_terms_of_the_whole() -> None:
    step, config = toy()
    built = losses.build(config)
    whole = {**built["d"](step), **built["g"](step)}
    parts = []
    for start, length in ((0, 1), (1, 2)):
        part = Step(step.networks, step.batch.narrow(start, length), Progress(), seed=3, rows=(start, 3))
        parts.append({**built["d"](part), **built["g"](part)})
    for name, term in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), term)


def test_the_schedule_is_d_then_g() -> None:
    game = schedule.build(SocialGANConfig(lr=2e-3, d_lr=1e-3, variety_weight=3.0))
    ((d,), (g,)) = game.at(Progress(), {})
    assert [(due.phase.params, due.lr) for due in (d, g)] == [(("D",), 1e-3), (("G",), 2e-3)]
    assert g.phase.weights == {"variety": 3.0}
    assert (game.optimizers["g"].clip_norm, game.optimizers["d"].clip_norm) == (2.0, None)


def test_equilibrium_holds_whatever_the_labels() -> None:
    step, config = toy()
    with torch.no_grad():
        step["D"].gain.zero_()
    built, lines = losses.build(config), equilibrium.build(config)["loss"]
    for name, term in {
        **{f"d.{n}": t for n, t in built["d"](step).items()},
        "g.adversarial": built["g"](step)["adversarial"],
    }.items():
        assert term.tolist() == pytest.approx([lines[name]] * 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"g_decoder": 8}, r"--g-decoder: expected more than --noise \(8\), got 8"),
        ({"variety_k": 0}, "--variety-k: expected at least 1, got 0"),
        ({"smoothing": (1.2, 0.7)}, "--smoothing: expected two numbers in order"),
        ({"smoothing": (1.0, 1.2)}, "labels of at most 1 on average"),
        ({"lr": 0.0}, "--lr: expected above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SocialGANConfig(**options)


def test_one_step_is_what_a_plain_loop_does() -> None:
    """Adam's first step by hand: every weight moves by lr g / (|g| + eps), g the clipped gradient, in float64."""
    subject = Subject("social-gan", None)
    words = [
        "--preset",
        "paper",
        "--batch",
        "3",
        "--variety-k",
        "2",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    chosen = parse(registry().variant("social-gan"), words, "test")
    with subject.trainer(chosen) as trainer, Loader(subject.dataset, data_options(chosen.engine)) as loader:
        networks = trainer.players.networks
        before = {name: [p.detach().clone() for p in networks[name].parameters()] for name in "GD"}
        batch = loader.draw(0, 3)
        step = Step(networks, batch, Progress(), 0)
        trainer_seed = {}

        def spy(loss: Any, name: str) -> Any:
            def called(step: Step) -> Any:
                trainer_seed[name] = step.seed
                return loss(step)

            return called

        trainer.updater.losses = {name: spy(loss, name) for name, loss in trainer.losses.items()}
        trainer.round()
        after = {name: [p.detach().double() for p in networks[name].parameters()] for name in "GD"}
        step = Step(networks, batch, Progress(), trainer_seed["d"])
        z, t = step.randn("z", (2, 8)), {name: 0.7 + 0.5 * step.rand(f"label.{name}") for name in "dg"}
        for name in "GD":
            for p, start in zip(networks[name].parameters(), before[name], strict=True):
                p.data.copy_(start)
        G, D = networks["G"].double(), networks["D"].double()
        observed, future, starts = batch.observed.double(), batch.future.double(), batch.starts("observed")

        def logits(path: Tensor) -> list[Tensor]:
            return list(D(torch.cat((observed, path), 1)).split(starts.diff().tolist()))

        def cross(found: list[Tensor], labels: Any) -> Tensor:
            parts = [
                (torch.nn.functional.softplus(one) - label * one).mean()
                for one, label in zip(found, labels, strict=True)
            ]
            return torch.stack(parts).mean()

        def stepped(network: nn.Module, total: Tensor, clip: float) -> list[Tensor]:
            found = torch.autograd.grad(total, list(network.parameters()))
            norm = torch.stack([g.norm() for g in found]).norm()
            found = tuple(g * min(1.0, clip / (float(norm) + 1e-6)) for g in found)
            return [p.detach() - 1e-3 * g / (g.abs() + 1e-8) for p, g in zip(network.parameters(), found, strict=True)]

        made = G(observed, starts, z.double())
        on_d = cross(logits(future), t["d"].double()) + cross(logits(made[:, 0].detach()), [0.0] * 3)
        moved = stepped(D, on_d, math.inf)
        for p, new in zip(D.parameters(), moved, strict=True):
            p.data.copy_(new)
        errors = ((made - future[:, None]).square().sum(-1).mean(-1) / G.scale**2).sqrt()
        best = torch.stack([part.mean(0).min() for part in errors.split(starts.diff().tolist())]).mean()
        on_g = cross(logits(made[:, 0]), t["g"].double()) + best
        # where a gradient is nearly 0 its sign is rounding, so shares are looked at
        for mine, theirs in ((moved, after["D"]), (stepped(G, on_g, 2.0), after["G"])):
            apart = torch.cat([(a - b).abs().flatten() for a, b in zip(mine, theirs, strict=True)])
            assert (apart < 2e-5).double().mean() > 0.99
            assert apart.max() <= 2.1e-3
