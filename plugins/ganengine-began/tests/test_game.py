"""Losses, k and the rules of the learning rate against hand calculation, and steps of the engine against float64."""

from __future__ import annotations

import copy
import dataclasses
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.cli import main
from ganengine.data import Batch
from ganengine.plugins import add_path
from ganengine.step import Step
from ganengine.testing.subject import Subject
from ganengine.variant import Progress
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine_began import losses, schedule
from ganengine_began.config import BEGANConfig
from ganengine_began.views import solve

add_path(Path(__file__).parents[1])


class Fading(nn.Module):
    """D(v) = a v, so that R(v) = |1 - a| mean |v|."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.25, dtype=torch.float64))
        self.encoder = nn.Identity()

    def decoder(self, code: Tensor) -> Tensor:
        return self.a * code

    def forward(self, v: Tensor) -> Tensor:
        return self.decoder(self.encoder(v))


class Painter(nn.Module):
    """Paints b everywhere, whatever z is."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.b.expand(len(z), 1, 2, 2)


def test_losses_by_hand() -> None:
    real = torch.tensor([0.8, -0.4], dtype=torch.float64).reshape(2, 1, 1, 1).expand(-1, -1, 2, 2)
    step = Step({"G": Painter(), "D": Fading()}, Batch({"real": real}, torch.arange(2)), Progress(), seed=0)
    built = losses.build(BEGANConfig(gamma=0.5, repel=0))
    d, g = built["d"](step), built["g"](step)
    assert d["real"].tolist() == pytest.approx([0.6, 0.3])
    assert d["fake"].tolist() == pytest.approx([0.3, 0.3])
    assert torch.equal(d["fake"], g["g"])  # one pass for both
    assert set(g) == {"g"}  # repel 0: the paper's game
    assert {name: float(value) for name, value in step.measures.items()} == pytest.approx({"real": 0.45, "fake": 0.3})
    assert float(step.reports["M"]) == pytest.approx(0.45 + abs(0.5 * 0.45 - 0.3))
    # R(G(z)) = (1 - a) b: D's gradient with respect to a is -b, G's with respect to b is 1 - a
    assert torch.autograd.grad(d["fake"].mean(), step["D"].a, retain_graph=True)[0].item() == pytest.approx(-0.4)
    assert torch.autograd.grad(g["g"].mean(), step["G"].b)[0].item() == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ([[1.0, 0.0], [2.0, 0.0]], 1.0),  # one way
        ([[1.0, 0.0], [-3.0, 0.0]], 1.0),  # opposite counts as one way: the cosine is squared
        ([[1.0, 0.0], [0.0, 5.0]], 0.0),  # at right angles
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], 1 / 3),  # pairs: 0, 1/2, 1/2
        ([[1.0, 0.0]], 0.0),  # nothing to be like
    ],
)
def test_how_alike_codes_are(code: list[list[float]], expected: float) -> None:
    assert float(losses.alike(torch.tensor(code, dtype=torch.float64))) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(k=st.floats(0, 1), gamma=st.floats(0.1, 1), rate=st.floats(1e-3, 1), real=st.floats(0, 2), fake=st.floats(0, 2))
def test_k_follows_its_formula_and_stays_in_bounds(
    k: float, gamma: float, rate: float, real: float, fake: float
) -> None:
    update = schedule.build(BEGANConfig(gamma=gamma, lambda_k=rate)).update
    assert update is not None
    tensors = {"k": torch.tensor(k)}, {"real": torch.tensor(real), "fake": torch.tensor(fake)}
    found = update(*tensors)
    assert set(found) == {"k"}
    assert float(found["k"]) == pytest.approx(min(1.0, max(0.0, k + rate * (gamma * real - fake))), abs=1e-5)


def test_steps_are_those_of_the_paper() -> None:
    """Three steps of the engine against a loop in float64: step t weighs with k_t, both players at once."""
    subject = Subject("began", None)
    config = dataclasses.replace(
        subject.settings.config, lambda_k=0.5, lr=1e-3, lr_rule="constant", gamma=0.7, repel=0.3
    )
    engine = dataclasses.replace(subject.settings.engine, precision="fp32", ema_images=0)
    with subject.trainer(dataclasses.replace(subject.settings, config=config, engine=engine)) as trainer:
        mine: dict[str, Any] = {name: copy.deepcopy(net).double() for name, net in trainer.players.items()}
        adam = {name: torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.999)) for name, net in mine.items()}
        seen: list[tuple[Tensor, Tensor]] = []

        def watched(step: Step) -> dict[str, Tensor]:
            z = step.latent("z", schedule_prior(config))
            seen.append((step.batch["real"].double(), z.double()))
            ks.append(float(step.state["k"]))
            terms: dict[str, Tensor] = original(step)
            return terms

        ks: list[float] = []
        original = trainer.updater.losses["d"]
        trainer.updater.losses["d"] = watched  # type: ignore[index]
        k = 0.0
        for _ in range(3):
            trainer.round()
            real, z = seen[-1]
            assert ks[-1] == pytest.approx(k, abs=1e-6)
            fake = mine["G"](z)
            on_real = (real - mine["D"](real)).abs().mean()
            on_fake = (fake - mine["D"](fake)).abs().mean()
            d = torch.autograd.grad(on_real - k * on_fake, list(mine["D"].parameters()), retain_graph=True)
            code = mine["D"].encoder(fake)
            cosines = [torch.cosine_similarity(a, b, 0) ** 2 for a, b in permutations(code, 2)]
            g = torch.autograd.grad(on_fake + 0.3 * torch.stack(cosines).mean(), list(mine["G"].parameters()))
            for name, gradients in (("D", d), ("G", g)):
                for parameter, gradient in zip(mine[name].parameters(), gradients, strict=True):
                    parameter.grad = gradient
                adam[name].step()
            k = min(1.0, max(0.0, k + 0.5 * (0.7 * on_real.item() - on_fake.item())))
            assert float(trainer.state["k"]) == pytest.approx(k, abs=1e-6)
        assert k > 0
        for name, net in trainer.players.items():
            for a, b in zip(net.parameters(), mine[name].parameters(), strict=True):
                torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-5)


