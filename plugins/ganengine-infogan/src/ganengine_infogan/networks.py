"""G, D and Q of InfoGAN for pictures of digits: D and Q are heads on one trunk."""

from __future__ import annotations

import torch
from ganengine.errors import UserError
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_infogan.config import InfoGANConfig

SLOPE = 0.1
"""Of the trunk's and Q's leaky ReLUs."""


def build(config: InfoGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, L] -> pictures, D: pictures -> (logits [N], features [N, hidden]), Q: features -> codes.

    Raises:
        UserError: the data are no pictures, or their sides are no multiples of 4.
    """
    field = data_spec.fields["real"]
    if field.kind != "image":
        raise UserError(f"infogan: expected pictures, got data of kind {field.kind}. Choose a data source of pictures.")
    channels, height, width = field.shape
    if height % 4 or width % 4 or min(height, width) < 8:
        fitting = max(8, min(height, width) // 4 * 4)
        raise UserError(
            f"infogan: expected pictures whose sides are multiples of 4, from 8 on, got {height} x {width}. "
            f"Use --size {fitting}."
        )
    G = Generator(config, channels, height // 4, width // 4)
    D = Discriminator(config, channels, height // 4, width // 4)
    networks: dict[str, nn.Module] = {"G": G, "D": D, "Q": Recogniser(config)}
    for network in networks.values():
        initialise(network, "normal", torch.default_generator)
    return networks


class Generator(nn.Sequential):
    """FC hidden BN ReLU, FC h x w x 2F BN ReLU, T F k4s2 BN ReLU, T C k4s2, tanh.

    The norms are torch's: samples are always made with running statistics, never with their own.

    Args:
        config: widths and the latent.
        channels: C of a picture.
        height: a quarter of a picture's.
        width: a quarter of a picture's.

    Paper: 1606.03657, table 1 (its output has no tanh).
    """

    def __init__(self, config: InfoGANConfig, channels: int, height: int, width: int) -> None:
        filters, spread = config.g_filters, 2 * config.g_filters * height * width
        super().__init__(
            nn.Linear(config.prior.shape[0], config.hidden, bias=False),  # the norm that follows takes a bias away
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, spread, bias=False),
            nn.BatchNorm1d(spread),
            nn.ReLU(),
            nn.Unflatten(1, (2 * filters, height, width)),
            nn.ConvTranspose2d(2 * filters, filters, 4, 2, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.ConvTranspose2d(filters, channels, 4, 2, 1),
            nn.Tanh(),
        )


class Discriminator(nn.Module):
    """The trunk C F k4s2 LR, C 2F k4s2 BN LR, FC hidden BN LR, and D's head FC 1 on it.

    Q, a network of its own, is the other head. D returns the trunk's features beside its logits, so that both heads
    read one pass.

    Args:
        config: widths.
        channels: C of a picture.
        height: a quarter of a picture's.
        width: a quarter of a picture's.

    Paper: 1606.03657, table 1.
    """

    def __init__(self, config: InfoGANConfig, channels: int, height: int, width: int) -> None:
        super().__init__()
        filters = config.d_filters
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, filters, 4, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(filters, 2 * filters, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * filters),
            nn.LeakyReLU(SLOPE),
            nn.Flatten(),
            nn.Linear(2 * filters * height * width, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.LeakyReLU(SLOPE),
        )
        self.head = nn.Linear(config.hidden, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [N] and features [N, hidden] of pictures [N, C, H, W]."""
        features = self.trunk(x)
        return self.head(features).flatten(), features


class Recogniser(nn.Module):
    """Q: FC 128 BN LR, and a layer that gives the parameters of a distribution for each code.

    Args:
        config: the codes, and widths.

    Paper: 1606.03657, table 1 and section 6.
    """

    def __init__(self, config: InfoGANConfig) -> None:
        super().__init__()
        self.sizes = [config.categories, config.codes, config.codes if config.code_std is None else 0]
        self.hidden = nn.Sequential(
            nn.Linear(config.hidden, config.q_hidden, bias=False), nn.BatchNorm1d(config.q_hidden), nn.LeakyReLU(SLOPE)
        )
        self.out = nn.Linear(config.q_hidden, sum(self.sizes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the category [N, K], means of the codes [N, C], and their log std [N, C] or [N, 0]."""
        category, mean, log_std = torch.split(self.out(self.hidden(features)), self.sizes, 1)
        return category, mean, log_std
