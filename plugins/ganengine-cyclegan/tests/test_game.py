"""Losses against numbers worked out by hand, the schedule, the views, and the plain loop that plays the same game."""

from __future__ import annotations

from math import exp, log1p
from typing import Any

import pytest
import torch
from ganengine.actions import ImagePool
from ganengine.data import Batch
from ganengine.errors import UserError
from ganengine.losses.equilibrium import equilibrium as of_family
from ganengine.step import Step
from ganengine.variant import DataSpec, FieldSpec, Progress, Stage, value_at
from torch import Tensor, nn

from ganengine_cyclegan import baseline, equilibrium, losses, networks, schedule, views
from ganengine_cyclegan.config import CycleGANConfig


class Scale(nn.Module):
    """x -> factor * x, and a count of the calls."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.factor * x


class Mean(nn.Module):
    """x [N, C, H, W] -> factor * (mean over channels and columns), a map [N, 1, H, 1]."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.mean((1, 3), keepdim=True)


def plane(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def toy_step(pool: int = 0) -> Step:
    """a is 1 and 0.5, b is 0 and -1; G doubles, F halves and turns the sign; D_A triples, D_B keeps the mean."""
    players = {
        "G": Scale(2.0),
        "F": Scale(-0.5),
        "D_A": Mean(3.0),
        "D_B": Mean(1.0),
        "pool_A": ImagePool(pool),
        "pool_B": ImagePool(pool),
    }
    return Step(players, Batch({"A": plane(1, 0.5), "B": plane(0, -1)}, torch.arange(2)), Progress(), seed=0)


# G(a) is 2 and 1, F(b) is 0 and 0.5; F(G(a)) is -1 and -0.5, G(F(b)) is 0 and 1; F(a) is -0.5 and -0.25, G(b) 0, -2.
JUDGED = {"A": (0.0, 1.5), "B": (2.0, 1.0)}
REAL = {"A": (3.0, 1.5), "B": (0.0, -1.0)}
DISTANCES = {
    "cycle_A": [2.0, 1.0],
    "cycle_B": [0.0, 2.0],
    "identity_A": [1.5, 0.75],
    "identity_B": [0.0, 1.0],
}


def sp(t: float) -> float:
    return log1p(exp(t))


def near(expected: list[float]) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_least_squares_by_hand() -> None:
    config = CycleGANConfig(lambda_identity=0.5)
    built, step = losses.build(config), toy_step()
    terms = built["g"](step)
    assert set(terms) == {"gan_A", "gan_B", *DISTANCES}
    (group,) = schedule.build(config).at(Progress(), {})
    weights = {due.phase.name: due.phase.weights for due in group}
    for side, logits in JUDGED.items():
        # The engine's least squares have a 1/2, the paper's G has none.
        assert terms[f"gan_{side}"].tolist() == near([(logit - 1) ** 2 / 2 for logit in logits])
        assert weights["g"][f"gan_{side}"] == 2.0
    for name, expected in DISTANCES.items():
        assert terms[name].tolist() == near(expected)
    assert [weights["g"][name] for name in DISTANCES] == [10.0, 10.0, 5.0, 5.0]
    of_d = built["d"](step)
    for side in "AB":
        halves = [((real - 1) ** 2 + fake**2) / 2 for real, fake in zip(REAL[side], JUDGED[side], strict=True)]
        weight = weights["d"][side]
        assert isinstance(weight, float)
        assert (weight * of_d[side]).tolist() == near(halves)
    assert step.reports["real"].item() == pytest.approx((4.5 / 2 - 0.5) / 2)
    assert step.reports["fake"].item() == pytest.approx((0.75 + 1.5) / 2)
    assert (step["G"].calls, step["F"].calls) == (2, 1), (
        "a batch is translated once for both phases; F brings back in the same pass, and beside it what is to stay"
    )


def test_log_form_by_hand() -> None:
    built, step = losses.build(CycleGANConfig(adversarial="nonsaturating")), toy_step()
    terms, of_d = built["g"](step), built["d"](step)
    for side, logits in JUDGED.items():
        assert terms[f"gan_{side}"].tolist() == near([sp(-logit) for logit in logits])
        pairs = zip(REAL[side], logits, strict=True)
        assert of_d[side].tolist() == near([(sp(-real) + sp(fake)) / 2 for real, fake in pairs])
    (group,) = schedule.build(CycleGANConfig(adversarial="nonsaturating")).at(Progress(), {})
    assert all(due.phase.weights.get(name, 1.0) == 1.0 for due in group for name in ("gan_A", "gan_B", "A", "B"))
    with pytest.raises(UserError, match="nonsaturating"):
        losses.build(CycleGANConfig(adversarial="nonsaturatin"))


@pytest.mark.parametrize(
    ("options", "terms", "calls"),
    [
        ({}, {"cycle_A", "cycle_B"}, (2, 1)),
        ({"lambda_cycle": 0.0}, set(), (1, 1)),
        ({"lambda_cycle": 0.0, "lambda_identity": 0.5}, set(), (1, 1)),
        ({"lambda_identity": 0.5}, set(DISTANCES), (2, 1)),
    ],
)
def test_what_has_no_weight_is_not_computed(options: dict[str, float], terms: set[str], calls: tuple[int, int]) -> None:
    step = toy_step()
    assert set(losses.build(CycleGANConfig(**options))["g"](step)) == {"gan_A", "gan_B", *terms}  # type: ignore[arg-type]
    assert (step["G"].calls, step["F"].calls) == calls


def test_each_player_learns_from_its_own_loss() -> None:
    built, step = losses.build(CycleGANConfig()), toy_step(pool=2)
    of_d = built["d"](step)
    torch.stack([term.sum() for term in of_d.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert step["G"].factor.grad is step["F"].factor.grad is None
    # The mean of 1/2 (D(a) - 1)^2 and 1/2 D(F(b))^2: a (3 a - 1) / 2 + F(b) 3 F(b) / 2, summed over the two samples.
    assert step["D_A"].factor.grad.item() == pytest.approx((1 * 2 + 0.5 * 0.5) / 2 + 0.5 * 1.5 / 2)
    terms = built["g"](step)
    (by_gan,) = torch.autograd.grad(terms["gan_B"].sum(), step["G"].factor, retain_graph=True)
    assert by_gan.item() == pytest.approx((2 - 1) * 1 + 0)  # (D(G(a)) - 1) dD(G(a))/dG, by a = 1 and a = 0.5
    (by_cycle,) = torch.autograd.grad(terms["cycle_A"].sum(), step["F"].factor)
    assert by_cycle.item() == pytest.approx(-(2 + 1))  # |F G(a) - a| with F G(a) < a


# -- the pools -----------------------------------------------------------------------------------------------------


def test_pools_look_back_in_both_directions() -> None:
    built, step = losses.build(CycleGANConfig(pool=3)), toy_step(pool=3)
    shown: dict[str, list[Tensor]] = {"D_A": [], "D_B": []}
    for name, seen in shown.items():
        step[name].register_forward_hook(lambda _, given, __, seen=seen: seen.append(given[0].flatten(1)[:, 0].clone()))
    model: dict[str, list[float]] = {"A": [], "B": []}
    for seed in range(20):
        a, b = float(seed), 100.0 + seed
        batch = Batch({"A": plane(a, a + 0.5), "B": plane(b, b + 0.5)}, torch.arange(2))
        turn = Step(step.networks, batch, Progress(), seed=seed)
        built["d"](turn)
        for side, made in (("A", [-b / 2, -b / 2 - 0.25]), ("B", [2 * a, 2 * a + 1])):
            expected, pool = [], model[side]
            for fake, (swap, place) in zip(made, turn.rand(f"pool_{side}", (2,)).tolist(), strict=True):
                if len(pool) < 3:
                    pool.append(fake)
                    expected.append(fake)
                elif swap < 0.5:
                    expected.append(pool[int(place * 3)])
                    pool[int(place * 3)] = fake
                else:
                    expected.append(fake)
            real, fakes = shown[f"D_{side}"][-1].split(2)
            assert real.tolist() == ([a, a + 0.5] if side == "A" else [b, b + 0.5])
            assert fakes.tolist() == near(expected)
    assert any(seen[2] < 0 for seen in shown["D_A"])
    assert model["A"] != model["B"]


# -- schedule ------------------------------------------------------------------------------------------------------


def test_all_players_step_at_once() -> None:
    game = schedule.build(CycleGANConfig())
    (group,) = game.at(Progress(), {})
    assert [(due.phase.name, due.phase.params) for due in group] == [("g", ("G", "F")), ("d", ("D_A", "D_B"))]
    assert {due.phase.loss for due in group} == set(losses.build(CycleGANConfig()))
    assert set(game.optimizers) == {"g", "d"}
    assert all(o.name == "adam" and o.options == {"betas": (0.5, 0.999)} for o in game.optimizers.values())
    assert game.averaged == ("G", "F")


@pytest.mark.parametrize(
    ("ramp", "images", "share"),
    [
        *[("linear", 0, 1), ("linear", 500, 1), ("linear", 750, 0.5), ("linear", 1000, 0)],
        *[("constant", 0, 1), ("constant", 2000, 1)],
    ],
)
def test_learning_rate_follows_its_ramp(ramp: Any, images: int, share: float) -> None:
    game = schedule.build(CycleGANConfig(lr=1e-3, d_lr=1e-4, lr_ramp=ramp))
    ((g, d),) = game.at(Progress(images=images, horizon=1000), {})
    assert (g.lr, d.lr) == pytest.approx((1e-3 * share, 1e-4 * share))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("lr", 0.0), ("d_lr", float("nan")), ("lambda_cycle", -1.0), ("lambda_identity", float("inf"))],
        *[("pool", -1), ("blocks", 0), ("g_filters", 0), ("d_filters", 0), ("betas", (0.5, 1.0)), ("init_gain", 0.0)],
    ],
)
def test_numbers_outside_their_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')}: expected .*, got "):
        CycleGANConfig(**{option: value})


