"""Losses of InfoGAN: the usual game, and a lower bound of what pictures tell of the codes that they were made from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from ganengine.plugins import registry
from torch import Tensor

from ganengine_infogan.config import InfoGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step

Terms: TypeAlias = dict[str, Tensor]


def build(config: InfoGANConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `d` and `g`, each with a term -I for the category and for the codes; all are per sample, [N].

        d: f(real, D(x)) + f(fake, D(G(z, c))),   g: g(D(G(z, c))),   both: - lambda I(c; G(z, c))
        I = E[log Q(c | G(z, c))] + H(c), a lower bound of the mutual information

    The lambdas are the phases' weights. I for each code is reported by phase d, in nats.

    Gradients: d's reach trunk, D's head and Q; g's pass through all of them to G.
    Paper: 1606.03657, equations 5 and 6.
    """
    game, prior = registry().get("loss", config.adversarial).load()(), config.prior

    def information(features: Tensor, z: Tensor, step: Step) -> dict[str, Tensor]:
        parts = prior.split(z)
        logits, mean, log_std = step["Q"](features)
        found = {"category": category_information(logits, parts["category"])}
        if "codes" in parts:
            spread = log_std if config.code_std is None else torch.full_like(mean, math.log(config.code_std))
            found["codes"] = code_information(mean, spread, parts["codes"])
        return found

    def d(step: Step) -> Terms:
        z = step.latent("z.d", prior)
        with torch.no_grad():
            fake = step["G"](z)
        (real_logits, _), (fake_logits, features) = step["D"](step.batch["real"]), step["D"](fake)
        step.judged(game, real=real_logits, fake=fake_logits)
        found = information(features, z, step)
        for name, value in found.items():
            step.report(f"I({name})", value.mean())
        return {"d": game.d(real_logits, fake_logits), **{name: -value for name, value in found.items()}}

    def g(step: Step) -> Terms:
        z = step.latent("z.g", prior)
        logits, features = step["D"](step["G"](z))
        return {"g": game.g(logits), **{name: -value for name, value in information(features, z, step).items()}}

    return {"d": d, "g": g}


def category_information(logits: Tensor, category: Tensor) -> Tensor:
    """Return log Q(c | x) + log K, in nats: log K where Q is right and sure, 0 where it says nothing.

    Args:
        logits: [N, K], of Q.
        category: [N, K], a 1 among zeros.

    Returns:
        [N], float32 or wider.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return (wide.log_softmax(1) * category).sum(1) + math.log(logits.shape[1])


def code_information(mean: Tensor, log_std: Tensor, codes: Tensor) -> Tensor:
    """Return the sum over codes of log N(c; mean, std^2) + log 2, in nats; log 2 is the entropy of U[-1, 1].

    With a std of 1 it is at most -0.226 for each code: a bound that is far from tight, whose gradient is what counts.

    Args:
        mean: [N, C], of Q.
        log_std: [N, C].
        codes: [N, C], in [-1, 1].

    Returns:
        [N], float32 or wider.
    """
    wide = mean if mean.dtype == torch.float64 else mean.float()
    apart = (codes - wide) / log_std.exp()
    return (-0.5 * apart.square() - log_std - 0.5 * math.log(2 * math.pi) + math.log(2)).sum(1)
