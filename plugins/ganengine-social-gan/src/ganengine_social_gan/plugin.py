"""What this distribution registers: the variant social-gan."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_social_gan.config import SocialGANConfig

GANENGINE_API = 1

PAPER = {
    "g-encoder": 16,
    "g-decoder": 32,
    "d-encoder": 48,
    "embed": 16,
    "pool-hidden": 512,
    "bottleneck": 8,
    "residual": False,
    "batch": 64,
    "ema-images": 0,
    "epochs": 200,
}
"""1803.10892, section 3.5; what it leaves open as in the published models."""


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return social-gan."""
    return [
        Variant(
            name="social-gan",
            summary="Where people will walk: many futures of a scene, that keep out of each other's way.",
            paper="arXiv:1803.10892",
            fields=("observed", "future"),
            config=SocialGANConfig,
            networks="ganengine_social_gan.networks:build",
            losses="ganengine_social_gan.losses:build",
            schedule="ganengine_social_gan.schedule:build",
            views="ganengine_social_gan.views:build",
            equilibrium="ganengine_social_gan.equilibrium:build",
            data="crossings",
            defaults={
                "batch": 32,
                "flip": False,
                "preview": 12,
                "tick-every": 50,
                "ema-images": 2000,
                "horizon": 60_000,
                "precision": "fp32",
            },
            presets={"paper": PAPER},
            smallest={
                "batch": 4,
                "noise": 2,
                "embed": 4,
                "g-encoder": 4,
                "g-decoder": 6,
                "d-encoder": 4,
                "pool-hidden": 4,
                "bottleneck": 3,
                "g-mlp": 4,
                "d-mlp": 4,
                "variety-k": 3,
            },
        )
    ]
