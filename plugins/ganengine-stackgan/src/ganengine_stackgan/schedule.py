"""Stages one after the other: text, then the game, of stackgan twice."""

from __future__ import annotations

from ganengine.variant import Optimizer, Phase, Schedule, Stage, Value

from ganengine_stackgan.config import IntClsConfig, StackConfig, TextConfig

HALF = 0.5
"""Weight of D's wrong and fake terms where there are both (1605.05396, algorithm 1, line 9)."""


def build_int_cls(config: IntClsConfig) -> Schedule:
    """Return the stage `text`, where E learns, and the stage `main` of the phases d, penalty and g."""
    main = Stage((*against("d", "D", config), Phase("g", ("G",), "g", "g")), "main")
    return Schedule((*learning_text(config), main), optimizers(config))


def build_stack(config: StackConfig) -> Schedule:
    """Return the stages `text`, `stage-1` (G0 against D0) and `stage-2` (G against D, G0 frozen).

    G0 has no average: its lr falls to 0, so what stage II learns from is what stage I ends with.
    """
    weights: dict[str, Value] = {"kl": config.kl}
    first = (*against("d0", "D0", config), Phase("g0", ("G0",), "g0", "g0", weights))
    second = (
        *against("d", "D", config, hold=("G0",)),
        Phase("g", ("G",), "g", "g", weights, hold=("G0",)),
    )
    return Schedule(
        (
            *learning_text(config, config.low),
            Stage(first, "stage-1", images=config.low_images, size=config.low),
            Stage(second, "stage-2"),
        ),
        {
            "g0": config.adam(config.low_rate(config.lr)),
            "d0": config.adam(config.low_rate(config.d_start)),
            **optimizers(config),
        },
        critics=("D0", "D"),
    )


def learning_text(config: TextConfig, size: int | None = None) -> tuple[Stage, ...]:
    """Return the stage in which the own encoder learns, where there is one."""
    if not config.learns_text:
        return ()
    phase = Phase("text", ("E", "V"), "text", "text")
    return (Stage((phase,), "text", images=config.text_images, size=size),)


def against(phase: str, name: str, config: TextConfig, hold: tuple[str, ...] = ()) -> tuple[Phase, ...]:
    """Return the phases of a discriminator: its game and, where it has a weight, the lazy penalty."""
    weights: dict[str, Value] = {"wrong": HALF, "fake": HALF} if config.cls else {}
    game = Phase(phase, (name,), phase, phase, weights, hold=hold)
    if not config.penalty_weight:
        return (game,)
    penalty, strength = phase.replace("d", "penalty"), {"r1": config.penalty_weight / 2}
    every = config.penalty_every
    return game, Phase(penalty, (name,), penalty, phase, strength, every=every, second_order=True)


def optimizers(config: TextConfig) -> dict[str, Optimizer]:
    """Return the optimizers of text, G and D."""
    return {
        "text": Optimizer(config.text_lr),
        "g": config.adam(config.rate(config.lr)),
        "d": config.adam(config.rate(config.d_start)),
    }
