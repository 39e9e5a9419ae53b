"""The family's games as plain float32 loops, as the field's reference repositories write them. For benches only.

They train the engine's own networks with torch's own layers, optimizers and losses; nothing else of the engine runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from ganengine.bench.plain import plain
from ganengine.errors import UserError
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_gan import networks
from ganengine_gan.config import FamilyConfig

Score = Callable[[Tensor], Tensor]


def build(
    config: FamilyConfig, data_spec: DataSpec, device: torch.device | str = "cpu"
) -> Callable[[Mapping[str, Tensor]], None]:
    """Return a function that takes `d_steps` steps of D, then one of G, on one batch {"real": [N, ...]}.

    G is judged on the fakes of D's last step, as in the usual loop. Learning rates stay as they are; no EMA, no
    smoothing, targets 0 and 1.

    Raises:
        UserError: an adversarial loss or penalty that no plain loop is written for.
    """
    built = networks.build(config, data_spec, Stage(()))
    G, D = (plain(built[name]).to(device).train() for name in ("G", "D"))
    step_G, step_D = (_optimizer(config, net, rate) for net, rate in ((G, config.lr), (D, config.d_lr or config.lr)))
    on_real, on_fake, for_G = _scores(config.adversarial)
    if config.penalty not in ("none", "gp"):
        raise UserError(f"--penalty {config.penalty}: the plain loop has none or gp. Use --against nothing.")

    def step(batch: Mapping[str, Tensor]) -> None:
        real = batch["real"]
        fake = real
        for _ in range(config.d_steps):
            step_D.zero_grad()
            on_real(D(real)).backward()  # type: ignore[no-untyped-call]
            z = torch.randn(len(real), config.latent, device=device)
            fake = G(z if config.prior == "normal" else torch.rand_like(z) * 2 - 1)
            on_fake(D(fake.detach())).backward()  # type: ignore[no-untyped-call]
            if config.penalty == "gp":
                penalty = config.penalty_weight * _gradient_penalty(D, real, fake.detach())
                penalty.backward()  # type: ignore[no-untyped-call]
            step_D.step()
            if config.clip_weights:
                for parameter in D.parameters():
                    parameter.data.clamp_(-config.clip_weights, config.clip_weights)
        step_G.zero_grad()
        for_G(D(fake)).backward()  # type: ignore[no-untyped-call]
        step_G.step()

    return step


def _scores(adversarial: str) -> tuple[Score, Score, Score]:
    """Return the losses of logits on real pictures, on fake ones, and of G's fakes."""

    def towards(label: float, distance: Callable[..., Tensor]) -> Score:
        return lambda logits: distance(logits, torch.full_like(logits, label))

    distances: dict[str, Callable[..., Tensor]] = {
        "nonsaturating": F.binary_cross_entropy_with_logits,
        "ls": F.mse_loss,
    }
    if adversarial in distances:
        distance = distances[adversarial]
        return towards(1.0, distance), towards(0.0, distance), towards(1.0, distance)
    if adversarial == "wasserstein":
        return lambda logits: -logits.mean(), lambda logits: logits.mean(), lambda logits: -logits.mean()
    raise UserError(f"--adversarial {adversarial}: the plain loop has nonsaturating, ls or wasserstein.")


def _gradient_penalty(D: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
    result: Tensor = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    return result


def _optimizer(config: FamilyConfig, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=config.momentum)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr=rate)
    return torch.optim.Adam(network.parameters(), lr=rate, betas=config.betas, eps=config.adam_eps)
