"""What a trained pix2pix can make: rows of input, output and truth, and translated pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganengine.variant import View
from torch import Tensor

from ganengine_pix2pix.config import Pix2PixConfig

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: Pix2PixConfig) -> dict[str, View]:
    """Return the views `triptych` (the preview) and `translate`.

    G pads and crops by itself, since its depth depends on the size it was trained at, so `translate` asks for no
    multiple.
    """

    def triptych(step: Step, n: int) -> dict[str, Tensor]:
        source = getattr(step.batch, config.source)[:n]
        truth = getattr(step.batch, config.target)[:n]
        return {"input": source, "output": step["G"](source), "truth": truth}

    def translate(step: Step, images: Tensor) -> Tensor:
        painted: Tensor = step["G"](images)
        return painted

    return {
        "triptych": View(triptych, "rows of input, output and truth"),
        "translate": View(
            translate,
            f"{config.source} -> {config.target}",
            kind="translate",
            source=config.source,
            target=config.target,
        ),
    }
