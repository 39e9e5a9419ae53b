"""What this distribution registers: the variants gan, dcgan, lsgan, wgan and wgan-gp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganengine.hookspecs import hookimpl
from ganengine.variant import Variant

from ganengine_gan.config import DCGANConfig, GANConfig, LSGANConfig, WGANConfig, WGANGPConfig

GANENGINE_API = 1

PICTURES: Mapping[str, Any] = {"size": 28, "batch": 64, "flip": False, "preview": 64, "ema-images": 2000}
"""Options of the engine for small grey pictures."""

SMALLEST: Mapping[str, Any] = {"size": 8, "batch": 4, "latent": 4, "g-filters": 4, "d-filters": 4}


def _variant(name: str, config: type, summary: str, paper: str, **changes: Any) -> Variant:
    defaults = {**PICTURES, **changes.pop("defaults", {})}
    smallest = {**SMALLEST, **changes.pop("smallest", {})}
    return Variant(
        name=name,
        summary=summary,
        paper=paper,
        fields=("real",),
        config=config,
        networks="ganengine_gan.networks:build",
        losses="ganengine.two_player.losses:build",
        schedule="ganengine.two_player.schedule:build",
        views="ganengine.two_player.views:build",
        equilibrium="ganengine.two_player.equilibrium:build",
        data="glyphs",
        defaults=defaults,
        smallest=smallest,
        **changes,
    )


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return the five."""
    return [
        _variant(
            "gan",
            GANConfig,
            "The game itself, between two multilayer perceptrons.",
            "arXiv:1406.2661",
        ),
        _variant(
            "dcgan",
            DCGANConfig,
            "Convolutional GAN with batch norm: trains stably, D is a usable feature extractor.",
            "arXiv:1511.06434",
        ),
        _variant(
            "lsgan",
            LSGANConfig,
            "Least squares instead of cross-entropy: fakes far from the boundary are still pulled.",
            "arXiv:1611.04076",
        ),
        _variant(
            "wgan",
            WGANConfig,
            "Wasserstein GAN: a critic with clipped weights, whose estimate tracks quality.",
            "arXiv:1701.07875",
        ),
        _variant(
            "wgan-gp",
            WGANGPConfig,
            "Wasserstein GAN with a penalty on the critic's gradient instead of clipping.",
            "arXiv:1704.00028",
        ),
    ]
