"""Losses against numbers worked out by hand, the schedule, the views, and the plain loop that plays the same game."""

from __future__ import annotations

from math import exp, log1p
from typing import Any

import pytest
import torch
from ganengine.data import Batch
from ganengine.errors import UserError
from ganengine.step import Step
from ganengine.variant import DataSpec, FieldSpec, Progress, value_at
from torch import Tensor, nn

from ganengine_pix2pix import baseline, losses, networks, schedule, views
from ganengine_pix2pix.config import Pix2PixConfig

ARMS = ["l1", "gan", "cgan", "l1+gan", "l1+cgan"]


class Scale(nn.Module):
    """x -> factor * x, and a count of the calls."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.factor * x


class Mean(nn.Module):
    """x [N, C, H, W] -> factor * (mean over channels and columns), a map [N, 1, H, 1]."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.mean((1, 3), keepdim=True)


def toy_step(**options: Any) -> Step:
    """A is 1 and 0.5, B is 0 and -1; G halves its input; D doubles the mean of what it sees."""
    a = torch.tensor([1.0, 0.5]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    b = torch.tensor([0.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    batch = Batch({"A": a, "B": b}, torch.arange(2))
    return Step({"G": Scale(0.5), "D": Mean(2.0)}, batch, Progress(), seed=0, **options)


def sp(t: float) -> float:
    return log1p(exp(t))


# G(A) is 0.5 and 0.25. D(A, B) = 2 * mean(A, B), D(B) = 2 B, and the same for G(A).
REAL = {True: (1.0, -0.5), False: (0.0, -2.0)}
FAKE = {True: (1.5, 0.75), False: (1.0, 0.5)}


@pytest.mark.parametrize("arm", ARMS)
def test_losses_by_hand(arm: str) -> None:
    config = Pix2PixConfig(arm=arm)  # type: ignore[arg-type]
    built, step = losses.build(config), toy_step()
    sees_input = arm.endswith("cgan")
    real, fake = REAL[sees_input], FAKE[sees_input]
    assert set(built) == ({"g"} if arm == "l1" else {"d", "g"})
    if arm != "l1":
        terms = built["d"](step)
        expected = [(sp(-r) + sp(f)) / 2 for r, f in zip(real, fake, strict=True)]
        assert set(terms) == {"d"}
        assert terms["d"].tolist() == pytest.approx(expected)
        assert step.reports["real"].item() == pytest.approx(sum(1 / (1 + exp(-r)) for r in real) / 2)
        assert step.reports["fake"].item() == pytest.approx(sum(1 / (1 + exp(-f)) for f in fake) / 2)
    terms = built["g"](step)
    assert set(terms) == {"gan" if term != "l1" else "l1" for term in arm.split("+")}
    if "gan" in terms:
        assert terms["gan"].tolist() == pytest.approx([sp(-f) for f in fake])
    if "l1" in terms:
        assert terms["l1"].tolist() == pytest.approx([0.5, 1.25])
    assert step["G"].calls == 1


def test_direction_swaps_the_pair() -> None:
    step = toy_step()
    terms = losses.build(Pix2PixConfig(direction="BtoA", arm="l1"))["g"](step)
    assert terms["l1"].tolist() == pytest.approx([1.0, 1.0])  # |1 - 0| and |0.5 - (-0.5)|


def test_d_is_trained_on_a_constant_fake_and_g_through_d() -> None:
    built, step = losses.build(Pix2PixConfig()), toy_step()
    built["d"](step)["d"].sum().backward()  # type: ignore[no-untyped-call]
    assert step["G"].factor.grad is None
    assert step["D"].factor.grad is not None
    terms = built["g"](step)
    (by_gan,) = torch.autograd.grad(terms["gan"].sum(), step["G"].factor, retain_graph=True)
    # d sp(-l) / dl = -sigmoid(-l), and l = 2 * (A + w A) / 2 gives dl / dw = A.
    assert by_gan.item() == pytest.approx(-1.0 / (1 + exp(1.5)) - 0.5 / (1 + exp(0.75)))
    (by_l1,) = torch.autograd.grad(terms["l1"].sum(), step["G"].factor)
    assert by_l1.item() == pytest.approx(1.5)


def test_another_adversarial_loss_by_name() -> None:
    step = toy_step()
    terms = losses.build(Pix2PixConfig(adversarial="hinge"))["d"](step)
    assert terms["d"].tolist() == pytest.approx([(0 + 2.5) / 2, (1.5 + 1.75) / 2])
    with pytest.raises(UserError, match="nonsaturating"):
        losses.build(Pix2PixConfig(adversarial="nonsaturatin"))


# -- schedule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_phases_follow_the_arm_and_fit_the_losses(arm: str) -> None:
    config = Pix2PixConfig(arm=arm, lambda_l1=7.0)  # type: ignore[arg-type]
    game = schedule.build(config)
    rounds = game.at(Progress(), {})
    names = [[due.phase.name for due in together] for together in rounds]
    assert names == ([["g"]] if arm == "l1" else [["d"], ["g"]])
    assert {due.phase.loss for (due,) in rounds} == set(losses.build(config))
    assert {due.phase.params for (due,) in rounds} == {("G",)} | ({("D",)} if arm != "l1" else set())
    assert rounds[-1][0].phase.weights == ({"l1": 7.0} if "l1" in arm else {})
    assert set(game.optimizers) == {due.phase.optimizer for (due,) in rounds}
    assert all(o.name == "adam" and o.options == {"betas": (0.5, 0.999)} for o in game.optimizers.values())


@pytest.mark.parametrize(
    ("ramp", "images", "share"),
    [
        *[("linear", 0, 1), ("linear", 500, 1), ("linear", 750, 0.5), ("linear", 1000, 0)],
        *[("constant", 0, 1), ("constant", 2000, 1)],
        *[("sqrt", 0, 1), ("sqrt", 100, 1), ("sqrt", 400, 0.5), ("sqrt", 10_000, 0.1)],
    ],
)
def test_learning_rate_follows_its_ramp(ramp: Any, images: int, share: float) -> None:
    game = schedule.build(Pix2PixConfig(lr=1e-3, d_lr=1e-4, lr_ramp=ramp, lr_hold=100))
    (d,), (g,) = game.at(Progress(images=images, horizon=1000), {})
    assert (d.lr, g.lr) == pytest.approx((1e-4 * share, 1e-3 * share))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("lr", 0.0), ("lr", float("nan")), ("lr_hold", 0), ("lambda_l1", -1.0), ("dropout", 1.0)],
        *[("g_filters", 0), ("d_filters", 0), ("betas", (0.5, 1.0)), ("init_gain", 0.0)],
    ],
)
def test_numbers_outside_their_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')}: expected .*, got "):
        Pix2PixConfig(**{option: value})


