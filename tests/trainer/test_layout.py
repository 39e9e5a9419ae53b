"""Memory layout: fused optimizers ignore strides, so gradients and moments must have the parameter's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganengine.players import same_layout
from ganengine.step import Step
from ganengine.variant import Optimizer, Phase, Schedule, Stage

from .lab import Lab, Losses, MakeLab, Terms


class Convolutions(nn.Module):
    """Kernels whose contiguous and channels-last orders differ."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 3, stride=2)).double()

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x.double())
        return features


def regress(step: Step) -> Terms:
    return {"fit": (step.G(step.batch.real) - 1).square().mean((1, 2, 3))}


def bench(lab: MakeLab, optimizer: Optimizer, channels_last: str, **options: Any) -> Lab:
    losses: Losses = {"fit": regress}
    schedule = Schedule((Stage((Phase("g", ("G",), "fit", "g"),)),), {"g": optimizer})
    return lab(
        lambda *_: {"G": Convolutions()}, losses, schedule, channels_last=channels_last, ema_images=50, **options
    )


OPTIMIZERS = {
    "adam": Optimizer(1e-2),
    "adamw": Optimizer(1e-2, "adamw", {"weight_decay": 0.1}),
    "sgd": Optimizer(1e-2, "sgd", {"momentum": 0.9}),
    "rmsprop": Optimizer(1e-3, "rmsprop"),
    "clipped": Optimizer(1e-2, clip_norm=1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_channels_last_trains_as_contiguous_does_also_after_going_on(lab: MakeLab, optimizer: Optimizer) -> None:
    plain, other = bench(lab, optimizer, "off"), bench(lab, optimizer, "on")
    expected = plain.run(6).players
    other.run(3)
    trainer = other.run(6)
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(trainer.players.tensors()[name], tensor, rtol=0, atol=1e-9, msg=name)
    weights = [p for p in trainer.players.networks["G"].parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in weights)
    (made,) = trainer.players.optimizers.values()
    for parameter in weights:
        for key, moment in made.state[parameter].items():
            if isinstance(moment, Tensor) and moment.dim():
                assert same_layout(moment, parameter), key


def test_adam_is_fused_so_that_the_trap_is_there(lab: MakeLab) -> None:
    (made,) = bench(lab, OPTIMIZERS["adam"], "on").trainer().players.optimizers.values()
    assert made.defaults["fused"] is True


def test_a_gradient_of_another_layout_is_put_in_order(lab: MakeLab) -> None:
    """Averaging over ranks gives contiguous gradients; the step must not read them in the parameter's order."""
    plain, other = bench(lab, OPTIMIZERS["adam"], "off"), bench(lab, OPTIMIZERS["adam"], "on")
    seen = []
    for run in (plain, other):
        trainer = run.trainer()
        (due,) = trainer.schedule.at(trainer.progress(), {})[0]
        for value in (1.0, 0.5):
            for number, parameter in enumerate(trainer.players.groups["g"]):
                values = torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape) * value + number
                parameter.grad = values  # contiguous
            assert trainer.updater.step(due)
        seen.append([p.detach().contiguous() for p in trainer.players.networks["G"].parameters()])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_networks_with_volumes_can_be_built(lab: MakeLab) -> None:
    losses: Losses = {
        "fit": lambda step: {"fit": step.G(step.batch.real[:, None].expand(-1, 2, -1, -1, -1)).mean((1, 2, 3, 4))}
    }
    schedule = Schedule((Stage((Phase("g", ("G",), "fit", "g"),)),), {"g": Optimizer(1e-2)})
    lab(lambda *_: {"G": nn.Conv3d(2, 3, 3, padding=1)}, losses, schedule, channels_last="on").run(2)


@pytest.mark.parametrize("other", [(6, 2, 1), (1, 3, 6)])
def test_same_layout_tells_orders_apart(other: tuple[int, ...]) -> None:
    a = torch.empty(2, 3, 1)
    b = torch.empty_strided((2, 3, 1), other)
    assert same_layout(a, a.clone())
    assert same_layout(a, b) == (a.stride()[:2] == other[:2])
