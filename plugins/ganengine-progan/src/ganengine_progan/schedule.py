"""The levels, from 4 x 4 to 1024 x 1024: each a stage with networks, size, batch and moments of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ganengine.variant import Optimizer, Phase, Progress, Schedule, Stage, State

from ganengine_progan.config import SIDES, ProGANConfig

Number = TypeVar("Number", int, float)


def build(config: ProGANConfig) -> Schedule:
    """Return a stage for each level; the engine leaves out those above the run's --size.

    Paper: 1710.10196, appendix A.1.
    """
    d = Phase("d", ("D",), "d", "d", weights={"gp": config.gp_weight, "drift": config.drift}, second_order=True)
    g = Phase("g", ("G",), "g", "g")
    stages = tuple(
        Stage(
            (d, g),
            name=f"{side}x{side}",
            images=config.stable_images + (config.fade_images if level else 0),
            size=side,
            batch=_of_level(config.level_batch, level) if config.level_batch else None,
            reset_optimizers=True,
        )
        for level, side in enumerate(SIDES)
    )

    def rate(progress: Progress, state: State) -> float:
        return _of_level(config.lr, progress.stage)

    adam = Optimizer(rate, options={"betas": config.betas, "eps": config.adam_eps})
    return Schedule(stages, {"d": adam, "g": adam})


def _of_level(values: Sequence[Number], level: int) -> Number:
    """Return the number of a level, the last one where there are fewer."""
    return values[min(level, len(values) - 1)]
