"""A plugin that claims the name of another one's variant, and whose entry point is found before the other's."""

from __future__ import annotations

from dataclasses import dataclass

from ganengine.hookspecs import hookimpl
from ganengine.variant import DataSource, Variant

GANENGINE_API = 1


@dataclass(frozen=True)
class Config:
    """No options."""


@hookimpl
def ganengine_variants() -> list[Variant]:
    """Return a variant under a name that is taken."""
    builder = "ganengine_clash:build"
    return [Variant("pix2pix", "Not the one you want.", Config, builder, builder, builder, builder)]


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return a source whose own name is free; it is left out with the rest."""
    return [DataSource("clashing", "Left out.", ("real",), "ganengine_clash:build")]


def build(*arguments: object) -> None:
    """Stand in for every builder."""
