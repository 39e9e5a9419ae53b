"""cbn-gan as a plain float32 loop, written the way the field's reference repositories write it. For benches only.

It trains networks of the same shape with torch's own norms, optimizers and losses; nothing else of the engine runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from ganengine.nn import ConditionalBatchNorm2d
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ganengine_cbn_gan import networks
from ganengine_cbn_gan.config import CBNGANConfig


def build(
    config: CBNGANConfig, data_spec: DataSpec, device: torch.device | str = "cpu"
) -> Callable[[Mapping[str, Tensor]], None]:
    """Return a function that takes `d_steps` steps of D, then one of G, on {"real": [N, C, H, W], "label": [N]}.

    The hinge game without the orthogonal penalty; the learning rate stays as it is, and there is no EMA.
    """
    built = networks.build(config, data_spec, Stage(()))
    G, D = (_plain(built[name]).to(device).train() for name in ("G", "D"))
    classes = data_spec.classes("label")
    step_G = torch.optim.Adam(G.parameters(), lr=config.lr, betas=config.betas)
    step_D = torch.optim.Adam(D.parameters(), lr=config.d_lr or config.lr, betas=config.betas)

    def generate(count: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(classes, (count,), device=device)
        return G(torch.randn(count, config.latent, device=device), y), y

    def step(batch: Mapping[str, Tensor]) -> None:
        real, label = batch["real"], batch["label"]
        for _ in range(config.d_steps):
            step_D.zero_grad()
            fake, y = generate(len(real))
            loss = (1 - D(real, label)).relu().mean() + (1 + D(fake.detach(), y)).relu().mean()
            loss.backward()
            step_D.step()
        step_G.zero_grad()
        fake, y = generate(len(real))
        (-D(fake, y).mean()).backward()
        step_G.step()

    return step


class Norm(nn.Module):
    """Conditional batch norm as reference repositories write it: batch norm, a table for scale and one for shift."""

    def __init__(self, of: ConditionalBatchNorm2d) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(of.num_features, of.eps, affine=False)
        self.gamma, self.beta = (nn.Embedding(of.num_classes, of.num_features) for _ in range(2))
        self.gamma.weight.data.copy_(of.gamma)
        self.beta.weight.data.copy_(of.beta)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return like x, after a ReLU."""
        gamma, beta = (table(y)[:, :, None, None] for table in (self.gamma, self.beta))
        return torch.relu(gamma * self.norm(x) + beta)


def _plain(network: nn.Module) -> nn.Module:
    """Replace the engine's conditional batch norm and spectral norm in `network` by the usual ones, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConditionalBatchNorm2d):
                setattr(module, name, Norm(child))
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            module._forward_pre_hooks.clear()
            parametrizations.spectral_norm(module)
    return network
