"""pix2pix as a plain float32 loop, written the way the field's reference repositories write it. For benches only.

It trains the engine's own networks with torch's own layers, optimizers and losses; nothing else of the engine runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from ganengine.bench.plain import plain
from ganengine.variant import DataSpec, Stage
from torch import Tensor
from torch.nn import functional as F

from ganengine_pix2pix import networks
from ganengine_pix2pix.config import Pix2PixConfig


def build(
    config: Pix2PixConfig, data_spec: DataSpec, device: torch.device | str = "cpu"
) -> Callable[[Mapping[str, Tensor]], None]:
    """Return a function that trains D and G on one batch {"A": [N, C, H, W], "B": [N, C', H, W]} in [-1, 1].

    Only the paper's game, arm `l1+cgan` with `nonsaturating`; the learning rate stays as it is.
    """
    built = networks.build(config, data_spec, Stage(()))
    G, D = (plain(built[name]).to(device).train() for name in ("G", "D"))
    optimizer_G = torch.optim.Adam(G.parameters(), lr=config.lr, betas=config.betas)
    optimizer_D = torch.optim.Adam(D.parameters(), lr=config.lr, betas=config.betas)

    def against(logits: Tensor, label: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def step(batch: Mapping[str, Tensor]) -> None:
        a, b = batch[config.source], batch[config.target]
        fake = G(a)

        D.requires_grad_(True)
        optimizer_D.zero_grad()
        loss_fake = against(D(torch.cat((a, fake.detach()), 1)), 0.0)
        loss_real = against(D(torch.cat((a, b), 1)), 1.0)
        loss_D = (loss_fake + loss_real) * 0.5
        loss_D.backward()  # type: ignore[no-untyped-call]
        optimizer_D.step()

        D.requires_grad_(False)
        optimizer_G.zero_grad()
        loss_G = against(D(torch.cat((a, fake), 1)), 1.0) + F.l1_loss(fake, b) * config.lambda_l1
        loss_G.backward()  # type: ignore[no-untyped-call]
        optimizer_G.step()

    return step
