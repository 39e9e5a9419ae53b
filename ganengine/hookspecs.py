"""The plugin contract on one page: every hook that a plugin may implement.

A plugin is a distribution with an entry point in the group `ganengine`; the module it names imports without torch
and states `GANENGINE_API = 1`. An implementation takes only the arguments that it needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from ganengine.variant import Component, DataSource, Variant

if TYPE_CHECKING:
    from ganengine.records import CheckpointRecord, EndRecord, RunRecord, StepRecord, TickRecord

hookspec = pluggy.HookspecMarker("ganengine")
hookimpl = pluggy.HookimplMarker("ganengine")


# What a plugin adds, each by name.


@hookspec
def ganengine_variants() -> Iterable[Variant]:
    """Return the systems that `ganengine run` can train."""


@hookspec
def ganengine_data_sources() -> Iterable[DataSource]:
    """Return the kinds of data that any variant can be trained on."""


@hookspec
def ganengine_architectures() -> Iterable[Component]:
    """Return network architectures that variants can build by name."""


@hookspec
def ganengine_losses() -> Iterable[Component]:
    """Return adversarial losses."""


@hookspec
def ganengine_penalties() -> Iterable[Component]:
    """Return penalties on a player."""


@hookspec
def ganengine_initialisers() -> Iterable[Component]:
    """Return initialisers of weights."""


@hookspec
def ganengine_optimizers() -> Iterable[Component]:
    """Return torch optimizer classes."""


@hookspec
def ganengine_augmentations() -> Iterable[Component]:
    """Return augmentations of what critics see: fn(options, device) -> ganengine.augment.Augmentation."""


@hookspec
def ganengine_metrics() -> Iterable[Component]:
    """Return metrics that `ganengine eval` can compute."""


@hookspec
def ganengine_exporters() -> Iterable[Component]:
    """Return formats of `ganengine export`: objects of ganengine.export.formats.Exporter."""


@hookspec
def ganengine_commands() -> Iterable[Component]:
    """Return further commands: fn(arguments) -> exit status."""


# What a plugin may watch. Observers receive records and never change a run.


@hookspec
def ganengine_run_start(record: RunRecord) -> None:
    """Watch a run start or go on."""


@hookspec
def ganengine_step(record: StepRecord) -> None:
    """Watch a step end; values are still on the device."""


@hookspec
def ganengine_tick(record: TickRecord) -> None:
    """Watch a tick: means since the last one, on the host."""


@hookspec
def ganengine_checkpoint(record: CheckpointRecord) -> None:
    """Watch a checkpoint after it is safely on disk."""


@hookspec
def ganengine_run_end(record: EndRecord) -> None:
    """Watch a run end, with the reason."""
