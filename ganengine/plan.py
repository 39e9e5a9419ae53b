"""What is worked out and checked of a schedule before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganengine.config import RunOptions, Settings, words
from ganengine.errors import PluginError, UserError, nearest
from ganengine.variant import DataSpec, Group, Schedule


def horizon(settings: Settings, spec: DataSpec) -> int:
    """Return the images that a run is planned for."""
    epochs = settings.engine.epochs
    return settings.engine.horizon if epochs is None else max(1, round(epochs * spec.count))


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
    """Check that the batch of every stage splits into --accumulate parts.

    Raises:
        UserError: one does not.
    """
    for stage in schedule.stages:
        if (stage.batch or options.batch) % options.accumulate:
            raise UserError(
                f'--accumulate: expected a divisor of the batch of stage "{stage.name}", which is '
                f"{stage.batch or options.batch}; got {options.accumulate}."
            )


def check_components(schedule: Schedule, options: RunOptions) -> None:
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
    for option, idle in (("augment", "none"), ("instance_noise", 0.0)):
        if getattr(options, option) != idle and not trained & set(schedule.critics):
            raise UserError(
                f"--{option.replace('_', '-')}: expected a game with a critic, got one that trains {listed}. "
                "Leave the option out."
            )
    if options.augment_policy is not None and options.augment == "none":
        raise UserError(f"--augment-policy {options.augment_policy}: expected --augment beside it, got none.")
