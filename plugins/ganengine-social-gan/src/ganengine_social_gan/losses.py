"""Losses of social-gan: adversarial with drawn labels, and the variety loss: the best of k futures of each scene.

Every term is per scene, [N]: a mean over its people, so that micro-batches fall between scenes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from ganengine.losses.adversarial import NONSATURATING
from ganengine.ragged import means
from torch import Tensor
from torch.nn.functional import softplus

from ganengine_social_gan.config import SocialGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step

Terms: TypeAlias = dict[str, Tensor]


def build(config: SocialGANConfig) -> dict[str, Callable[[Step], Terms]]:
    """Return the losses `d` (terms real, fake) and `g` (adversarial, variety).

    d: b(D(X, Y), t) + b(D(X, G), 0);  g: b(D(X, G), t) + variety, with b(l, t) = softplus(l) - t l and a label t of
    each scene, uniform between the two of --smoothing. Both phases see the same futures; the first of them is judged.

    Paper: 1803.10892, sections 3.3 and 3.4.
    """
    game = NONSATURATING()

    def label(step: Step, name: str) -> Tensor:
        low, high = config.smoothing
        return low + (high - low) * step.rand(f"label.{name}")

    def futures(step: Step) -> Tensor:
        def make() -> Tensor:
            z = step.randn("z", (config.variety_k, config.noise))
            made: Tensor = step["G"](step.batch["observed"], step.batch.starts("observed"), z)
            return made

        found: Tensor = step.shared("futures", make, of=("G",))
        return found

    def judge(step: Step, future: Tensor) -> Tensor:
        logits: Tensor = step["D"](torch.cat((step.batch["observed"], future), 1))
        return logits

    def per_scene(step: Step, logits: Tensor, target: Tensor | float) -> Tensor:
        starts = step.batch.starts("observed")
        linear = means(logits.float(), starts) * target
        return means(softplus(logits.float()), starts) - linear

    def d(step: Step) -> Terms:
        real, fake = judge(step, step.batch["future"]), judge(step, futures(step)[:, 0].detach())
        step.judged(game, real=real, fake=fake)
        return {"real": per_scene(step, real, label(step, "d")), "fake": per_scene(step, fake, 0.0)}

    def g(step: Step) -> Terms:
        made = futures(step)
        ways = (made - step.batch["future"].unsqueeze(1)) / step["G"].scale
        return {
            "adversarial": per_scene(step, judge(step, made[:, 0]), label(step, "g")),
            "variety": variety(ways, step.batch.starts("future"), config),
        }

    return {"d": d, "g": g}


def variety(ways: Tensor, starts: Tensor, config: SocialGANConfig) -> Tensor:
    """Return the distance of each scene's best future from what came, [N]: the mean over its people.

    A person's distance is |w|_2 / sqrt(steps), or |w|_2^2 / steps, of the ways w between the two paths.

    Args:
        ways: [rows, k, steps, 2], from what came to each future.
        starts: [N + 1], where the rows of each scene begin.
        config: whose best future counts, and by which distance.

    Gradients: first order. Paper: 1803.10892, equation 5; the best of a scene as a whole: its published code.
    """
    squares = ways.float().square().sum(-1).mean(-1)  # [rows, k]
    # The root's slope has no end at 0, where a path is met exactly.
    distances = squares if config.variety_distance == "squared" else (squares + 1e-12).sqrt()
    if config.variety_best == "person":
        return means(distances.amin(1), starts)
    return means(distances, starts).amin(1)
