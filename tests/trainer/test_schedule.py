"""When phases run, on which batch, how strongly, and what follows them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganengine.actions import ImagePool, clip_weights
from ganengine.errors import PluginError, UserError
from ganengine.nn import Dropout
from ganengine.ramps import Linear
from ganengine.step import Step
from ganengine.variant import Group, Optimizer, Phase, Progress, Schedule, Stage, State

from .lab import Losses, MakeLab, Rows, Scalar, Terms, bits, one_stage, sgd, values

ONES = Rows(real=[[1.0]] * 64)
SIXTEEN = Rows(real=[[float(i)] for i in range(16)])


def one_weight(*_: Any) -> dict[str, nn.Module]:
    return {"P": Scalar(0.0)}


def slope_one(step: Step) -> Terms:
    """The loss is the weight itself, so plain descent lowers it by the learning rate."""
    return {"p": step.P(torch.ones(step.batch.size))}


P = Phase("p", ("P",), "p", "p")


def weight_after(lab: MakeLab, phase: Phase, optimizer: Optimizer, steps: int, **options: Any) -> float:
    schedule = one_stage(phase, optimizers={"p": optimizer})
    return values(lab(one_weight, {"p": slope_one}, schedule, data=ONES, **options).run(steps))["P"]


# -- how often, how strongly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (Phase("p", ("P",), "p", "p"), -8.0),
        (Phase("p", ("P",), "p", "p", every=4), -8.0),  # at steps 0 and 4, four times as strong
        (Phase("p", ("P",), "p", "p", every=4, gain=1.0), -2.0),
        (Phase("p", ("P",), "p", "p", gain=0.5), -4.0),
        (Phase("p", ("P",), "p", "p", weights={"p": 3.0}), -24.0),
        (Phase("p", ("P",), "p", "p", weights={"p": lambda at, state: at.step}), -28.0),  # 0 + 1 + ... + 7
        (Phase("p", ("P",), "p", "p", weights={"p": Linear(0, 8, end=32, unit="images")}), -28.0),
        (Phase("p", ("P",), "p", "p", when=lambda at, state: at.step >= 6), -2.0),
        (Phase("p", ("P",), "p", "p", repeats=3), -24.0),
        (Phase("p", ("P",), "p", "p", repeats=lambda at, state: at.step % 2), -4.0),
    ],
)
def test_gain_weight_gate_and_repeats(lab: MakeLab, phase: Phase, expected: float) -> None:
    assert weight_after(lab, phase, sgd(1.0), 8) == expected


def test_a_ramp_of_the_learning_rate_reaches_the_optimizer_and_the_log(lab: MakeLab) -> None:
    # From 1 to 0 over the horizon of 8 batches of 4: 1 + 7/8 + ... + 1/8 = 36/8. Eight more steps change nothing.
    schedule = one_stage(P, optimizers={"p": sgd(Linear(1.0, 0.0))})
    bench = lab(one_weight, {"p": slope_one}, schedule, data=ONES, horizon=32)
    assert values(bench.run(8))["P"] == -4.5
    assert values(bench.run(16))["P"] == -4.5
    # A line shows the rate of the step that follows it.
    assert [line["lr"] for line in bench.log[:8]] == [{"p": 1 - k / 8} for k in range(1, 9)]


@pytest.mark.parametrize(("limit", "expected"), [(None, -10.0), (1.0, -1.0), (100.0, -10.0)])
def test_a_gradient_is_clipped_by_its_norm(lab: MakeLab, limit: float | None, expected: float) -> None:
    phase = Phase("p", ("P",), "p", "p", weights={"p": 10.0})
    optimizer = Optimizer(1.0, "sgd", clip_norm=limit)
    assert weight_after(lab, phase, optimizer, 1) == pytest.approx(expected, rel=1e-6)


def test_the_norm_is_that_of_the_whole_phase(lab: MakeLab) -> None:
    # Gradients 3 and 4: norm 5, scaled to 1.
    losses: Losses = {"p": lambda step: {"a": 3 * step.A(_one(step)), "b": 4 * step.B(_one(step))}}
    schedule = one_stage(Phase("p", ("A", "B"), "p", "p"), optimizers={"p": Optimizer(1.0, "sgd", clip_norm=1.0)})
    bench = lab(lambda *_: {"A": Scalar(0.0), "B": Scalar(0.0)}, losses, schedule, data=ONES)
    assert values(bench.run(1)) == pytest.approx({"A": -0.6, "B": -0.8}, rel=1e-6)


def _one(step: Step) -> Tensor:
    return torch.ones(step.batch.size)


# -- which batch ----------------------------------------------------------------------------------------------------


def critic_game(seen: list[tuple[str, tuple[int, ...], float]]) -> tuple[Any, Losses]:
    def watch(name: str) -> Any:
        def loss(step: Step) -> Terms:
            noise = float(step.rand("z")[0])
            seen.append((name, tuple(step.batch.index.tolist()), noise))
            return {name: step[name.upper()](torch.ones(step.batch.size))}

        return loss

    return (lambda *_: {"D": Scalar(0.0), "G": Scalar(0.0)}), {"d": watch("d"), "g": watch("g")}


def test_every_repeat_of_a_critic_draws_a_batch_and_noise_of_its_own(lab: MakeLab) -> None:
    seen: list[tuple[str, tuple[int, ...], float]] = []

    def repeats(at: Progress, state: State) -> int:
        return 3 if at.step == 0 else 2

    networks, losses = critic_game(seen)
    phases = Phase("d", ("D",), "d", "d", repeats=repeats), Phase("g", ("G",), "g", "g")
    bench = lab(networks, losses, one_stage(*phases, optimizers={"d": sgd(1.0), "g": sgd(1.0)}), data=SIXTEEN)
    bench.run(2)
    assert [name for name, *_ in seen] == ["d", "d", "d", "g", "d", "d", "g"]
    assert [line["images"] for line in bench.log] == [12, 20]
    critics = [(index, noise) for name, index, noise in seen if name == "d"]
    assert len({noise for _, noise in critics}) == 5
    assert sorted(sum((index for index, _ in critics[:4]), ())) == list(range(16))  # an epoch without a repetition
    # G takes the critic's last batch: no real image is drawn for it.
    assert seen[3][1] == seen[2][1]
    assert seen[6][1] == seen[5][1]


def test_a_phase_may_ask_for_a_fresh_batch(lab: MakeLab) -> None:
    seen: list[tuple[str, tuple[int, ...], float]] = []
    networks, losses = critic_game(seen)
    phases = Phase("d", ("D",), "d", "d"), Phase("g", ("G",), "g", "g", fresh_batch=True)
    bench = lab(networks, losses, one_stage(*phases, optimizers={"d": sgd(1.0), "g": sgd(1.0)}), data=SIXTEEN)
    bench.run(2)
    assert sorted(sum((index for _, index, _ in seen), ())) == list(range(16))
    assert [line["images"] for line in bench.log] == [8, 16]
    assert len({noise for *_, noise in seen}) == 4, "a batch of its own has noise of its own"


def test_two_critics_in_one_step_see_different_noise(lab: MakeLab) -> None:
    seen: list[tuple[str, tuple[int, ...], float]] = []
    networks, losses = critic_game(seen)
    phases = Phase("d", ("D",), "d", "d", repeats=2), Phase("g", ("G",), "g", "g", repeats=2)
    bench = lab(networks, losses, one_stage(*phases, optimizers={"d": sgd(1.0), "g": sgd(1.0)}), data=SIXTEEN)
    bench.run(1)
    assert len({noise for *_, noise in seen}) == 4


def test_phases_that_share_a_batch_share_its_noise(lab: MakeLab) -> None:
    seen: list[tuple[str, tuple[int, ...], float]] = []
    networks, losses = critic_game(seen)
    phases = Phase("d", ("D",), "d", "d"), Phase("g", ("G",), "g", "g")
    lab(networks, losses, one_stage(*phases, optimizers={"d": sgd(1.0), "g": sgd(1.0)}), data=SIXTEEN).run(2)
    assert seen[0][1:] == seen[1][1:]
    assert seen[2][1:] == seen[3][1:]
    assert seen[0][2] != seen[2][2]


# -- sample weights, micro-batches ----------------------------------------------------------------------------------


def test_samples_count_by_their_weight(lab: MakeLab) -> None:
    # Loss p x_i, so the gradient is mean(w_i x_i) = (1*1 + 0*2 + 2*3 + 0.5*4) / 4.
    data = Rows(real=[[1.0], [2.0], [3.0], [4.0]], weight=[1.0, 0.0, 2.0, 0.5])
    losses: Losses = {"p": lambda step: {"p": step.P(step.batch.real[:, 0])}}
    bench = lab(one_weight, losses, one_stage(P, optimizers={"p": sgd(1.0)}), data=data)
    assert values(bench.run(1))["P"] == -2.25


class Noisy(nn.Module):
    """A G in float64 with dropout and without batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.LeakyReLU(0.2), Dropout(0.5), nn.Linear(16, 2)).double()

    def forward(self, z: Tensor) -> Tensor:
        painted: Tensor = self.layers(z.double())
        return painted