def test_lines_of_the_report() -> None:
    found = equilibrium.build(CycleGANConfig())
    # D says 1/2 everywhere: each D 1/2 (1/4 + 1/4), in the log without the phase's weight of 2.
    assert found["loss"] == {"d": 0.5, "d.A": 0.125, "d.B": 0.125, "g.gan_A": 0.125, "g.gan_B": 0.125}
    assert found["d"] == {"real": 0.5, "fake": 0.5}
    log_form = of_family("nonsaturating", "mean")
    assert log_form is not None
    assert equilibrium.build(CycleGANConfig(adversarial="nonsaturating"))["loss"]["d"] == pytest.approx(2 * log_form.d)
    assert "g.gan_A" not in equilibrium.build(CycleGANConfig(adversarial="wasserstein"))["loss"]
    assert equilibrium.build(CycleGANConfig(adversarial="of-a-plugin")) == {}


# -- views ---------------------------------------------------------------------------------------------------------


def test_strips_and_translations() -> None:
    built, step = views.build(CycleGANConfig()), toy_step()
    strips = built["strips"].make(step, 2)
    firsts = {name: images.flatten(1)[:, 0].tolist() for name, images in strips.items()}
    assert firsts == {
        "A": [1, 0.5],
        "G(A)": [2, 1],
        "F(G(A))": [-1, -0.5],
        "B": [0, -1],
        "F(B)": [0, 0.5],
        "G(F(B))": [0, 1],
    }
    identity = built["identity"].make(step, 1)
    assert {name: images.flatten().unique().tolist() for name, images in identity.items()} == {
        "A": [1],
        "F(A)": [-0.5],
        "B": [0],
        "G(B)": [0],
    }
    one = torch.ones(3, 1, 5, 4, dtype=torch.float64)
    directions = {name: view for name, view in built.items() if view.kind == "translate"}
    assert next(iter(directions)) == "AtoB"
    assert {name: (v.source, v.target, v.make(step, one).unique().item()) for name, v in directions.items()} == {
        "AtoB": ("A", "B", 2.0),
        "BtoA": ("B", "A", -0.5),
        "AtoBtoA": ("A", "A", -1.0),
        "BtoAtoB": ("B", "B", -1.0),
    }


