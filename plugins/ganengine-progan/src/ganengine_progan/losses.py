"""Losses of progan: Wasserstein with a gradient penalty and a drift term, on pictures that fade."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from ganengine.losses.adversarial import WASSERSTEIN
from ganengine.losses.penalties import drift_penalty, gradient_penalty
from torch import Tensor

from ganengine_progan.config import ProGANConfig
from ganengine_progan.networks import blended, down, up

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: ProGANConfig) -> dict[str, Callable[[Step], dict[str, Tensor]]]:
    """Return the losses `d` and `g`; every term is per sample, [N].

        d: D(G(z)) - D(x);  gp: (||grad D(xhat)|| - 1)^2;  drift: D(x)^2;  g: -D(G(z))

    While a level fades in, real pictures fade too: x = alpha x + (1 - alpha) up(down(x)).

    Gradients: D's reach only D, G's pass through D; the penalty is of second order.
    Paper: 1710.10196, appendix A.1; the fade of real pictures: section 2.
    """
    game = WASSERSTEIN()

    def generated(step: Step, alpha: float, name: str) -> Tensor:
        pictures: Tensor = step["G"](step.randn(f"z.{name}", (config.latent,)), alpha)
        return pictures

    def d(step: Step) -> dict[str, Tensor]:
        alpha = config.alpha(step.progress)
        real = faded(step.batch["real"], alpha)
        with torch.no_grad():
            fake = generated(step, alpha, "d")
        real_logits, fake_logits = step["D"](real, alpha), step["D"](fake, alpha)
        step.judged(game, real=real_logits, fake=fake_logits)
        return {
            "d": game.d(real_logits, fake_logits),
            "gp": gradient_penalty(lambda x: step["D"](x, alpha), real, fake.to(real.dtype), step.rand("mix")),
            "drift": drift_penalty(real_logits),
        }

    def g(step: Step) -> dict[str, Tensor]:
        alpha = config.alpha(step.progress)
        return {"g": game.g(step["D"](generated(step, alpha, "g"), alpha))}

    return {"d": d, "g": g}


def faded(real: Tensor, alpha: float) -> Tensor:
    """Return real pictures as sharp as those that a fading network draws."""
    return blended(real, up(down(real)), alpha) if alpha < 1 else real
