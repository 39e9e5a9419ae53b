"""What this distribution registers: the variant began."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_began.config import BEGANConfig

GANENGINE_API = 1


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return began."""
    return [
        Variant(
            name="began",
            summary="An autoencoder as D; a measured balance keeps both players level and says how far they are.",
            paper="arXiv:1703.10717",
            fields=("real",),
            config=BEGANConfig,
            networks="ganengine_began.networks:build",
            losses="ganengine_began.losses:build",
            schedule="ganengine_began.schedule:build",
            views="ganengine_began.views:build",
            data="glyphs",
            defaults={"size": 16, "batch": 16, "flip": False, "preview": 64, "ema-images": 2000, "horizon": 50_000},
            presets={
                "paper": {
                    "size": 128,
                    "latent": 64,
                    "gamma": 0.5,
                    "repel": 0.0,
                    "filters": 128,
                    "batch": 16,
                    "lambda-k": 0.001,
                    "lr": 1e-4,
                    "lr-rule": "plateau",
                    "patience": 10_000,
                    "flip": True,
                    "horizon": 16 * 300_000,
                    "ema-images": 0,
                },
                "published-code": {
                    "size": 64,
                    "latent": 64,
                    "gamma": 0.5,
                    "repel": 0.0,
                    "filters": 128,
                    "batch": 16,
                    "lambda-k": 0.001,
                    "lr": 8e-5,
                    "lr-rule": "halving",
                    "lr-floor": 2e-5,
                    "halve-every": 100_000,
                    "flip": True,
                    "horizon": 16 * 500_000,
                    "ema-images": 0,
                },
            },
            smallest={
                "size": 16,
                "batch": 2,
                "latent": 4,
                "filters": 2,
                "lr-rule": "plateau",
                "patience": 2,
            },
        )
    ]
