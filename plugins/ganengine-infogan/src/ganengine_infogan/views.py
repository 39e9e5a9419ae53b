"""What a trained run can make: samples of its parts, and real pictures drawn anew from what Q reads in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ganengine.variant import View
from torch import Tensor

from ganengine_infogan.config import InfoGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: InfoGANConfig) -> dict[str, View]:
    """Return the views `samples` and `read`."""

    def samples(step: Step, z: Tensor, y: Tensor | None) -> Tensor:
        made: Tensor = step["G"](z)
        return made

    def read(step: Step, n: int) -> dict[str, Tensor]:
        real = step.batch["real"][:n]
        logits, mean, _ = step["Q"](step["D"](real)[1])
        z = step.latent("z", config.prior)[:n]
        category = torch.nn.functional.one_hot(logits.argmax(1), config.categories)
        codes = torch.cat((category, mean.clamp(-1, 1)), 1).to(z.dtype)
        again: Tensor = step["G"](torch.cat((z[:, : config.noise], codes), 1))
        return {"real": real, "read": again}

    return {
        "samples": View(samples, "samples of the generator", kind="sample", prior=config.prior),
        "read": View(read, "real pictures beside what G makes of the codes that Q reads in them"),
    }