def schedule_prior(config: BEGANConfig) -> Any:
    from ganengine_began.views import build

    return build(config)["samples"].prior


# -- the learning rate ---------------------------------------------------------------------------------------------


def followed(values: list[float], patience: int) -> list[dict[str, float]]:
    state = {name: torch.tensor(0.0) for name in ("M", "lowest", "stalled", "halvings")}
    found = []
    for value in values:
        state = schedule.stalled(state, torch.tensor(value), patience)
        found.append({name: float(number) for name, number in state.items()})
    return found


def test_the_plateau_rule_by_hand() -> None:
    falling = followed([1.0 * 0.9**t for t in range(60)], 3)
    assert falling[0] == pytest.approx({"M": 1.0, "lowest": 1.0, "stalled": 0, "halvings": 0})
    assert falling[1]["M"] == pytest.approx(0.99 * 1.0 + 0.01 * 0.9)
    assert falling[1]["stalled"] == 1  # 0.999 is not below 0.99
    flat = followed([0.5] * 8, 3)
    assert [each["halvings"] for each in flat] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert [each["stalled"] for each in flat] == [0, 1, 2, 0, 1, 2, 0, 1]
    patient = followed([1.0 * 0.9**t for t in range(60)], 30)
    assert patient[-1]["halvings"] == 0
    assert patient[-1]["lowest"] < 0.7


def rates(config: BEGANConfig, points: list[tuple[int, dict[str, float]]]) -> list[float]:
    game = schedule.build(config)
    return [game.at(Progress(step=step), {"k": 0.0, **state})[0][0].lr for step, state in points]


def test_rates_of_each_rule() -> None:
    base = BEGANConfig(lr=8e-5, lr_floor=2e-5, halve_every=100)
    assert rates(base, [(0, {}), (10_000, {})]) == [8e-5, 8e-5]
    halving = dataclasses.replace(base, lr_rule="halving")
    assert rates(halving, [(0, {}), (99, {}), (100, {}), (200, {}), (900, {})]) == [8e-5, 8e-5, 4e-5, 2e-5, 2e-5]
    plateau = dataclasses.replace(base, lr_rule="plateau")
    assert rates(plateau, [(0, {"halvings": h}) for h in (0.0, 1.0, 2.0, 5.0)]) == [8e-5, 4e-5, 2e-5, 2e-5]
    low = dataclasses.replace(plateau, lr=1e-5)  # a floor above the rate does not raise it
    assert rates(low, [(0, {"halvings": 3.0})]) == [1e-5]


# -- resume, views -------------------------------------------------------------------------------------------------


def test_going_on_keeps_k_and_the_rule_exactly(tmp_path: Path) -> None:
    words = ["--size", "16", "--batch", "2", "--latent", "4", "--filters", "2", "--lambda-k", "0.1", "--gamma", "0.9"]
    words += [
        "--lr-rule",
        "plateau",
        "--patience",
        "2",
        "--tick-every",
        "1",
        "--threads",
        "1",
        "--preview",
        "0",
    ]

    def run(name: str, steps: int) -> Path:
        out = tmp_path / name
        assert main(["run", "began", *words, "--max-steps", str(steps), "--out", str(out)]) == 0
        return out

    whole, parted = run("whole", 6), run("parted", 3)
    assert main(["resume", str(parted), "--max-steps", "6"]) == 0
    lines = [
        [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for out in (whole, parted)
    ]
    states = [[line["state"] for line in each] for each in lines]
    assert len(states[0]) == 6
    assert states[0] == states[1]
    assert [line["lr"] for line in lines[0]] == [line["lr"] for line in lines[1]]
    assert states[0][-1]["k"] != states[0][2]["k"]
    assert states[0][-1]["k"] > 0
    assert states[0][-1]["halvings"] >= 1
    newest = [max((out / "checkpoints").iterdir()) for out in (whole, parted)]
    assert len({(path / "networks.safetensors").read_bytes() for path in newest}) == 1


def test_the_latent_of_a_picture_is_found() -> None:
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)))
    wanted = torch.tensor([[0.5, -0.25, 0.8], [-0.9, 0.1, 0.0]])
    with torch.no_grad():
        found = solve(G, G(wanted), torch.zeros(2, 3), steps=400)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.1)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in G.parameters())
    with torch.no_grad():
        outside = solve(G, G(torch.tensor([[3.0, 0.0, 0.0]])), torch.zeros(1, 3))
    assert outside.abs().max() <= 1


def test_views() -> None:
    subject = Subject("began", None)
    with subject.trainer() as trainer:
        sampler, batch = trainer.sampler(), trainer.loader.fixed("train", 3)
        found = sampler.grid(sampler.view("grid", "reconstructions"), batch, 3)
        assert list(found) == ["real", "D(real)", "fake", "D(fake)"]
        torch.testing.assert_close(found["real"], batch["real"])
        way = sampler.grid(sampler.view("grid", "between"), batch, 3)
        assert list(way) == ["from", "0", "0.2", "0.4", "0.6", "0.8", "1", "to"]
        torch.testing.assert_close(way["to"], batch["real"].roll(-1, 0))
        torch.testing.assert_close(way["1"], way["0"].roll(-1, 0))