def small_gan() -> tuple[Any, Losses]:
    def networks(*_: Any) -> dict[str, nn.Module]:
        return {"G": Noisy(), "D": nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).double()}

    def fake(step: Step) -> Tensor:
        made: Tensor = step.shared("fake", lambda: step.G(step.randn("z", (3,))), of=("G",))
        return made

    def d(step: Step) -> Terms:
        real, made = step.D(step.batch.real.double()), step.D(fake(step).detach())
        return {"real": nn.functional.softplus(-real)[:, 0], "fake": nn.functional.softplus(made)[:, 0]}

    def g(step: Step) -> Terms:
        return {"g": nn.functional.softplus(-step.D(fake(step)))[:, 0]}

    return networks, {"d": d, "g": g}


PLANE = Rows(real=[[float(i % 3), float(i % 5)] for i in range(32)])
GAN = (Phase("d", ("D",), "d", "d"), Phase("g", ("G",), "g", "g"))
ADAMS = {"d": Optimizer(1e-2, options={"betas": (0.5, 0.9)}), "g": Optimizer(1e-2, options={"betas": (0.5, 0.9)})}


def test_micro_batches_give_the_same_weights(lab: MakeLab) -> None:
    networks, losses = small_gan()
    schedule = one_stage(*GAN, optimizers=ADAMS)
    whole = lab(networks, losses, schedule, data=PLANE, batch=8)
    parts = lab(networks, losses, schedule, data=PLANE, batch=8, accumulate=4)
    a, b = whole.run(5).players.tensors(), parts.run(5).players.tensors()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-12, msg=name)
    for one, other in zip(whole.log, parts.log, strict=True):
        assert one["loss"] == pytest.approx(other["loss"])
        assert one["images"] == other["images"]


