"""Memory: activations that are computed again, no graph that outlives its step, batches in parts."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from ganengine.config import Settings
from ganengine.losses.penalties import r1_penalty
from ganengine.nn import Dropout, InstanceNorm2d, convolution, resampled
from ganengine.ops.dispatch import compiled
from ganengine.plugins import registry
from ganengine.step import Step
from ganengine.testing import Synthetic, synthetic_spec
from ganengine.testing.subject import Subject
from ganengine.trainer import Trainer
from ganengine.variant import Optimizer, Phase

from .lab import MakeLab, Terms, one_stage

VARIANTS = ("pix2pix", "cyclegan", "dcgan", "cbn-gan", "wgan-gp")


@pytest.fixture(params=VARIANTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Return an installed variant at its smallest."""
    if request.param not in registry().entries["variant"]:
        pytest.skip(f"{request.param} is not installed")
    return Subject(request.param, None)


def settings(subject: Subject, *, again: bool) -> Settings:
    engine = dataclasses.replace(subject.settings.engine, checkpoint_activations=again)
    return dataclasses.replace(subject.settings, engine=engine)


@contextmanager
def played(subject: Subject, rounds: int, *, again: bool) -> Iterator[Trainer]:
    with subject.trainer(settings(subject, again=again)) as trainer:
        for _ in range(rounds):
            trainer.round()
        yield trainer


@pytest.mark.parametrize("kernels", ["as measured", "own"])
def test_computing_activations_again_changes_no_bit(
    subject: Subject, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own: float32 convolutions by our own kernels, which take along what stands in front of them."""
    if kernels == "own":
        if not compiled("convolution", "cpu"):
            pytest.skip("no compiled CPU kernels")
        for module in (convolution, resampled):
            monkeypatch.setattr(module, "kernels_pay", lambda dtype: dtype == torch.float32)
        monkeypatch.setattr(convolution, "LEAST_PRODUCTS", {torch.float32: 0})
    with played(subject, 2, again=False) as plain, played(subject, 2, again=True) as again:
        assert sum(plain.players.blocks.values()) == 0
        assert sum(again.players.blocks.values()) > 0
        mine, theirs = again.players.tensors(), plain.players.tensors()
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


def live(trainer: Trainer) -> tuple[int, int]:
    """Return how many tensors live, and how many nodes of graphs can be reached from them."""
    for batch in list(trainer.loader._pending.values()):
        batch.result()  # those ahead are always as many, once they are there
    gc.collect()
    # By the type's own record: some objects run code when they are asked for their class.
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    heads = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    nodes = set(heads)
    while heads:
        following = {node for node, _ in heads.pop().next_functions if node is not None} - nodes
        nodes |= following
        heads += following
    return len(tensors), len(nodes)


@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed again"])
def test_nothing_of_a_step_outlives_it(subject: Subject, again: bool) -> None:
    with played(subject, 3, again=again) as trainer:
        before = live(trainer)
        for _ in range(3):
            trainer.round()
        assert live(trainer) == before


def test_a_leak_is_seen(lab: MakeLab) -> None:
    kept: list[Tensor] = []

    def leaking(step: Step) -> Terms:
        kept.append(step.D(step.batch.real.flatten(1)).square().mean(1))
        return {"d": kept[-1]}

    trainer = lab(
        lambda *_: {"D": nn.Linear(3 * 64, 2)}, {"d": leaking},
        one_stage(Phase("d", ("D",), "d", "d"), optimizers={"d": Optimizer(1e-3)}),
    ).trainer()  # fmt: skip
    trainer.round()
    before = live(trainer)
    trainer.round()
    tensors, nodes = live(trainer)
    assert tensors > before[0]
    assert nodes > before[1]


def test_a_batch_in_parts_gives_the_same_weights(lab: MakeLab) -> None:
    """With keyed noise, dropout, statistics of single samples and a penalty on gradients: nothing of the batch."""

    def networks(*_: object) -> dict[str, nn.Module]:
        G = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
        D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), Dropout(0.3), nn.Flatten(), nn.Linear(144, 1))
        return {"G": G.double(), "D": D.double()}

    def fake(step: Step) -> Tensor:
        made: Tensor = step.shared("fake", lambda: step.G(step.randn("z", (2, 8, 8)).double()), of=("G",))
        return made

    def d(step: Step) -> Terms:
        real, made = step.batch.real.double(), fake(step).detach()
        hinge = (1 - step.D(real)).relu() + (1 + step.D(made)).relu()
        return {"hinge": hinge[:, 0], "r1": r1_penalty(step.D, real)}

    def g(step: Step) -> Terms:
        return {"g": -step.D(fake(step))[:, 0]}

    schedule = one_stage(
        Phase("d", ("D",), "d", "d"), Phase("g", ("G",), "g", "g"),
        optimizers={name: Optimizer(1e-2, "sgd") for name in "dg"},
    )  # fmt: skip
    ends = []
    for accumulate, again in ((1, False), (2, False), (4, True)):
        data = Synthetic(synthetic_spec(("real",), 8, 16))
        trainer = lab(
            networks, {"d": d, "g": g}, schedule, data=data, batch=8, accumulate=accumulate,
            checkpoint_activations=again,
        ).trainer()  # fmt: skip
        for _ in range(3):
            trainer.round()
        ends.append({name: tensor.clone() for name, tensor in trainer.players.tensors().items()})
    for parts in ends[1:]:
        for name, tensor in ends[0].items():
            torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-12, msg=name)
