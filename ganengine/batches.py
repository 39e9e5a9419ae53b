"""The batches of one step: one that the phases share, and those that some draw for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganengine import draws, ranks
from ganengine.step import Step
from ganengine.variant import Phase

if TYPE_CHECKING:
    from ganengine.trainer import Trainer


class Batches:
    """Draws what the phases of one step ask for.

    Args:
        trainer: whose loader, position and networks these are.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._latest: list[Step] = []
        self._drawn = 0
        self.all: list[Step] = []

    def of(self, phase: Phase, repeats: int) -> list[Step]:
        """Return the micro-batches for one update of `phase`; draw a batch where it needs one of its own."""
        if self._latest and not phase.fresh_batch and repeats == 1:
            return self._latest
        steps = self._draw(self._drawn)
        self._drawn += 1
        self.all += steps
        if not phase.fresh_batch:
            self._latest = steps
        return steps

    def _draw(self, number: int) -> list[Step]:
        """Draw batch `number` of this step, with random numbers of its own."""
        trainer, at = self._trainer, self._trainer.position
        options, stage = trainer.settings.engine, trainer.schedule.stages[at.stage]
        count = stage.batch or options.batch
        batch = trainer.loader.draw(at.images, count, size=stage.size, rank=ranks.rank(), world=ranks.world())
        batch = batch.to(trainer.hardware.device, channels_last=trainer.hardware.channels_last)
        seed = draws.key(options.seed, *(("salt", at.salt) if at.salt else ()), "step", at.step, number)
        progress = trainer.progress()
        at.images += count
        share = count // ranks.world()
        length = share // options.accumulate
        return [
            Step(
                trainer.players.networks,
                batch if options.accumulate == 1 else batch.narrow(start, length),
                progress,
                seed,
                state=trainer.state,
                rows=(ranks.rank() * share + start, count),
                steps=trainer.players.steps,
                signs=trainer.critics.augmentation is not None,
            )
            for start in range(0, share, length)
        ]