def test_terms_of_the_whole_batch_refuse_micro_batches(lab: MakeLab) -> None:
    losses: Losses = {"p": lambda step: {"spread": step.P(step.batch.real[:, 0]).std(), "each": step.P(_one(step))}}
    schedule = one_stage(P, optimizers={"p": sgd(1.0)})
    lab(one_weight, losses, schedule, data=SIXTEEN).run(1)
    with pytest.raises(UserError, match=r'--accumulate: term "spread" of phase "p" .* Use --accumulate 1'):
        lab(one_weight, losses, schedule, data=SIXTEEN, accumulate=2).run(1)


def test_a_stages_batch_must_split_into_the_micro_batches(lab: MakeLab) -> None:
    schedule = Schedule((Stage((P,), batch=3),), {"p": sgd(1.0)}, averaged=())
    with pytest.raises(UserError, match=r"--accumulate: expected a divisor of .* 3"):
        lab(one_weight, {"p": slope_one}, schedule, data=ONES, accumulate=2).run(1)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (lambda step: {}, "returned no terms"),
        (lambda step: step.P(torch.ones(4)), r'The loss of phase "p" returned a Tensor \[4\]; expected {name: Tensor}'),
        (lambda step: {"p": 3.0}, r'Term "p" of phase "p": expected a Tensor \[4\] .*, got a float'),
        (lambda step: {"p": step.P(torch.ones(4, 2))}, r'Term "p" of phase "p": expected shape \[4\] .* got \[4, 2\]'),
        (lambda step: {"p": step.P(torch.ones(3))}, r"expected shape \[4\] .* got \[3\]"),
        (lambda step: {"p": torch.ones(4)}, r'loss of phase "p" .* depend'),
    ],
)
def test_a_loss_of_another_form_is_refused(lab: MakeLab, terms: Any, message: str) -> None:
    bench = lab(one_weight, {"p": terms}, one_stage(P, optimizers={"p": sgd(1.0)}), data=ONES)
    with pytest.raises(PluginError, match=message):
        bench.run(1)


# -- what follows a step --------------------------------------------------------------------------------------------


def test_weights_are_clipped_after_each_update_of_the_critic(lab: MakeLab) -> None:
    seen: list[float] = []

    def watch(step: Step) -> None:
        seen.append(float(step.P.value))

    phase = Phase("p", ("P",), "p", "p", repeats=2, after=(clip_weights("P", 0.75), watch))
    assert weight_after(lab, phase, sgd(0.5), 2) == -0.75
    assert seen == [-0.5, -0.75, -0.75, -0.75]


def pooled() -> tuple[Any, Losses, Schedule]:
    """G's samples go through a pool before D sees them, as CycleGAN's do."""
    networks, losses = small_gan()

    def d(step: Step) -> Terms:
        with torch.no_grad():
            made = step.G(step.randn("z", (3,)))
        return {"fake": step.D(step.pool(made, step.rand("pool", (2,))))[:, 0]}

    return (
        lambda *_: {**networks(), "pool": ImagePool(6)},
        {**losses, "d": d},
        one_stage(*GAN, optimizers=ADAMS),
    )


