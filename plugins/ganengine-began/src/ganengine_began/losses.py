"""Losses of BEGAN: how well D reconstructs real pictures and G's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from ganengine.variant import Prior
from torch import Tensor, nn

from ganengine_began.config import BEGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step

Terms: TypeAlias = dict[str, Tensor]


def build(config: BEGANConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `d` (terms R(x) and R(G(z)), the second of weight -k) and `g` (R(G(z))); all per sample, [N].

    Both phases read one pass over the same z: each gradient is taken with respect to its own network alone. Measured
    are `real` = E R(x) and `fake` = E R(G(z)); M = E R(x) + |gamma E R(x) - E R(G(z))| is in the log.

    Paper: 1703.10717, equation 6; z_D = z_G as in published code.
    """
    prior = Prior((config.latent,), "uniform")

    def generated(step: Step) -> Tensor:
        def both() -> Tensor:
            return error(step["D"], step["G"](step.latent("z", prior)))

        found: Tensor = step.shared("R(G(z))", both, of=("G", "D"))
        return found

    def d(step: Step) -> Terms:
        terms = {"real": error(step["D"], step.batch["real"]), "fake": generated(step)}
        for name, value in terms.items():
            step.report(name, value.mean())
            step.measure(name, value.mean())
        step.report("M", convergence(terms["real"].mean(), terms["fake"].mean(), config.gamma))
        return terms

    def g(step: Step) -> Terms:
        return {"g": generated(step)}

    return {"d": d, "g": g}


def error(D: nn.Module, pictures: Tensor) -> Tensor:
    """Return R(v) = mean |v - D(v)| of each picture v, [N].

    Gradients: any order, through v on both sides.
    """
    apart: Tensor = (pictures - D(pictures)).abs()
    return apart.float().mean((1, 2, 3)) if apart.dtype != torch.float64 else apart.mean((1, 2, 3))


def convergence(real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    """Return M = E R(x) + |gamma E R(x) - E R(G(z))|, 0-d. Paper: 1703.10717, section 3.4.1."""
    return real + (gamma * real - fake).abs()
