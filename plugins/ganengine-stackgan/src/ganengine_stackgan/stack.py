"""Networks of stackgan: conditioning augmentation, G0 that sketches, G that refines."""

from __future__ import annotations

import torch
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_stackgan.config import StackConfig
from ganengine_stackgan.networks import BASE, Discriminator, doublings, drawn, encoders, form, width_of_texts

DOWNS = 2
"""G halves the sketch so often before its residual blocks: 64 to 16 in the paper."""


def build(config: StackConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return E and V in the stage `text`; E, frozen, and D0 in `stage-1`; E, G and D in `stage-2`, where G0 is frozen.

    G0: [z, e] [N, latent + condition], texts [N, E] -> (pictures, KL [N]); G: pictures of G0, e [N, condition], texts
    -> the same, larger; D0 and D: pictures, texts -> logits [N].

    Raises:
        UserError: pictures of another form than the networks draw, or data without the texts asked for.
    """
    channels, side = form(data_spec)
    texts = width_of_texts(config, data_spec)
    low, high = doublings("low", config.low), doublings("size", side)
    if high <= low:
        raise UserError(f"--size: expected more than stage I's --low {config.low}, got {side}. Make one of them other.")
    networks = encoders(config, channels, config.low, stage) | {"G0": drawn(Sketcher(config, texts, channels, low))}
    if stage.name == "stage-1":
        networks["D0"] = drawn(Discriminator(config, texts, channels, low))
    if stage.name == "stage-2":
        networks["G0"].requires_grad_(False)
        networks["G"] = drawn(Refiner(config, texts, channels, high - low))
        networks["D"] = drawn(Discriminator(config, texts, channels, high))
    return networks


def kl_divergence(mu: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mu, diag sigma^2) || N(0, I)) per sample, [N].

        1/2 sum_k (mu_k^2 + sigma_k^2 - 1 - log sigma_k^2)

    Args:
        mu, log_variance: [N, K].
    """
    return 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(1)


class Augmentation(nn.Module):
    """Conditioning augmentation: c = mu + sigma e, where mu and log sigma^2 are linear in the text.

    Paper: 1612.03242, section 3.2.
    """

    def __init__(self, texts: int, condition: int) -> None:
        super().__init__()
        self.out = nn.Linear(texts, 2 * condition)

    def forward(self, texts: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """Return c [N, K], and the KL divergence [N] of its distribution from N(0, I); e is drawn from that."""
        mu, log_variance = self.out(texts).float().chunk(2, 1)
        return mu + (log_variance / 2).exp() * e, kl_divergence(mu, log_variance)


def up(inputs: int, outputs: int) -> list[nn.Module]:
    """Return up2, C3, BN, ReLU."""
    return [
        nn.Upsample(scale_factor=2.0),
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class Sketcher(nn.Module):
    """G0: FC of [c, z] to 4 x 4, BN ReLU; up2 C3 BN ReLU to the low side; C3 tanh.

    Args:
        config: widths.
        texts: E.
        channels: of a picture.
        ups: doublings from 4 to the low side.
    """

    def __init__(self, config: StackConfig, texts: int, channels: int, ups: int) -> None:
        super().__init__()
        self.latent = config.latent
        self.augment = Augmentation(texts, config.condition)
        width = config.g0_filters << ups
        self.begin = nn.Linear(config.condition + config.latent, width * BASE**2, bias=False)
        layers: list[nn.Module] = [nn.Unflatten(1, (width, BASE, BASE)), BatchNorm2d(width), nn.ReLU()]
        for _ in range(ups):
            layers += up(width, width // 2)
            width //= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, latents: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures [N, C, low, low] in [-1, 1], and the KL term [N]."""
        z, e = latents[:, : self.latent], latents[:, self.latent :]
        c, kl = self.augment(texts, e)
        return self.layers(self.begin(torch.cat((c, z), 1))), kl


class Residual(nn.Module):
    """relu(x + C3 BN ReLU, C3 BN)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same form."""
        out: Tensor = (x + self.layers(x)).relu()
        return out


class Refiner(nn.Module):
    """G: C3 and two C4s2 of the sketch, c' at every place, C3, residual blocks, up2 C3 BN ReLU to full size, C3 tanh.

    There is no z: what varies comes from the sketch and from e.

    Args:
        config: widths.
        texts: E.
        channels: of a picture.
        ups: doublings from the sketch's side to the picture's.
    """

    def __init__(self, config: StackConfig, texts: int, channels: int, ups: int) -> None:
        super().__init__()
        width = config.g_filters
        self.augment = Augmentation(texts, config.condition)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(DOWNS):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), BatchNorm2d(2 * width), nn.ReLU()]
            width *= 2
        self.read = nn.Sequential(*layers)
        layers = [nn.Conv2d(width + config.condition, width, 3, padding=1, bias=False), BatchNorm2d(width), nn.ReLU()]
        layers += [Residual(width) for _ in range(config.blocks)]
        for _ in range(ups + DOWNS):
            narrower = max(width // 2, config.g_filters // 4)
            layers += up(width, narrower)
            width = narrower
        self.draw = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, sketches: Tensor, e: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures [N, C, H, W] in [-1, 1], and the KL term [N]."""
        c, kl = self.augment(texts, e)
        seen = self.read(sketches)
        told = c[:, :, None, None].expand(-1, -1, *seen.shape[2:])
        return self.draw(torch.cat((seen, told.to(seen.dtype)), 1)), kl
