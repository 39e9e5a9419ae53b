"""CycleGAN as a plain float32 loop, written the way the field's reference repositories write it. For benches only.

It trains the engine's own networks with torch's own optimizers and losses; nothing else of the engine runs.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping

import torch
from ganengine.variant import DataSpec, Stage
from torch import Tensor
from torch.nn import functional

from ganengine_cyclegan import networks
from ganengine_cyclegan.config import CycleGANConfig


def build(
    config: CycleGANConfig, data_spec: DataSpec, device: torch.device | str = "cpu"
) -> Callable[[Mapping[str, Tensor]], None]:
    """Return a function that trains both pairs on one batch {"A": [N, C, H, W], "B": [N, C', H, W]} in [-1, 1].

    Only the paper's game: least squares; the learning rate stays as it is.
    """
    built = networks.build(config, data_spec, Stage(()))
    G, F, D_A, D_B = (built[name].to(device).train() for name in ("G", "F", "D_A", "D_B"))
    discriminators = torch.nn.ModuleList((D_A, D_B))
    optimizer_G = torch.optim.Adam(itertools.chain(G.parameters(), F.parameters()), lr=config.lr, betas=config.betas)
    optimizer_D = torch.optim.Adam(discriminators.parameters(), lr=config.d_lr, betas=config.betas)
    pool_A, pool_B = Pool(config.pool), Pool(config.pool)
    cycle, identity = config.lambda_cycle, config.lambda_identity * config.lambda_cycle

    def against(logits: Tensor, label: float) -> Tensor:
        return functional.mse_loss(logits, torch.full_like(logits, label))

    def step(batch: Mapping[str, Tensor]) -> None:
        a, b = batch["A"], batch["B"]
        fake_B, fake_A = G(a), F(b)

        discriminators.requires_grad_(False)
        optimizer_G.zero_grad()
        loss_G = against(D_A(fake_A), 1.0) + against(D_B(fake_B), 1.0)
        if cycle:
            loss_G = loss_G + cycle * (functional.l1_loss(F(fake_B), a) + functional.l1_loss(G(fake_A), b))
        if identity:
            loss_G = loss_G + identity * (functional.l1_loss(F(a), a) + functional.l1_loss(G(b), b))
        loss_G.backward()  # type: ignore[no-untyped-call]
        optimizer_G.step()

        discriminators.requires_grad_(True)
        optimizer_D.zero_grad()
        for D, real, fake, pool in ((D_A, a, fake_A, pool_A), (D_B, b, fake_B, pool_B)):
            loss_D = (against(D(real), 1.0) + against(D(pool(fake.detach())), 0.0)) * 0.5
            loss_D.backward()  # type: ignore[no-untyped-call]
        optimizer_D.step()

    return step


class Pool:
    """Up to `size` earlier pictures; a full pool exchanges one of them for a new one every other time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pictures: list[Tensor] = []
        self.random = random.Random(0)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return pictures [N, C, H, W], new and earlier ones."""
        shown = []
        for picture in torch.split(pictures, 1) if self.size else ():
            if len(self.pictures) < self.size:
                self.pictures.append(picture.clone())
                shown.append(picture)
            elif self.random.random() < 0.5:
                place = self.random.randrange(self.size)
                shown.append(self.pictures[place])
                self.pictures[place] = picture.clone()
            else:
                shown.append(picture)
        return torch.cat(shown) if shown else pictures
