"""What this distribution registers: the variant cbn-gan."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_cbn_gan.config import CBNGANConfig

GANENGINE_API = 1

WIDTHS = ("g-filters", "g-widest", "d-filters", "d-widest")
IMAGENET = {"size": 128, **dict(zip(WIDTHS, (64, 1024, 64, 1024), strict=True))}
"""Networks of the papers for 128 x 128 (1802.05957, appendix B)."""


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return cbn-gan."""
    return [
        Variant(
            name="cbn-gan",
            summary="One generator for many classes by conditional batch norm: SNGAN with projection, SAGAN, BigGAN.",
            paper="arXiv:1802.05637",
            fields=("real", "label"),
            config=CBNGANConfig,
            networks="ganengine_cbn_gan.networks:build",
            losses="ganengine_cbn_gan.losses:build",
            schedule="ganengine.two_player.schedule:build",
            views="ganengine.two_player.views:build",
            baseline="ganengine_cbn_gan.baseline:build",
            equilibrium="ganengine.two_player.equilibrium:build",
            data="glyphs",
            defaults={"size": 28, "batch": 64, "flip": False, "preview": 80, "ema-images": 2000, "horizon": 60_000},
            presets={
                "sngan": {
                    **IMAGENET,
                    "class-spread": 0,
                    "batch": 64,
                    "lr": 2e-4,
                    "d-lr": 2e-4,
                    "d-steps": 5,
                    "d-batch": "separate",
                    "lr-ramp": "linear",
                    "horizon": 450_000 * 5 * 64,
                    "ema-images": 0,
                },
                "sagan": {
                    **IMAGENET,
                    "class-spread": 0,
                    "batch": 256,
                    "spectral-norm": "G",
                    "attention": True,
                    "lr": 1e-4,
                    "d-lr": 4e-4,
                    "d-steps": 1,
                    "d-batch": "separate",
                    "horizon": 1_000_000 * 256,
                    "ema-images": 0,
                },
                "biggan-lite": {
                    "size": 32,
                    "batch": 64,
                    "g-filters": 64,
                    "g-widest": 256,
                    "d-filters": 64,
                    "d-widest": 256,
                    "latent": 80,
                    "condition": "latent",
                    "spectral-norm": "G",
                    "attention": True,
                    "init": "orthogonal",
                    "orthogonal": 1e-4,
                    "d-steps": 2,
                    "lr": 5e-5,
                    "d-lr": 2e-4,
                    "betas": [0.0, 0.999],
                    "ema-images": 890_000,
                },
            },
            smallest={
                "size": 16,
                "batch": 4,
                "latent": 4,
                "g-filters": 4,
                "g-widest": 4,
                "d-filters": 4,
                "d-widest": 4,
            },
        )
    ]
