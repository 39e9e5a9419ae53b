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

    Where --repel is not 0, `g` has the term `repel` too: how alike D's codes of G's pictures are, 0-d.

    Both phases read one pass over the same z: each gradient is taken with respect to its own network alone. Measured
    are `real` = E R(x) and `fake` = E R(G(z)); M = E R(x) + |gamma E R(x) - E R(G(z))| is in the log.

    Paper: 1703.10717, equation 6; z_D = z_G as in published code. `repel`: 1609.03126, section 2.4.
    """
    prior = Prior((config.latent,), "uniform")

    def generated(step: Step) -> tuple[Tensor, Tensor]:
        def both() -> tuple[Tensor, Tensor]:
            made = step["G"](step.latent("z", prior))
            code = step["D"].encoder(made)
            return distance(made, step["D"].decoder(code)), code

        found: tuple[Tensor, Tensor] = step.shared("R(G(z))", both, of=("G", "D"))
        return found

    def d(step: Step) -> Terms:
        terms = {"real": error(step["D"], step.batch["real"]), "fake": generated(step)[0]}
        for name, value in terms.items():
            step.report(name, value.mean())
            step.measure(name, value.mean())
        step.report("M", convergence(terms["real"].mean(), terms["fake"].mean(), config.gamma))
        return terms

    def g(step: Step) -> Terms:
        value, code = generated(step)
        return {"g": value, "repel": alike(step.whole(code))} if config.repel else {"g": value}

    return {"d": d, "g": g}


def error(D: nn.Module, pictures: Tensor) -> Tensor:
    """Return R(v) = mean |v - D(v)| of each picture v, [N].

    Gradients: any order, through v on both sides.
    """
    return distance(pictures, D(pictures))


def distance(pictures: Tensor, others: Tensor) -> Tensor:
    """Return mean |v - w| of each pair of pictures, [N], in float32 or float64."""
    apart = (pictures - others).abs()
    return apart.float().mean((1, 2, 3)) if apart.dtype != torch.float64 else apart.mean((1, 2, 3))


def alike(code: Tensor) -> Tensor:
    """Return the mean over pairs i != j of cos^2(s_i, s_j), 0-d: 1 where all codes point one way; 0 of a single one.

    Args:
        code: s [N, L].

    Paper: 1609.03126, equation 4 (pulling-away term).
    """
    n = len(code)
    unit = nn.functional.normalize(code if code.dtype == torch.float64 else code.float())
    return ((unit @ unit.T) ** 2).fill_diagonal_(0).sum() / max(1, n * (n - 1))


def convergence(real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    """Return M = E R(x) + |gamma E R(x) - E R(G(z))|, 0-d. Paper: 1703.10717, section 3.4.1."""
    return real + (gamma * real - fake).abs()
