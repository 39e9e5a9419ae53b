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

PLAIN: Mapping[str, Any] = {"ema-images": 0, "precision": "fp32"}
"""Papers and documents sample from the weights as they are, trained in float32."""

KERAS: Mapping[str, Any] = {**PLAIN, "betas": [0.9, 0.999], "adam-eps": 1e-7, "order": "simultaneous"}
"""What the documents' Keras code does: Adam with its own epsilon, both gradients at the old weights."""

DCGAN: Mapping[str, Any] = {**PLAIN, "architecture": "conv", "size": 64, "batch": 128, "prior": "uniform"}
"""Networks and data of DCGAN's paper, which the Wasserstein papers take over."""

WRITTEN: Mapping[str, Any] = {"penalty": "none", "penalty-every": 1}
"""The game of 2014: nothing holds D back."""

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
        baseline="ganengine_gan.baseline:build",
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
            defaults={"horizon": 300_000},
            presets={
                "doc-small": {
                    **PLAIN,
                    **WRITTEN,
                    "architecture": "mlp-small",
                    "latent": 64,
                    "scaling": "mean",
                    "lr": 3e-4,
                    "batch": 32,
                    "betas": [0.9, 0.999],
                    "epochs": 50,
                },
                "points": {**WRITTEN, "ema-images": 0},
                "doc-deep": {**KERAS, **WRITTEN, "lr": 1e-4, "batch": 128, "epochs": 10, "tick-every": 100},
                "paper": {
                    **PLAIN,
                    **WRITTEN,
                    "architecture": "mlp-maxout",
                    "prior": "uniform",
                    "scaling": "half",
                    "optimizer": "sgd",
                    "lr": 0.1,
                    "decay": 1.000004,
                    "momentum": 0.5,
                    "batch": 100,
                    "epochs": 250,
                },
            },
        ),
        _variant(
            "dcgan",
            DCGANConfig,
            "Convolutional GAN with batch norm: trains stably, D is a usable feature extractor.",
            "arXiv:1511.06434",
            defaults={"horizon": 60_000},
            presets={
                "paper": dict(DCGAN),
                "doc-faces": {
                    **KERAS,
                    "architecture": "conv-upsampling",
                    "size": 96,
                    "batch": 32,
                    "lr": 1.5e-4,
                    "epochs": 50,
                    "betas": [0.5, 0.999],
                    "preview": 28,
                },
            },
        ),
        _variant(
            "lsgan",
            LSGANConfig,
            "Least squares instead of cross-entropy: fakes far from the boundary are still pulled.",
            "arXiv:1611.04076",
            defaults={"horizon": 60_000},
            presets={
                "paper": {**DCGAN, "batch": 64, "lr": 1e-3},
                "lsun": {
                    **PLAIN,
                    "architecture": "conv-scenes",
                    "size": 112,
                    "flip": True,
                    "latent": 1024,
                    "lr": 1e-3,
                },
                "points": {
                    "latent": 2,
                    "prior": "normal",
                    "lr": 5e-4,
                    "penalty": "r1",
                    "penalty-weight": 0.1,
                    "penalty-every": 4,
                    "ema-images": 20_000,
                },
                "pearson": {"fake-target": -1.0, "real-target": 1.0, "generator-target": 0.0},
            },
        ),
        _variant(
            "wgan",
            WGANConfig,
            "Wasserstein GAN: a critic with clipped weights, whose estimate tracks quality.",
            "arXiv:1701.07875",
            defaults={"horizon": 150_000},
            smallest={"eager-critic": False},
            presets={"paper": {**DCGAN, "batch": 64}},
        ),
        _variant(
            "wgan-gp",
            WGANGPConfig,
            "Wasserstein GAN with a penalty on the critic's gradient instead of clipping.",
            "arXiv:1704.00028",
            defaults={"horizon": 150_000},
            presets={
                "paper": {**DCGAN, "batch": 64, "prior": "normal", "d-norm": "layer"},
                "cifar": {
                    **PLAIN,
                    "architecture": "resnet",
                    "size": 32,
                    "flip": True,
                    "latent": 128,
                    "lr": 2e-4,
                    "lr-ramp": "linear",
                    "horizon": 100_000 * 6 * 64,
                },
                "toy": {
                    "toy-units": 512,
                    "latent": 2,
                    "betas": [0.5, 0.9],
                    "batch": 256,
                    "penalty-weight": 0.1,
                    "ema-images": 0,
                },
                "points": {
                    "latent": 2,
                    "lr": 5e-4,
                    "betas": [0.5, 0.9],
                    "d-steps": 2,
                    "penalty-weight": 0.1,
                    "ema-images": 20_000,
                },
            },
        ),
    ]
