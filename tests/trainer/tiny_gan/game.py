"""Batch norm, keyed dropout, a shared forward, a lazy second-order phase, a decaying rate, averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.data import DataOptions, Dataset
from ganengine.nn import BatchNorm2d, Dropout
from ganengine.ramps import linear_decay
from ganengine.step import Step
from ganengine.testing import Synthetic, synthetic_spec
from ganengine.variant import DataSpec, Optimizer, Phase, Schedule, Stage, View

Terms = dict[str, Tensor]


def data(argument: str, options: DataOptions) -> Dataset:
    """Return ten pictures of noise."""
    return Synthetic(synthetic_spec(("real",), options.size, 10))


def networks(config: Any, spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, 4, 1, 1] -> [N, C, 8, 8], and D: pictures -> logits [N, 1, 1, 1]."""
    channels, width = spec.channels("real"), config.width
    return {
        "G": nn.Sequential(
            nn.ConvTranspose2d(4, width, 4, 2), BatchNorm2d(width), nn.ReLU(), Dropout(0.3),
            nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh(),
        ),
        "D": nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 4)),
    }  # fmt: skip


def fake(step: Step) -> Tensor:
    """Return G's pictures of this step."""
    made: Tensor = step.shared("fake", lambda: step.G(step.randn("z", (4, 1, 1))), of=("G",))
    return made


def judge(step: Step, pictures: Tensor) -> Tensor:
    """Return D's logits [N]."""
    logits: Tensor = step.D(pictures).flatten(1).mean(1)
    return logits


def losses(config: Any) -> dict[str, Callable[[Step], Terms]]:
    """Return the nonsaturating losses and R1; names are long, so that equal strings may be two objects."""

    def critic(step: Step) -> Terms:
        real, made = judge(step, step.batch.real), judge(step, fake(step).detach())
        step.report("real", real.mean())
        return {"real": F.softplus(-real), "fake": F.softplus(made)}

    def penalty(step: Step) -> Terms:
        x = step.batch.real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(judge(step, x).sum(), x, create_graph=True)
        return {"r1": slope.square().sum((1, 2, 3))}

    def generator(step: Step) -> Terms:
        return {"generator": F.softplus(-judge(step, fake(step)))}

    return {"critic": critic, "penalty": penalty, "generator": generator}


def schedule(config: Any) -> Schedule:
    """Return critic, penalty at every third step, generator."""
    phases = (
        Phase("critic", ("D",), "critic", "critic"),
        Phase("penalty", ("D",), "penalty", "critic", every=3, second_order=True),
        Phase("generator", ("G",), "generator", "generator"),
    )
    adam = Optimizer(linear_decay(config.lr, constant=0.25), options={"betas": (0.5, 0.99)})
    return Schedule((Stage(phases),), {"critic": adam, "generator": adam}, averaged=("G",))


def views(config: Any) -> dict[str, View]:
    """Return a grid of samples."""

    def grid(step: Step, n: int) -> dict[str, Tensor]:
        return {"sample": step.G(step.randn("view", (4, 1, 1)))[:n]}

    return {"grid": View(grid, "samples")}