def test_an_image_pool_is_in_the_checkpoint(lab: MakeLab) -> None:
    unbroken, broken = lab(*pooled(), data=PLANE), lab(*pooled(), data=PLANE)
    pool = unbroken.run(6).players.networks["pool"]
    assert pool.images.shape == (6, 2)
    assert int(pool.count) == 6
    broken.run(3)
    broken.run(6)
    assert broken.files() == unbroken.files()


# -- second order ---------------------------------------------------------------------------------------------------


def test_a_gradient_penalty_moves_a_linear_critic_as_calculated(lab: MakeLab) -> None:
    # D(x) = w x has the gradient w everywhere: the penalty is (|w| - 1)^2, its derivative 2 (|w| - 1) w / |w|.
    start = torch.tensor([[3.0, 4.0]], dtype=torch.float64)

    def networks(*_: Any) -> dict[str, nn.Module]:
        critic = nn.Linear(2, 1, bias=False).double()
        critic.weight.data.copy_(start)
        return {"D": critic}

    def penalty(step: Step) -> Terms:
        x = step.batch.real.double().requires_grad_()
        (slope,) = torch.autograd.grad(step.D(x).sum(), x, create_graph=True)
        return {"gp": (slope.norm(dim=1) - 1) ** 2}

    phase = Phase("gp", ("D",), "gp", "d", weights={"gp": 10.0}, every=2, second_order=True)
    bench = lab(networks, {"gp": penalty}, one_stage(phase, optimizers={"d": sgd(1e-3)}), data=PLANE)
    got = bench.run(1).players.networks["D"].weight
    expected = start - 1e-3 * 2 * 10.0 * 2 * (5 - 1) * start / 5
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=1e-14)


# -- frozen players -------------------------------------------------------------------------------------------------


def test_g_learns_through_a_frozen_d(lab: MakeLab) -> None:
    networks, losses = small_gan()
    left: list[list[str]] = []

    def watch(step: Step) -> None:
        left.append([name for name, p in step.D.named_parameters() if p.grad is not None])

    phases = GAN[0], Phase("g", ("G",), "g", "g", after=(watch,))
    only_g = lab(networks, losses, one_stage(phases[1], optimizers=ADAMS), data=PLANE)
    before = only_g.trainer().players.networks
    after = only_g.run(3).players.networks
    assert bits(after["D"].parameters()) == bits(before["D"].parameters())
    assert all(a != b for a, b in zip(bits(after["G"].parameters()), bits(before["G"].parameters()), strict=True))
    lab(networks, losses, one_stage(*phases, optimizers=ADAMS), data=PLANE).run(2)
    assert left == [[]] * 5, "no gradient is made for D in G's phase, and none is left over from its own"


def test_a_phase_without_trainable_parameters_is_refused(lab: MakeLab) -> None:
    def networks(*_: Any) -> dict[str, nn.Module]:
        return {"P": Scalar(0.0).requires_grad_(False)}

    with pytest.raises(PluginError, match="A phase trains P, but no parameter there requires a gradient"):
        lab(networks, {"p": slope_one}, one_stage(P, optimizers={"p": sgd(1.0)}), data=ONES).trainer()


# -- schedules that cannot be run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule((), {}), "no stages"),
        (one_stage(P, P, optimizers={"p": sgd(1.0)}), "p stands twice"),
        (one_stage(P, optimizers={"q": sgd(1.0)}), 'optimizer "p"'),
        (one_stage(P, optimizers={"p": Optimizer(1.0, "sdg")}), 'No optimizer is called "sdg"'),
        (one_stage(P, optimizers={"p": sgd(1.0, momentun=0.9)}), "does not take these options"),
        (one_stage(Phase("p", ("P",), "q", "p"), optimizers={"p": sgd(1.0)}), 'uses loss "q"'),
        (one_stage(Phase("p", (), "p", "p"), optimizers={"p": sgd(1.0)}), "at least one parameter group"),
        (one_stage(Phase("p", ("P",), "p", "p", every=0), optimizers={"p": sgd(1.0)}), "every >= 1"),
        (
            one_stage(Group((P, Phase("q", ("P",), "p", "p", repeats=2))), optimizers={"p": sgd(1.0)}),
            "simultaneous group share one batch",
        ),
    ],
)
def test_a_schedule_that_cannot_be_run_is_refused_before_training(
    lab: MakeLab, schedule: Schedule, message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        lab(one_weight, {"p": slope_one}, schedule, data=ONES).trainer()