# -- views ---------------------------------------------------------------------------------------------------------


def test_views() -> None:
    built = views.build(Pix2PixConfig())
    assert list(built) == ["triptych", "translate"]
    step = toy_step()
    columns = built["triptych"].make(step, 1)
    assert list(columns) == ["input", "output", "truth"]
    assert [column.shape for column in columns.values()] == [(1, 1, 2, 2)] * 3
    assert columns["output"].unique().tolist() == [0.5]
    assert built["translate"].make(step, torch.ones(3, 1, 5, 4)).shape == (3, 1, 5, 4)
    turned = views.build(Pix2PixConfig(direction="BtoA"))
    assert (turned["translate"].source, turned["translate"].target) == ("B", "A")
    assert turned["triptych"].make(step, 2)["input"].flatten(1)[:, 0].tolist() == [0.0, -1.0]


# -- the plain loop ------------------------------------------------------------------------------------------------


def test_the_baseline_plays_the_same_game(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Pix2PixConfig(g_filters=2, d_filters=2, receptive_field=16, dropout=0.0)
    image = FieldSpec("image", (3, 16, 16))
    spec = DataSpec({"A": image, "B": image}, count=8)
    torch.manual_seed(3)
    players = networks.build(config, spec, 0)
    torch.manual_seed(3)
    twins = networks.build(config, spec, 0)
    for network in (*players.values(), *twins.values()):
        network.double()
    monkeypatch.setattr(networks, "build", lambda *_: twins)
    plain_step = baseline.build(config, spec)

    built, game = losses.build(config), schedule.build(config)
    adams = {name: torch.optim.Adam(players[name].parameters(), lr=config.lr, betas=config.betas) for name in "DG"}
    for seed in range(3):
        fields = {name: torch.rand(4, 3, 16, 16, dtype=torch.float64) * 2 - 1 for name in "AB"}
        plain_step(fields)
        step = Step(players, Batch(fields, torch.arange(4)), Progress(), seed=seed)
        for (due,) in game.at(Progress(), {}):
            (name,) = due.phase.params
            terms = built[due.phase.loss](step)
            weights = {term: value_at(due.phase.weights.get(term, 1.0), Progress(), {}) for term in terms}
            loss = torch.stack([weights[term] * value.mean() for term, value in terms.items()]).sum()
            adams[name].zero_grad()
            loss.backward(inputs=list(players[name].parameters()))  # type: ignore[no-untyped-call]
            adams[name].step()
    for name in "GD":
        for ours, theirs in zip(players[name].parameters(), twins[name].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_baseline_has_torchs_own_dropout() -> None:
    config = Pix2PixConfig(g_filters=2)
    image = FieldSpec("image", (3, 32, 32))
    G = baseline.plain(networks.build(config, DataSpec({"A": image, "B": image}), 0)["G"])
    assert sum(type(module) is nn.Dropout for module in G.modules()) == 3
    assert "ganengine.nn.dropout" not in {type(module).__module__ for module in G.modules()}
