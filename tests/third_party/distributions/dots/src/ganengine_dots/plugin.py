"""What this distribution registers. The module imports no torch: builders are named, not imported."""

from __future__ import annotations

from ganengine.hookspecs import hookimpl
from ganengine.records import TickRecord
from ganengine.variant import Component, DataSource, Variant
from ganengine_dots.config import DotsConfig

GANENGINE_API = 1


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return the variant `dots`."""
    return [
        Variant(
            name="dots",
            summary="A tiny GAN that learns to draw dots.",
            fields=("real",),
            config=DotsConfig,
            networks="ganengine_dots.game:networks",
            losses="ganengine_dots.game:losses",
            schedule="ganengine_dots.game:schedule",
            views="ganengine_dots.game:views",
            data="dots",
            defaults={"size": 16, "batch": 16, "flip": False},
            presets={"slow": {"d-lr": 1e-4, "g-lr": 1e-4, "horizon": 100_000}},
            smallest={"size": 16, "batch": 2, "width": 4, "z-dim": 2},
        )
    ]


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return the data source `dots`, which is chosen by its name."""
    return [
        DataSource(
            name="dots",
            summary="White dots on black, drawn on the fly; dots:COUNT gives another number than 1000.",
            fields=("real",),
            build="ganengine_dots.data:build",
        )
    ]


@hookimpl
def ganengine_commands() -> list[Component]:
    """Return the command `ganengine draw-dots`."""
    return [Component("draw-dots", "write pictures of dots", "ganengine_dots.command:draw_dots")]


@hookimpl
def ganengine_tick(record: TickRecord) -> None:
    """Keep a file beside the log that says in words how far the run is."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in record.line["loss"].items())
    (record.folder / "progress.txt").write_text(f"{record.images} pictures shown: {losses}\n", encoding="utf-8")
