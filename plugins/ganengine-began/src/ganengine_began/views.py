"""What a trained run can make: samples, reconstructions, and ways between real pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ganengine.latents import between
from ganengine.variant import Prior, View
from torch import Tensor, nn

from ganengine_began.config import BEGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Places on the way from one picture to another."""
STEPS, RATE = 80, 0.1
"""Steps of Adam that look for a picture's z, and their rate."""


def build(config: BEGANConfig) -> dict[str, View]:
    """Return the views `samples`, `reconstructions` and `between`."""
    prior = Prior((config.latent,), "uniform")

    def samples(step: Step, z: Tensor, y: Tensor | None) -> Tensor:
        made: Tensor = step["G"](z)
        return made.clamp(-1, 1)

    def reconstructions(step: Step, n: int) -> dict[str, Tensor]:
        real = step.batch["real"][:n]
        fake = step["G"](step.latent("z", prior)[:n])
        columns = {"real": real, "D(real)": step["D"](real), "fake": fake, "D(fake)": step["D"](fake)}
        return {name: pictures.clamp(-1, 1) for name, pictures in columns.items()}

    def between_real(step: Step, n: int) -> dict[str, Tensor]:
        real = step.batch["real"][:n]
        z = solve(step["G"], real, step.latent("z", prior)[:n])
        way = between(z, z.roll(-1, 0), torch.tensor(SHARES, device=z.device), "linear")
        columns = {f"{share:g}": step["G"](way[:, index]) for index, share in enumerate(SHARES)}
        return {"from": real, **{name: made.clamp(-1, 1) for name, made in columns.items()}, "to": real.roll(-1, 0)}

    return {
        "samples": View(samples, "samples of the generator", kind="sample", prior=prior),
        "reconstructions": View(reconstructions, "real pictures and G's, each beside what D makes of it"),
        "between": View(
            between_real, "ways from real pictures to the next, between the latents that G meets them with"
        ),
    }


def solve(G: nn.Module, pictures: Tensor, z: Tensor, steps: int = STEPS) -> Tensor:
    """Return latents in [-1, 1] whose pictures come near to given ones: argmin over z of mean |G(z) - x|, by Adam.

    Args:
        G: stands still.
        pictures: x [N, C, H, W].
        z: [N, L], where to begin.
        steps: of Adam.

    Paper: 1703.10717, section 4.2 (real images are mapped to z by Adam).
    """
    found = z.clone().requires_grad_(True)
    adam = torch.optim.Adam([found], RATE)
    with torch.enable_grad(), torch.autocast(pictures.device.type, enabled=False):
        for _ in range(steps):
            apart = (G(found) - pictures).abs().mean((1, 2, 3)).sum()
            (found.grad,) = torch.autograd.grad(apart, found)
            adam.step()
            with torch.no_grad():
                found.clamp_(-1, 1)
    return found.detach()
