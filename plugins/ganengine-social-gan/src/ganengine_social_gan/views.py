"""What a trained G can make: futures of a scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganengine.variant import Prior, View
from torch import Tensor

from ganengine_social_gan.config import SocialGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: SocialGANConfig) -> dict[str, View]:
    """Return the view `futures`; fans and errors follow from it."""

    def make(step: Step, z: Tensor) -> Tensor:
        made: Tensor = step["G"](step.batch["observed"], step.batch.starts("observed"), z)
        return made

    return {
        "futures": View(
            make,
            "fans of futures",
            kind="forecast",
            prior=Prior((config.noise,)),
            source="observed",
            target="future",
        )
    }
