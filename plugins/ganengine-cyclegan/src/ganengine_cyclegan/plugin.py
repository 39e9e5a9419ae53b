"""What this distribution registers: the variant `cyclegan` and the data source `sketched-letters`."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import DataSource, Variant

from ganengine_cyclegan.config import CycleGANConfig

GANENGINE_API = 1

# Sections 4 and 7.1: Adam at 2e-4, batch 1, constant for 100 epochs and falling to 0 over 100 more. Jitter and
# mirroring are those of the published code; averaged weights came later.
PAPER = {
    "size": 256,
    "load-size": 286,
    "flip": True,
    "precision": "fp32",
    "ema-images": 0,
    "batch": 1,
    "epochs": 200,
    "g-filters": 64,
    "d-filters": 64,
    "receptive-field": 70,
    "lr": 2e-4,
    "d-lr": 2e-4,
    "lr-ramp": "linear",
}


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return cyclegan."""
    return [
        Variant(
            name="cyclegan",
            summary="Unpaired image-to-image translation: learns A -> B and B -> A from two sets.",
            paper="arXiv:1703.10593",
            family="implicit",
            fields=("A", "B"),
            aligned=False,
            config=CycleGANConfig,
            networks="ganengine_cyclegan.networks:build",
            losses="ganengine_cyclegan.losses:build",
            schedule="ganengine_cyclegan.schedule:build",
            views="ganengine_cyclegan.views:build",
            baseline="ganengine_cyclegan.baseline:build",
            equilibrium="ganengine_cyclegan.equilibrium:build",
            data="sketched-letters",
            defaults={"batch": 4, "horizon": 8_000},
            presets={
                "paper": PAPER,
                "paper-128": {**PAPER, "size": 128, "load-size": 143},
                "photo": {**PAPER, "lambda-identity": 0.5},
            },
            smallest={"size": 16, "batch": 2, "g-filters": 2, "d-filters": 2, "blocks": 1, "receptive-field": 16,
                      "pool": 3, "lambda-identity": 0.5},
        )
    ]  # fmt: skip


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return letters in two looks."""
    return [
        DataSource(
            name="sketched-letters",
            summary="Letters sketched in ink on paper (A) and painted on a wall (B), unpaired, 64 x 64, from fonts.",
            fields=("A", "B"),
            build="ganengine_cyclegan.data:Letters",
            aligned=False,
        )
    ]
