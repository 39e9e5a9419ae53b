"""Two phases: trunk, D's head and Q against G; then G."""

from __future__ import annotations

from ganengine.variant import Optimizer, Phase, Schedule, Stage, Value

from ganengine_infogan.config import InfoGANConfig


def build(config: InfoGANConfig) -> Schedule:
    """Return the game: the trunk learns in phase d alone, from both of its heads at once.

    So trunk, D's head and Q share one optimizer and one set of moments, of the sum of both objectives, as in the
    published code; G's phase lets all of them stand still. A trunk in two phases would be drawn by each in turn, with
    moments that know half of it.

    Paper: 1606.03657, section 7.1 and appendix C.1.
    """
    weights: dict[str, Value] = {"category": config.lambda_category, "codes": config.lambda_codes}
    d = Phase("d", ("D.trunk", "D.head", "Q"), "d", "d", weights=weights)
    g = Phase("g", ("G",), "g", "g", weights=weights, hold=("D", "Q"))
    options = {"betas": config.betas}
    optimizers = {"d": Optimizer(config.d_lr, options=options), "g": Optimizer(config.lr, options=options)}
    return Schedule((Stage((d, g)),), optimizers)
