"""The networks of BEGAN: an autoencoder, and a G of the form of its decoder. ELU, and no norm anywhere."""

from __future__ import annotations

import torch
from ganengine.errors import UserError
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_began.config import BEGANConfig

SMALLEST = 8
"""Side of the smallest features (1703.10717, section 3.5)."""


def build(config: BEGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, latent] -> pictures, and D: pictures -> their reconstructions. Neither ends in a squashing.

    Weights start by Glorot's rule: torch's own are so small that nothing of a picture passes these many layers.

    Raises:
        UserError: the data are no pictures, or no squares of 8 pixels doubled once or more.
    """
    field = data_spec.fields["real"]
    if field.kind != "image":
        raise UserError(f"began: expected pictures, got data of kind {field.kind}. Choose a data source of pictures.")
    channels, height, width = field.shape
    levels = max(1, (min(height, width) // SMALLEST).bit_length() - 1)
    if height != width or width != SMALLEST << levels:
        raise UserError(
            f"began: expected squares of 8 pixels doubled once or more (16, 32, 64 ...), got {height} x {width}. "
            f"Use --size {SMALLEST << levels}."
        )
    networks: dict[str, nn.Module] = {
        "G": Decoder(config, channels, levels),
        "D": Autoencoder(config, channels, levels),
    }
    for network in networks.values():
        # The engine seeds torch's generator around this call.
        initialise(network, "glorot", torch.default_generator)
    return networks


class Decoder(nn.Sequential):
    """FC 8 x 8 x n; at each size two C n k3 with ELU, then up2; C3 to the picture.

    Args:
        config: n and the length of z.
        channels: of a picture.
        levels: how often the side doubles.

    Paper: 1703.10717, figure 1.
    """

    def __init__(self, config: BEGANConfig, channels: int, levels: int) -> None:
        n = config.filters
        layers = [nn.Linear(config.latent, n * SMALLEST**2), nn.Unflatten(1, (n, SMALLEST, SMALLEST))]
        for level in range(levels + 1):
            layers += [nn.Upsample(scale_factor=2)] if level else []
            layers += [*_convolution(n, n), *_convolution(n, n)]
        super().__init__(*layers, nn.Conv2d(n, channels, 3, padding=1))


class Autoencoder(nn.Module):
    """C n k3; at each size j n channels: two C k3, then one of stride 2 to (j + 1) n; FC to h; a decoder of its own.

    Each convolution has an ELU; h is linear.

    Args:
        config: n and the length of h, which is that of z.
        channels: of a picture.
        levels: how often the side is halved.

    Paper: 1703.10717, figure 1.
    """

    def __init__(self, config: BEGANConfig, channels: int, levels: int) -> None:
        n = config.filters
        layers = _convolution(channels, n)
        for level in range(1, levels + 2):
            layers += [*_convolution(level * n, level * n), *_convolution(level * n, level * n)]
            layers += _convolution(level * n, (level + 1) * n, stride=2) if level <= levels else []
        encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear((levels + 1) * n * SMALLEST**2, config.latent))
        super().__init__()
        self.encoder, self.decoder = encoder, Decoder(config, channels, levels)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstructions, of the shape of the pictures."""
        made: Tensor = self.decoder(self.encoder(pictures))
        return made


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ELU()]
