"""What this distribution registers: the variant progan."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_progan.config import ProGANConfig

GANENGINE_API = 1


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return progan."""
    return [
        Variant(
            name="progan",
            summary="Both networks grow from 4 x 4 pixels, level by level, each new one fading in.",
            paper="arXiv:1710.10196",
            config=ProGANConfig,
            networks="ganengine_progan.networks:build",
            losses="ganengine_progan.losses:build",
            schedule="ganengine_progan.schedule:build",
            views="ganengine_progan.views:build",
            data="glyphs",
            defaults={"size": 32, "batch": 16, "flip": False, "preview": 24, "ema-images": 2000},
            presets={
                "paper": {
                    "size": 1024,
                    "flip": True,
                    "latent": 512,
                    "filters": 8192,
                    "widest": 512,
                    "fade-images": 800_000,
                    "stable-images": 800_000,
                    "batch": 16,
                    "level-batch": [16, 16, 16, 16, 16, 16, 14, 6, 3],
                    "lr": [*[1e-3] * 8, 1.5e-3],
                    # decay 0.999 in a step of 16: half is left after ln 2 / 0.001 steps
                    "ema-images": 11_090,
                    "ema-rampup": 0.0,
                },
            },
            smallest={
                "size": 16,
                "batch": 4,
                "latent": 4,
                "filters": 16,
                "widest": 4,
                "fade-images": 8,
                "stable-images": 8,
                "level-batch": [4, 4, 2],
            },
        )
    ]
