"""The game: D, then G, on one batch of scenes and the same futures."""

from __future__ import annotations

from ganengine.variant import Optimizer, Phase, Schedule, Stage

from ganengine_social_gan.config import SocialGANConfig


def build(config: SocialGANConfig) -> Schedule:
    """Return one stage of the phases `d` and `g`. Paper: 1803.10892, section 3.5."""
    d = Phase("d", ("D",), "d", "d")
    g = Phase("g", ("G",), "g", "g", weights={"variety": config.variety_weight})
    options = {"betas": config.betas}
    return Schedule(
        stages=(Stage((d, g)),),
        optimizers={
            "d": Optimizer(config.lr if config.d_lr is None else config.d_lr, options=options),
            "g": Optimizer(config.lr, options=options, clip_norm=config.g_clip),
        },
    )
