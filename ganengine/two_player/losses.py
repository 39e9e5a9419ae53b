"""Losses of a game of one G and one D.

D: f(real, D(x)) + f(fake, D(G(z))) + the penalty;  G: g(D(G(z))), by the family of adversarial losses in the config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from ganengine.losses.adversarial import Adversarial
from ganengine.losses.penalties import gradient_penalty, r1_penalty, r2_penalty
from ganengine.plugins import registry
from ganengine.two_player.config import ConditionalConfig, TwoPlayerConfig
from ganengine.variant import Prior

if TYPE_CHECKING:
    from ganengine.step import Step

Terms: TypeAlias = dict[str, Tensor]


def build(config: TwoPlayerConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `d`, `g` and `penalty`. Every term is per sample, [N].

    In alternating order each phase draws latents of its own, and D's fakes are made without a graph. In simultaneous
    order both read one forward pass: D's gradient stops at the fakes because it is taken with respect to D alone.

    Gradients: D's reach only D, G's pass through D; the penalty is of second order.
    Paper: 1406.2661, algorithm 1; penalties 1704.00028, 1801.04406.
    """
    game, prior = _game(config), Prior((config.latent,), config.prior)
    simultaneous = config.order == "simultaneous"

    def fake_labels(step: Step, name: str) -> Tensor | None:
        if not isinstance(config, ConditionalConfig):
            return None
        real: Tensor = step.batch["label"]
        if config.fake_labels == "data":
            return real
        return step.randint(f"y.{name}", step["G"].num_classes).to(real.dtype)

    def generate(step: Step, name: str) -> tuple[Tensor, Tensor | None]:
        z = step.latent(f"z.{name}", prior)
        y = fake_labels(step, name)
        return _call(step["G"], z, y), y

    def shared_fake(step: Step) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return one pass for both players: images, D's logits of them, labels."""

        def both() -> tuple[Tensor, Tensor, Tensor | None]:
            images, y = generate(step, "both")
            return images, _call(step["D"], images, y), y

        found: tuple[Tensor, Tensor, Tensor | None] = step.shared("fake", both, of=("G", "D"))
        return found

    def d(step: Step) -> Terms:
        real, y = step.batch["real"], step.batch.get("label") if config.conditional else None
        if simultaneous and config.d_batch == "separate":
            fake, fake_logits, _ = shared_fake(step)
            real_logits = _call(step["D"], real, y)
        else:
            with torch.no_grad():
                fake, fake_y = generate(step, "both" if simultaneous else "d")
            if config.d_batch == "joined":
                labels = None if y is None or fake_y is None else torch.cat((y, fake_y))
                logits = _call(step["D"], torch.cat((real, fake.to(real.dtype))), labels)
                real_logits, fake_logits = torch.split(logits, len(real))
            else:
                real_logits, fake_logits = _call(step["D"], real, y), _call(step["D"], fake, fake_y)
        step.judged(game, real=real_logits, fake=fake_logits)
        draws = step.rand("smoothing") if config.random_smoothing else None
        terms = {"d": game.d(real_logits, fake_logits, draws)}
        if config.penalty != "none" and config.penalty_every == 1:
            terms[config.penalty] = penalise(step, real, fake.detach(), y)
        return terms

    def g(step: Step) -> Terms:
        if simultaneous:
            return {"g": game.g(shared_fake(step)[1])}
        images, y = generate(step, "g")
        return {"g": game.g(_call(step["D"], images, y))}

    def penalty(step: Step) -> Terms:
        with torch.no_grad():
            fake, _ = generate(step, "penalty")
        y = step.batch.get("label") if config.conditional else None
        return {config.penalty: penalise(step, step.batch["real"], fake, y)}

    def penalise(step: Step, real: Tensor, fake: Tensor, y: Tensor | None) -> Tensor:
        def score(x: Tensor) -> Tensor:
            return _call(step["D"], x, y)

        if config.penalty == "gp":
            return gradient_penalty(score, real, fake.to(real.dtype), step.rand("mix"))
        return r1_penalty(score, real) if config.penalty == "r1" else r2_penalty(score, fake.to(real.dtype))

    return {"d": d, "g": g, "penalty": penalty}


def _game(config: TwoPlayerConfig) -> Adversarial:
    smoothing = config.label_smoothing
    game: Adversarial = (
        registry()
        .get("loss", config.adversarial)
        .load()(
            scaling=config.scaling,
            real_target=config.real_target,
            fake_target=config.fake_target,
            generator_target=config.generator_target,
            smoothing=(0.0, smoothing) if config.random_smoothing else smoothing,
        )
    )
    return game


def _call(network: torch.nn.Module, x: Tensor, y: Tensor | None) -> Tensor:
    result: Tensor = network(x) if y is None else network(x, y)
    return result