def test_an_identity_strip_needs_equal_channels() -> None:
    batch = Batch({"A": torch.zeros(1, 1, 4, 4), "B": torch.zeros(1, 3, 4, 4)}, torch.arange(1))
    step = Step(toy_step().networks, batch, Progress(), seed=0)
    with pytest.raises(UserError, match="equally many channels, got 1 and 3"):
        views.build(CycleGANConfig())["identity"].make(step, 1)


# -- the plain loop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [0.0, 0.5])
def test_the_baseline_plays_the_same_game(monkeypatch: pytest.MonkeyPatch, identity: float) -> None:
    config = CycleGANConfig(
        g_filters=2, d_filters=2, blocks=1, receptive_field=16, pool=0, lambda_identity=identity
    )  # fmt: skip
    image = FieldSpec("image", (3, 16, 16))
    spec = DataSpec({"A": image, "B": image}, count=8)
    torch.manual_seed(3)
    players = networks.build(config, spec, Stage(()))
    torch.manual_seed(3)
    twins = networks.build(config, spec, Stage(()))
    for network in (*players.values(), *twins.values()):
        network.double()
    monkeypatch.setattr(networks, "build", lambda *_: twins)
    plain_step = baseline.build(config, spec)

    built, game = losses.build(config), schedule.build(config)
    adams = {
        phase: torch.optim.Adam([p for name in names for p in players[name].parameters()], lr, config.betas)
        for phase, names, lr in (("g", "GF", config.lr), ("d", ("D_A", "D_B"), config.d_lr))
    }
    for seed in range(3):
        fields = {name: torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1 for name in "AB"}
        plain_step(fields)
        step = Step(players, Batch(fields, torch.arange(2)), Progress(), seed=seed)
        (group,) = game.at(Progress(), {})
        for due in group:
            phase = due.phase
            terms = built[phase.loss](step)
            weights = {term: value_at(phase.weights.get(term, 1.0), Progress(), {}) for term in terms}
            loss = torch.stack([weights[term] * value.mean() for term, value in terms.items()]).sum()
            inputs = [p for name in phase.params for p in players[name].parameters()]
            for parameter in inputs:
                parameter.grad = None
            loss.backward(inputs=inputs, retain_graph=True)  # type: ignore[no-untyped-call]
        for adam in adams.values():
            adam.step()
    for name in ("G", "F", "D_A", "D_B"):
        for ours, theirs in zip(players[name].parameters(), twins[name].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_baselines_pool_gives_back_what_it_was_given() -> None:
    pool, given, shown = baseline.Pool(5), [], []
    for number in range(200):
        given.append(float(number))
        shown += pool(plane(float(number))).flatten(1)[:, 0].tolist()
    assert shown[:5] == given[:5]
    assert len(pool.pictures) == 5
    late = [number for number, seen in zip(given, shown, strict=True) if number > 4 and seen != number]
    assert 60 < len(late) < 135  # 195 fair coins: six deviations are 42
    assert set(shown) | {float(picture[0, 0, 0, 0]) for picture in pool.pictures} == set(given)
    assert torch.equal(baseline.Pool(0)(plane(1.0, 2.0)), plane(1.0, 2.0))
