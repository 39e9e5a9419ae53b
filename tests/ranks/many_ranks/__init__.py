"""A plugin of one small GAN in float64 with all that couples the samples of a batch; given with --plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ganengine.hookspecs import hookimpl
from ganengine.variant import DataSource, Variant

GANENGINE_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the game."""

    width: int = 4
    """Features of each layer."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Of both players."""
    order: Literal["alternating", "simultaneous"] = "alternating"
    """Whether both players step at once."""
    term: Literal["none", "whole", "share"] = "none"
    """A term of the whole batch: none, made of the whole batch, or wrongly of each rank's share."""
    broken_at: int = -1
    """Step at which one sample's gradient is not finite."""
    pause: float = 0.0
    """Seconds that a step takes at least."""
    stuck_at: int = -1
    """Step whose preview does not end, over several ranks."""


VARIANT = Variant(
    name="many-ranks",
    summary="A GAN of a few hundred weights in float64.",
    config=Options,
    networks="many_ranks.game:networks",
    losses="many_ranks.game:losses",
    schedule="many_ranks.game:schedule",
    views="many_ranks.game:views",
    fields=("real", "label"),
    data="many-ranks-noise",
    defaults={
        "size": 8, "batch": 4, "preview": 2, "tick_every": 2, "checkpoint_every": 3, "horizon": 200, "threads": 1,
        "precision": "fp32", "device": "cpu", "ema_images": 50,
    },
)  # fmt: skip


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return the game."""
    return [VARIANT]


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return noise with classes."""
    return [DataSource("many-ranks-noise", "random pixels", ("real", "label"), "many_ranks.game:data")]
