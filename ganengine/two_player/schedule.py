"""The game of one G and one D: alternating or simultaneous, with a lazy penalty and a warm-up of D where asked for."""

from __future__ import annotations

from ganengine.actions import clip_weights
from ganengine.two_player.config import TwoPlayerConfig
from ganengine.variant import Group, Optimizer, Phase, Progress, Schedule, Stage, State, Value


def build(config: TwoPlayerConfig) -> Schedule:
    """Return one stage of the phases `d`, `penalty` (where it is lazy) and `g`.

    Paper: 1406.2661, algorithm 1 (alternating).
    """
    lazy = config.penalty != "none" and config.penalty_every > 1
    penalised = config.penalty != "none" and not lazy
    factor = 1.0 if config.penalty == "gp" else 0.5
    weights: dict[str, Value] = {config.penalty: factor * config.penalty_weight}
    after = (clip_weights("D", config.clip_weights),) if config.clip_weights else ()
    d = Phase(
        "d", params=("D",), loss="d", optimizer="d", repeats=config.d_repeats(), second_order=penalised, after=after,
        weights=weights if penalised else {},
    )  # fmt: skip
    g = Phase("g", params=("G",), loss="g", optimizer="g", when=_Warm(config.d_warmup) if config.d_warmup else None)
    between = [
        Phase(
            "penalty", params=("D",), loss="penalty", optimizer="d", every=config.penalty_every, second_order=True,
            after=after, weights=weights,
        )
    ] if lazy else []  # fmt: skip
    phases = (Group((d, g)),) if config.order == "simultaneous" else (d, *between, g)
    optimizers: dict[str, Optimizer] = {
        "g": config.optimizer_of(config.lr),
        "d": config.optimizer_of(config.lr if config.d_lr is None else config.d_lr),
    }
    return Schedule(stages=(Stage(phases),), optimizers=optimizers, averaged=("G",))


class _Warm:
    """Holds from step n on: D has had n steps alone."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, progress: Progress, state: State) -> bool:
        return progress.step >= self.steps
