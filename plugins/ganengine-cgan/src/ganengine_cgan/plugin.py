"""What this distribution registers: the variant cgan."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_cgan.config import CGANConfig

GANENGINE_API = 1

WRITTEN = {"dropout": 0.5, "penalty": "none", "penalty-every": 1, "lr-ramp": "constant", "ema-images": 0}
"""What documents and paper have in common: D is held back by dropout alone."""


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return cgan."""
    return [
        Variant(
            name="cgan",
            summary="Ask for a class: perceptrons with maxout that both see the label.",
            paper="arXiv:1411.1784",
            fields=("real", "label"),
            config=CGANConfig,
            networks="ganengine_cgan.networks:build",
            losses="ganengine.two_player.losses:build",
            schedule="ganengine.two_player.schedule:build",
            views="ganengine.two_player.views:build",
            equilibrium="ganengine.two_player.equilibrium:build",
            data="glyphs",
            defaults={"size": 28, "batch": 128, "flip": False, "preview": 80, "ema-images": 20_000, "horizon": 600_000},
            presets={
                "doc": {
                    **WRITTEN,
                    "batch": 64,
                    "order": "simultaneous",
                    "lr": 1e-4,
                    "betas": [0.9, 0.999],
                    "adam-eps": 1e-7,
                },
                "paper": {
                    **WRITTEN,
                    "architecture": "paper",
                    "prior": "uniform",
                    "optimizer": "sgd",
                    "batch": 100,
                    "lr": 0.1,
                    "decay": 1.00004,
                    "momentum": 0.5,
                    "scaling": "half",
                    "precision": "fp32",
                },
            },
            smallest={"size": 8, "batch": 4, "latent": 4},
        )
    ]
