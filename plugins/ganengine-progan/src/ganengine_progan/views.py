"""What a trained G can make, at whatever point of its growth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganengine.variant import Prior, View
from torch import Tensor

from ganengine_progan.config import ProGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: ProGANConfig) -> dict[str, View]:
    """Return the view `samples`; G draws without bounds, so its pictures are cut to [-1, 1]."""

    def make(step: Step, z: Tensor, y: Tensor | None) -> Tensor:
        made: Tensor = step["G"](z, config.alpha(step.progress))
        return made.clamp(-1, 1)

    return {"samples": View(make, "samples of the generator", kind="sample", prior=Prior((config.latent,)))}
