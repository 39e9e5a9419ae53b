"""What a trained G can make: samples, by class where it takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ganengine.two_player.config import TwoPlayerConfig
from ganengine.variant import Prior, View

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: TwoPlayerConfig) -> dict[str, View]:
    """Return the view `samples`; grids, class grids, interpolations and ablations follow from it."""

    def make(step: Step, z: Tensor, y: Tensor | None) -> Tensor:
        made: Tensor = step["G"](z) if y is None else step["G"](z, y)
        return made

    prior = Prior((config.latent,), config.prior)
    label = "label" if config.conditional else None
    return {"samples": View(make, "samples of the generator", kind="sample", prior=prior, label=label)}
