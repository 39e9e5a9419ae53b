"""The game of pix2pix: D, then G, at one Adam each."""

from __future__ import annotations

from ganengine.ramps import InverseSqrt, linear_decay
from ganengine.variant import Optimizer, Phase, Schedule, Stage, Value

from ganengine_pix2pix.config import Pix2PixConfig


def build(config: Pix2PixConfig) -> Schedule:
    """Return one stage of the phases `d` and `g`, alternating on one batch; the arm `l1` has `g` alone.

    Paper: arXiv:1611.07004, section 3.3; the ramp `linear` is that of the published code (100 + 100 epochs).
    """

    def adam(rate: float) -> Optimizer:
        ramps: dict[str, Value] = {
            "constant": rate,
            "linear": linear_decay(rate),
            "sqrt": InverseSqrt(rate, hold=config.lr_hold),
        }
        return Optimizer(lr=ramps[config.lr_ramp], name="adam", options={"betas": config.betas})

    weights = {"l1": config.lambda_l1} if config.has_l1 else {}
    phases = [Phase("g", params=("G",), loss="g", optimizer="g", weights=weights)]
    optimizers = {"g": adam(config.lr)}
    if config.has_critic:
        phases.insert(0, Phase("d", params=("D",), loss="d", optimizer="d"))
        optimizers["d"] = adam(config.d_lr)
    return Schedule(stages=(Stage(tuple(phases)),), optimizers=optimizers, averaged=("G",))
