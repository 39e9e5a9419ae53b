"""What this distribution registers: the variant infogan."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_infogan.config import InfoGANConfig

GANENGINE_API = 1


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return infogan."""
    return [
        Variant(
            name="infogan",
            summary="Codes that come to mean something without labels: G must let D's trunk read them back.",
            paper="arXiv:1606.03657",
            fields=("real",),
            config=InfoGANConfig,
            networks="ganengine_infogan.networks:build",
            losses="ganengine_infogan.losses:build",
            schedule="ganengine_infogan.schedule:build",
            views="ganengine_infogan.views:build",
            equilibrium="ganengine_infogan.equilibrium:build",
            data="glyphs",
            defaults={"size": 28, "batch": 64, "flip": False, "preview": 80, "ema-images": 2000, "horizon": 100_000},
            presets={
                "paper": {"size": 28, "batch": 128, "horizon": 50 * 100 * 128, "ema-images": 0},
            },
            smallest={
                "size": 8,
                "batch": 4,
                "noise": 3,
                "categories": 3,
                "g-filters": 2,
                "d-filters": 2,
                "hidden": 8,
                "q-hidden": 4,
            },
        )
    ]
