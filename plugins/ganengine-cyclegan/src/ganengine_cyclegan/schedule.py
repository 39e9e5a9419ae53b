"""The game of CycleGAN: both generators against both discriminators, in one simultaneous step."""

from __future__ import annotations

from ganengine.ramps import linear_decay
from ganengine.variant import Group, Optimizer, Phase, Schedule, Stage

from ganengine_cyclegan.config import CycleGANConfig


def build(config: CycleGANConfig) -> Schedule:
    """Return one stage whose phases `g` (G and F) and `d` (D_A and D_B) step together.

    The published code steps G and F first and then shows the discriminators the pictures from before that step: all
    gradients are at the old weights. That is a simultaneous step, and a batch is translated only once for it.

    Paper: arXiv:1703.10593, section 4 and equations 3 and 4.
    """

    def adam(rate: float) -> Optimizer:
        lr = linear_decay(rate) if config.lr_ramp == "linear" else rate
        return Optimizer(lr=lr, name="adam", options={"betas": config.betas})

    judged = config.adversarial_weight
    weights = {"gan": judged, "cycle": config.lambda_cycle, "identity": config.identity_weight}
    generators = {f"{term}_{side}": weight for term, weight in weights.items() for side in "AB"}
    discriminators = dict.fromkeys("AB", judged)
    game = Group(
        (
            Phase("g", params=("G", "F"), loss="g", optimizer="g", weights=generators),
            Phase("d", params=("D_A", "D_B"), loss="d", optimizer="d", weights=discriminators),
        )
    )
    optimizers = {"g": adam(config.lr), "d": adam(config.d_lr)}
    stages = (Stage((game,)),)
    return Schedule(stages, optimizers, averaged=("G", "F"), critics=("D_A", "D_B"))
