"""Losses of CycleGAN, for G: A -> B and F: B -> A.

G, F: E (D_B(G(a)) - 1)^2 + E (D_A(F(b)) - 1)^2 + lambda (E |F(G(a)) - a|_1 + E |G(F(b)) - b|_1)
      + lambda_identity lambda (E |F(a) - a|_1 + E |G(b) - b|_1)
D_A:  1/2 (E (D_A(a) - 1)^2 + E D_A(F(b))^2), F(b) by way of the pool of earlier ones;  D_B alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ganengine.nn import together
from ganengine.plugins import registry
from torch import Tensor

from ganengine_cyclegan.config import CycleGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step

Terms: TypeAlias = dict[str, Tensor]


def build(config: CycleGANConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `g` and `d`. Every term is per sample, [N], the mean over its map or picture.

    A term's letter is the set that its pictures are to look like: `gan_A` is D_A's verdict on F(b), `cycle_A` compares
    F(G(a)) with a, `identity_A` F(a) with a, and `A` is the loss of D_A. Terms come unweighted; the phases weight
    them. Those of weight 0 are left out, with their passes through the networks.

    A batch is translated once, for both phases. What a network can be shown at once it sees in one pass, unless batch
    norm would mix it: F what it translates, G's translations and its identities; a discriminator both kinds.

    Gradients: D's reach only D (the pool detaches); those of G and F pass through D.
    Paper: arXiv:1703.10593, equations 1 to 3 and section 5.2 (identity); D's half is that of the published code.
    """
    game = registry().get("loss", config.adversarial).load()(scaling="mean")

    def translated(step: Step) -> Terms:
        """Return what the generators make, by the set that it is to look like, and by the term that it is for."""

        def make() -> Terms:
            a, b, G, F = step.batch.A, step.batch.B, step["G"], step["F"]
            stay = bool(config.identity_weight)
            into_b, *still_b = together(G, a, *[b] * stay)
            if not config.lambda_cycle:
                return {"A": F(b), "B": into_b}
            # G first, so that F can take its picture back in the pass in which it translates b.
            into_a, back_a, *still_a = together(F, b, into_b, *[a] * stay)
            made = {"A": into_a, "B": into_b, "cycle_A": back_a, "cycle_B": G(into_a)}
            return made | ({"identity_A": still_a[0], "identity_B": still_b[0]} if stay else {})

        found: Terms = step.shared("translated", make, of=("G", "F"))
        return found

    def g(step: Step) -> Terms:
        made = translated(step)
        terms = {f"gan_{side}": game.g(step[f"D_{side}"](made[side])) for side in "AB"}
        return terms | {name: _l1(picture, step.batch[name[-1]]) for name, picture in made.items() if "_" in name}

    def d(step: Step) -> Terms:
        made = translated(step)
        terms, readings = {}, []
        for side in "AB":
            shown = step[f"pool_{side}"](made[side].detach(), step.rand(f"pool_{side}", (2,)))
            real_logits, fake_logits = together(step[f"D_{side}"], step.batch[side], shown)
            step.judged(game, real=real_logits, fake=fake_logits, of=f"_{side}")
            terms[side] = game.d(real_logits, fake_logits)
            readings.append((game.readout(real_logits), game.readout(fake_logits)))
        for name, (of_a, of_b) in zip(("real", "fake"), zip(*readings, strict=True), strict=True):
            step.report(name, (of_a + of_b) / 2)
        return terms

    return {"g": g, "d": d}


def _l1(image: Tensor, truth: Tensor) -> Tensor:
    return (image - truth).abs().flatten(1).mean(1)
