"""What this distribution registers: the variants gan-int-cls and stackgan."""

from __future__ import annotations

from typing import Any

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_stackgan.config import IntClsConfig, StackConfig

GANENGINE_API = 1

BIRDS = 8_855
"""Training pictures of CUB, whose epochs both papers count."""
PAPER = {
    "batch": 64,
    "latent": 100,
    "embedding": 1024,
    "averaged-captions": 4,
    "condition": 128,
    "d-filters": 64,
    "d-product": False,
    "penalty-weight": 0.0,
    "lr": 2e-4,
    "ema-images": 0,
}
SMALLEST = {
    "batch": 4,
    "latent": 4,
    "embedding": 8,
    "text-width": 4,
    "text-images": 8,
    "condition": 4,
    "d-filters": 4,
    "g-filters": 4,
}


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return both variants."""
    shared: dict[str, Any] = {"fields": ("real", "captions"), "data": "captioned-glyphs"}
    return [
        Variant(
            name="gan-int-cls",
            summary="Text to image: G draws what a sentence says, D also refuses pictures with wrong sentences.",
            paper="arXiv:1605.05396",
            config=IntClsConfig,
            networks="ganengine_stackgan.networks:build",
            losses="ganengine_stackgan.losses:build_int_cls",
            schedule="ganengine_stackgan.schedule:build_int_cls",
            views="ganengine_stackgan.views:build_int_cls",
            defaults={"size": 32, "batch": 64, "preview": 64, "ema-images": 5000, "horizon": 300_000},
            presets={
                "paper": {
                    **PAPER,
                    "size": 64,
                    "g-filters": 128,
                    "halve-every": 100 * BIRDS,
                    "text-images": 100 * BIRDS,
                    "horizon": 700 * BIRDS,
                }
            },
            smallest={"size": 16, **SMALLEST},
            **shared,
        ),
        Variant(
            name="stackgan",
            summary="Text to image in two stages: a small sketch, then a larger picture that corrects and refines it.",
            paper="arXiv:1612.03242",
            config=StackConfig,
            networks="ganengine_stackgan.stack:build",
            losses="ganengine_stackgan.losses:build_stack",
            schedule="ganengine_stackgan.schedule:build_stack",
            views="ganengine_stackgan.views:build_stack",
            defaults={"size": 32, "batch": 64, "preview": 8, "ema-images": 5000, "horizon": 400_000},
            presets={
                "paper": {
                    **PAPER,
                    "size": 256,
                    "low": 64,
                    "g0-filters": 64,
                    "g-filters": 128,
                    "blocks": 4,
                    "kl": 1.0,
                    "settle": False,
                    "halve-every": 100 * BIRDS,
                    "text-images": 100 * BIRDS,
                    "low-images": 600 * BIRDS,
                    "horizon": 1300 * BIRDS,
                }
            },
            smallest={"size": 16, "low": 8, "low-images": 8, "g0-filters": 4, "blocks": 1, **SMALLEST},
            **shared,
        ),
    ]
