"""What is worked out and checked of a schedule before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ganengine import ranks
from ganengine.config import RunOptions, Settings, words
from ganengine.errors import PluginError, UserError, nearest
from ganengine.variant import DataSpec, Group, Schedule, Stage

HORIZON = 20_000
"""Images that a run is planned for where neither the user nor the stages say."""


def schedule_of(settings: Settings) -> Schedule:
    """Build the schedule of a run: without the stages whose pictures are larger than its --size.

    Raises:
        UserError: all stages state a size, and none of them the run's.
    """
    built: Schedule = settings.variant.builder("schedule")(settings.config)
    size = settings.engine.size
    if size is None:
        return built
    stages = tuple(stage for stage in built.stages if (stage.size or 0) <= size)
    sizes = [stage.size for stage in built.stages if stage.size is not None]
    if built.stages and len(sizes) == len(built.stages) and size not in sizes:
        listed = ", ".join(map(str, sorted(set(sizes))))
        fitting = max((one for one in sizes if one < size), default=min(sizes))
        raise UserError(
            f"--size: expected the size of a stage of {settings.variant.name} ({listed}), got {size}. "
            f"Use --size {fitting}."
        )
    return dataclasses.replace(built, stages=stages)


def horizon(settings: Settings, spec: DataSpec, schedule: Schedule) -> int:
    """Return the images that a run is planned for: as asked, else the length of all stages where each states one."""
    options = settings.engine
    if options.epochs is not None:
        return max(1, round(options.epochs * spec.count))
    lengths = [stage.images for stage in schedule.stages if stage.images is not None]
    whole = sum(lengths) if len(lengths) == len(schedule.stages) else HORIZON
    return whole if options.horizon is None else options.horizon


def enlargement(stage: Stage, options: RunOptions) -> int:
    """Return how many times larger the pictures of a stage are shown: those of all stages have the run's size."""
    return max(1, options.size // stage.size) if options.size and stage.size else 1


def check_schedule(schedule: Schedule, losses: Mapping[str, Any]) -> None:
    """Check a schedule as a whole before anything is trained.

    Raises:
        PluginError: a name that leads nowhere, or phases that cannot be run as stated.
    """
    if not schedule.stages:
        raise PluginError("The schedule has no stages; expected at least one.")
    for index, stage in enumerate(schedule.stages):
        names = [phase.name for phase in schedule.phases(index)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise PluginError(
                f'Stage "{stage.name}": phase names must differ; {", ".join(sorted(twice))} stands twice.'
            )
        for entry in stage.phases:
            if isinstance(entry, Group) and any(p.repeats != 1 or p.fresh_batch for p in entry.phases):
                raise PluginError(
                    f'Stage "{stage.name}": phases of a simultaneous group share one batch and step once.'
                )
        for phase in schedule.phases(index):
            if phase.loss not in losses:
                raise PluginError(
                    f'Phase "{phase.name}" uses loss "{phase.loss}"; the losses are {", ".join(losses)}.'
                )  # fmt: skip
            if phase.optimizer not in schedule.optimizers:
                raise PluginError(f'Phase "{phase.name}" uses optimizer "{phase.optimizer}", which is not defined.')
            if phase.every < 1 or not phase.params:
                raise PluginError(f'Phase "{phase.name}": expected every >= 1 and at least one parameter group.')


def check_batches(schedule: Schedule, options: RunOptions) -> None:
    """Check that the batch of every stage splits into equal shares for all ranks, and those into --accumulate parts.

    Raises:
        UserError: one does not.
    """
    for stage in schedule.stages:
        share, rest = divmod(stage.batch or options.batch, ranks.world())
        if rest or not share:
            raise UserError(
                f'--batch: expected a multiple of {ranks.world()} in stage "{stage.name}", an equal share for '
                f"each rank; got {stage.batch or options.batch}."
            )
        if share % options.accumulate:
            whole = f"a rank's share, {share}, of " if ranks.world() > 1 else ""
            raise UserError(
                f'--accumulate: expected a divisor of {whole}the batch of stage "{stage.name}", which is '
                f"{stage.batch or options.batch}; got {options.accumulate}."
            )


def check_components(schedule: Schedule, options: RunOptions, spec: DataSpec) -> None:
    """Check that options which act on networks find those they act on.

    Raises:
        UserError: one would do nothing.
    """
    stages = range(len(schedule.stages))
    trained = {name.partition(".")[0] for stage in stages for phase in schedule.phases(stage) for name in phase.params}
    listed = ", ".join(sorted(trained))
    for name in words(options.spectral_norm):
        if name not in trained:
            raise UserError(
                f'--spectral-norm: expected networks that are trained ({listed}), got "{name}".{nearest(name, trained)}'
            )
    kinds = sorted({field.kind for field in spec.fields.values()})
    for option, idle in (("augment", "none"), ("instance_noise", 0.0)):
        if getattr(options, option) == idle:
            continue
        if "image" not in kinds:
            flag = option.replace("_", "-")
            raise UserError(f"--{flag}: expected data of pictures, got {', '.join(kinds)}. Leave the option out.")
        if not trained & set(schedule.critics):
            raise UserError(
                f"--{option.replace('_', '-')}: expected a game with a critic, got one that trains {listed}. "
                "Leave the option out."
            )
    if options.augment_policy is not None and options.augment == "none":
        raise UserError(f"--augment-policy {options.augment_policy}: expected --augment beside it, got none.")
