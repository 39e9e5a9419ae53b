"""Batch norms (two of ours, one of torch's), minibatch deviation, dropout, a pool, penalties, measured state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import ranks
from ganengine.actions import ImagePool
from ganengine.data import DataOptions, Dataset
from ganengine.losses.penalties import gradient_penalty, r1_penalty
from ganengine.nn import BatchNorm2d, ConditionalBatchNorm2d, Dropout, MinibatchStd
from ganengine.step import Step
from ganengine.testing import Synthetic, synthetic_spec
from ganengine.variant import DataSpec, Group, Optimizer, Phase, Progress, Schedule, Stage, State, View

Terms = dict[str, Tensor]


def data(argument: str, options: DataOptions) -> Dataset:
    """Return ten pictures of noise."""
    return Synthetic(synthetic_spec(("real", "label"), options.size, 10))


class Generator(nn.Module):
    """z [N, 4], y [N] -> [N, C, 8, 8]; conditional batch norm, torch's own batch norm, keyed dropout."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        # No bias before a norm: its gradient is nothing but rounding, which Adam would make large.
        self.first = nn.ConvTranspose2d(4, width, 4, 2, bias=False)
        self.by_class = ConditionalBatchNorm2d(width, classes, activation="relu")
        self.drop = Dropout(0.3)
        self.second = nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False)
        self.plain = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.drop(self.by_class(self.first(z.double()[:, :, None, None]), y))
        return torch.tanh(self.last(F.relu(self.plain(self.second(h)))))


class Critic(nn.Module):
    """Pictures -> logits [N]; batch norm and minibatch deviation couple the samples, so penalties pass through both."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1), nn.Softplus(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm2d(width, momentum=None), nn.Softplus(), MinibatchStd(), nn.Conv2d(width + 1, 1, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x.double()).flatten()
        return logits


def networks(config: Any, spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G, D and a pool of G's pictures."""
    channels = spec.channels("real")
    G, D = Generator(channels, spec.classes("label"), config.width), Critic(channels, config.width)
    # A parameter that no loss reaches: its gradient is None on all ranks.
    D.register_parameter("idle", nn.Parameter(torch.ones(3)))
    return {"G": G.double(), "D": D.double(), "pool": ImagePool(3)}


def losses(config: Any) -> dict[str, Callable[[Step], Terms]]:
    """Return the nonsaturating losses and the penalties."""

    def fake(step: Step) -> Tensor:
        made: Tensor = step.shared("fake", lambda: step.G(step.randn("z", (4,)), step.batch.label), of=("G",))
        return made

    def d(step: Step) -> Terms:
        time.sleep(config.pause)
        real, made = step.D(step.batch.real), step.D(step.pool(fake(step).detach(), step.rand("pool", (2,))))
        step.report("real", real.mean())
        step.measure("real", real.mean())
        step.signs.append(real.sign().mean().detach())
        terms = {"real": F.softplus(-real), "fake": F.softplus(made)}
        terms["gp"] = gradient_penalty(step.D, step.batch.real.double(), fake(step), step.rand("mix").double())
        # Of pairs that another rank may hold a half of, with a gradient into both halves.
        terms["apart"] = 0.1 * (real - step.whole(real)[step.derangement("apart")]).square()
        if config.term != "none":
            mean = (step.whole(made) if config.term == "whole" else made).mean()
            terms["spread"] = mean.square()
        if config.broken_at == step.progress.step and step.rows[0] == 0:
            terms["real"] = terms["real"] * torch.tensor([float("nan")] + [1.0] * (len(real) - 1))
        return terms

    def r1(step: Step) -> Terms:
        return {"r1": r1_penalty(step.D, step.batch.real.double())}

    def g(step: Step) -> Terms:
        return {"g": F.softplus(-step.D(fake(step)))}

    return {"d": d, "r1": r1, "g": g}


def schedule(config: Any) -> Schedule:
    """Return D and its lazy penalty, and G."""
    d = Phase("d", ("D",), "d", "d", weights={"gp": _weight, "spread": 0.3}, second_order=True)
    g = Phase("g", ("G",), "g", "g")
    r1 = Phase("r1", ("D",), "r1", "d", every=2, weights={"r1": 0.2}, second_order=True)
    phases = (Group((d, g)), r1) if config.order == "simultaneous" else (d, r1, g)
    made = Optimizer(0.02, config.optimizer)
    return Schedule((Stage(phases),), {"d": made, "g": made}, state={"k": 0.5}, update=_update)


def _weight(progress: Progress, state: State) -> Any:
    return state["k"]


def _update(state: Mapping[str, Tensor], measured: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    # Rounded: measures come in float32.
    return {"k": (64 * state["k"] + 6 * measured["real"].tanh()).round() / 64}


def views(config: Any) -> dict[str, View]:
    """Return a grid of samples."""

    def grid(step: Step, n: int) -> dict[str, Tensor]:
        if step.progress.step == config.stuck_at and ranks.world() > 1:
            time.sleep(3600)
        return {"sample": step.G(step.randn("view", (4,)), step.batch.label)[:n]}

    return {"grid": View(grid, "samples")}
