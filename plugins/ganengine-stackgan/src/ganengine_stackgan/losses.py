"""Losses of both variants: D tells three kinds apart, G pleases it, and in stackgan conditions stay near N(0, I).

D: -log s_r - 1/2 [log(1 - s_w) + log(1 - s_f)];  G: -log s_f, with s = sigmoid(D(picture, text)) of a real picture with
its text, with a wrong text, and of a fake with the text that it was drawn from. The weights are those of the phases.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from ganengine.losses.adversarial import NONSATURATING
from ganengine.losses.penalties import r1_penalty
from ganengine.step import Step
from torch import Tensor

from ganengine_stackgan.config import IntClsConfig, StackConfig, TextConfig
from ganengine_stackgan.text import embedded, match

Terms: TypeAlias = dict[str, Tensor]
Draw: TypeAlias = Callable[[Step], "tuple[Tensor, Tensor | None]"]
"""Fakes of the step, and what conditioning augmentation costs each, where there is one."""


def build_int_cls(config: IntClsConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `text`, `d`, `penalty` and `g` of gan-int-cls.

    G's term `int` is -log s of D(G(z, u), u) at u = b t + (1 - b) t', t' the text of another picture.

    Paper: 1605.05396, algorithm 1 and equation 5.
    """
    game = NONSATURATING()

    def fake(step: Step) -> tuple[Tensor, Tensor | None]:
        def draw() -> Tensor:
            made: Tensor = step["G"](step.randn("z", (config.latent,)), embedded(step, config))
            return made

        return step.shared("fake", draw, of=("G",)), None

    def g(step: Step) -> Terms:
        terms = please(step, config, "D", fake)
        if config.int_texts:
            texts = embedded(step, config)
            others = step.whole(texts)[step.derangement("mixed")]
            between = config.int_share * texts + (1 - config.int_share) * others
            made = step["G"](step.randn("z.int", (config.latent,)), between)
            terms["int"] = game.g(step["D"](made, between))
        return terms

    return {
        "text": match,
        "d": partial(tell_apart, config=config, name="D", fake=fake),
        "penalty": partial(penalise, config=config, name="D"),
        "g": g,
    }


def build_stack(config: StackConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `text`; `d0`, `penalty0` and `g0` of stage I; `d`, `penalty` and `g` of stage II.

    Paper: 1612.03242, equations 3 to 6.
    """

    def sketch(step: Step) -> tuple[Tensor, Tensor | None]:
        def draw() -> tuple[Tensor, Tensor]:
            made: tuple[Tensor, Tensor] = step["G0"](
                step.randn("z", (config.latent + config.condition,)), embedded(step, config)
            )
            return made

        found: tuple[Tensor, Tensor] = step.shared("sketch", draw, of=("G0",))
        return found

    def refined(step: Step) -> tuple[Tensor, Tensor | None]:
        def draw() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                low, _ = sketch(step)
            made: tuple[Tensor, Tensor] = step["G"](low, step.randn("e", (config.condition,)), embedded(step, config))
            return made

        found: tuple[Tensor, Tensor] = step.shared("fake", draw, of=("G0", "G"))
        return found

    return {
        "text": match,
        "d0": partial(tell_apart, config=config, name="D0", fake=sketch),
        "g0": partial(please, config=config, name="D0", fake=sketch),
        "penalty0": partial(penalise, config=config, name="D0"),
        "d": partial(tell_apart, config=config, name="D", fake=refined),
        "penalty": partial(penalise, config=config, name="D"),
        "g": partial(please, config=config, name="D", fake=refined),
    }


def tell_apart(step: Step, config: TextConfig, name: str, fake: Draw) -> Terms:
    """Return the terms `real`, `fake` and, with cls, `wrong` of the discriminator `name`, each [N]."""
    game, D = NONSATURATING(), step[name]
    texts = embedded(step, config)
    made, _ = fake(step)
    sentences = (texts, step.whole(texts)[step.derangement("wrong")]) if config.cls else (texts,)
    right, *wrong = D(step.batch["real"], torch.stack(sentences))
    mocked = D(made.detach(), texts)
    step.judged(game, real=right, fake=mocked)
    terms = {"real": game.d_real(right), "fake": game.d_fake(mocked)}
    return {**terms, "wrong": game.d_fake(wrong[0])} if wrong else terms


def penalise(step: Step, config: TextConfig, name: str) -> Terms:
    """Return the term `r1` of the discriminator `name`, [N]: |grad_x D(x, t)|^2 at real pictures with their texts.

    Paper: 1801.04406, equation 9.
    """
    D, texts = step[name], embedded(step, config)
    return {"r1": r1_penalty(lambda x: D(x, texts), step.batch["real"])}


def please(step: Step, config: TextConfig, name: str, fake: Draw) -> Terms:
    """Return the terms `g` and, where there is an augmentation, `kl` of the generator against D `name`, each [N]."""
    made, kl = fake(step)
    terms = {"g": NONSATURATING().g(step[name](made, embedded(step, config)))}
    return terms if kl is None else {**terms, "kl": kl}
