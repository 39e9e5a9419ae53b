"""A plugin of one tiny GAN of 8 x 8 pictures, with most of what a game can hold; given with --plugin."""

from __future__ import annotations

from dataclasses import dataclass

from ganengine.hookspecs import hookimpl
from ganengine.variant import DataSource, Variant

GANENGINE_API = 1


@dataclass(frozen=True)
class TinyConfig:
    """Options of the tiny GAN."""

    width: int = 8
    """Features of each layer."""
    lr: float = 1e-2
    """Learning rate of both players."""


VARIANT = Variant(
    name="tiny-gan",
    summary="A GAN of a few hundred weights.",
    config=TinyConfig,
    networks="tiny_gan.game:networks",
    losses="tiny_gan.game:losses",
    schedule="tiny_gan.game:schedule",
    views="tiny_gan.game:views",
    fields=("real",),
    data="tiny-noise",
    defaults={"size": 8, "batch": 4},
    presets={"narrow": {"width": 4}},
    smallest={"size": 8, "width": 4},
)


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return the tiny GAN."""
    return [VARIANT]


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return noise to train on."""
    return [DataSource("tiny-noise", "random pixels", ("real",), "tiny_gan.game:data")]
