"""Losses of pix2pix.

D: 1/2 (E sp(-D(A, B)) + E sp(D(A, G(A))));  G: E sp(-D(A, G(A))) + lambda E |B - G(A)|_1, with sp(t) = log(1 + e^t).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from ganengine.nn import computed_in, together
from ganengine.plugins import registry
from torch import Tensor

from ganengine_pix2pix.config import Pix2PixConfig

if TYPE_CHECKING:
    from ganengine.step import Step

Terms: TypeAlias = dict[str, Tensor]


def build(config: Pix2PixConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the loss `g`, and `d` unless the arm is `l1`. Every term is per sample, [N], the mean over its map.

    G's picture is computed once per step and shared: D has stepped in between, G has not. D judges real and fake in
    one pass, or in two where batch norm would mix them. G's L1 term comes unweighted; the phase weights it.

    Gradients: D's reach only D (the fake is detached); G's pass through D.
    Paper: arXiv:1611.07004, equations 1, 3, 4; D's half is section 3.3.
    """
    # The mean of D's two halves slows D down against G (section 3.3).
    game = registry().get("loss", config.adversarial).load()(scaling="mean") if config.has_critic else None

    def fake(step: Step) -> Tensor:
        image: Tensor = step.shared("fake", lambda: step["G"](getattr(step.batch, config.source)), of=("G",))
        return image

    def judge(step: Step, *images: Tensor) -> tuple[Tensor, ...]:
        source, *shown = (x.to(computed_in(x)) for x in (getattr(step.batch, config.source), *images))
        return together(step["D"], *(torch.cat((source, image), 1) if config.sees_input else image for image in shown))

    def d(step: Step) -> Terms:
        assert game is not None
        real_logits, fake_logits = judge(step, getattr(step.batch, config.target), fake(step).detach())
        step.judged(game, real=real_logits, fake=fake_logits)
        return {"d": game.d(real_logits, fake_logits)}

    def g(step: Step) -> Terms:
        image = fake(step)
        terms: Terms = {}
        if game is not None:
            terms["gan"] = game.g(*judge(step, image))
        if config.has_l1:
            truth = getattr(step.batch, config.target)
            terms["l1"] = (truth - image).abs().flatten(1).mean(1)
        return terms

    return {"g": g} if game is None else {"d": d, "g": g}
