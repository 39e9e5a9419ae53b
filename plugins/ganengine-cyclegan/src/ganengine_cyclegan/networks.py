"""Residual generators, PatchGAN discriminators and image pools of CycleGAN.

Paper: arXiv:1703.10593, section 7.2. Departure: a convolution in front of instance norm has no bias, which the mean
would take away again. The authors' PyTorch code keeps these biases and so has 5,248 more parameters in a generator of 9
blocks and 64 filters (11,378,179 against 11,372,931), 3,712 in one of 6 (7,837,699 against 7,833,987), and 896 in the
70 x 70 discriminator (2,764,737 against 2,763,841); the functions are the same.
"""

from __future__ import annotations

import torch
from ganengine.actions import ImagePool
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, InstanceNorm2d, crop_like, pad_to_multiple
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_cyclegan.config import CycleGANConfig, Norm, ReceptiveField

STRIDED_LAYERS: dict[int, int] = {16: 1, 34: 2, 70: 3, 142: 4}
"""Receptive field of a PatchGAN -> how many of its convolutions have stride 2 (two of stride 1 follow)."""


def build(config: CycleGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Build G (A -> B), F (B -> A), D_A, D_B and a pool of translations for each discriminator.

    Args:
        config: options of the variant.
        data_spec: channels and size of A and B; the two may differ in channels.
        stage: unused; there is one stage.

    Raises:
        UserError: pictures too small for the receptive field, or an identity loss between different channels.
    """
    a, b = (data_spec.channels(side) for side in "AB")
    side = min(min(data_spec.fields[field].shape[-2:]) for field in "AB")
    needed = 3 << STRIDED_LAYERS[config.receptive_field]
    if side < needed:
        fitting = [field for field, layers in STRIDED_LAYERS.items() if 3 << layers <= side]
        instead = f"Use --receptive-field {max(fitting)}, or a larger --size." if fitting else "Use a larger --size."
        raise UserError(
            f"--receptive-field {config.receptive_field}: expected pictures of at least {needed} pixels, "
            f"they have {side}. {instead}"
        )
    if config.identity_weight and a != b:
        raise UserError(
            f"--lambda-identity: expected A and B of equally many channels, got {a} and {b}: G takes A and gives B, so "
            "it cannot be shown a B. Use --lambda-identity 0."
        )
    blocks = config.blocks or (9 if side >= 256 else 6)
    networks: dict[str, nn.Module] = {
        "G": Generator(a, b, config.g_filters, blocks, config.norm),
        "F": Generator(b, a, config.g_filters, blocks, config.norm),
        "D_A": PatchGAN(a, config.d_filters, config.receptive_field, config.norm),
        "D_B": PatchGAN(b, config.d_filters, config.receptive_field, config.norm),
    }
    for network in networks.values():
        # The engine seeds torch's generator around this call.
        initialise(network, "normal", torch.default_generator, gain=config.init_gain)
    return {**networks, "pool_A": ImagePool(config.pool), "pool_B": ImagePool(config.pool)}


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Return the normalisation layer of that kind; instance norm has no scale and shift."""
    if kind == "batch":
        return BatchNorm2d(channels)
    return InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


class Generator(nn.Module):
    """C64 k7, C128 k3s2, C256 k3s2, residual blocks of 256, T128 k3s2, T64 k3s2, C_out k7 with tanh.

    Reflection padding, norm and ReLU after each layer but the last. Pictures of any size: sides are padded to multiples
    of 4, at the right and the bottom, and the result is cropped.

    Args:
        in_channels, out_channels: of input and output.
        filters: of the first layer; the residual blocks have 4 times as many.
        blocks: how many residual blocks.
        norm: normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, filters: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"

        def finish(width: int) -> list[nn.Module]:
            return [normalisation(norm, width), nn.ReLU()]

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, filters, 7, bias=bias)]
        layers += finish(filters)
        for width in (filters * 2, filters * 4):
            layers += [nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=bias), *finish(width)]
        layers += [Residual(filters * 4, norm) for _ in range(blocks)]
        for width in (filters * 2, filters):
            up = nn.ConvTranspose2d(width * 2, width, 3, stride=2, padding=1, output_padding=1, bias=bias)
            layers += [up, *finish(width)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(filters, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Translate x [N, C, H, W] in [-1, 1] to [N, C', H, W] in [-1, 1]."""
        # 8: reflection needs two pixels inside the blocks.
        painted: Tensor = crop_like(self.layers(pad_to_multiple(x, 4, 8)), x)
        return painted


class Residual(nn.Module):
    """x + conv(relu(conv(x))), 3 x 3 with reflection padding, norm after both."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            normalisation(norm, width),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            normalisation(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the layers make of it."""
        refined: Tensor = x + self.layers(x)
        return refined


class PatchGAN(nn.Module):
    """Judge overlapping patches: a map of logits, each of which sees `receptive_field` pixels square.

    4 x 4 convolutions C64-C128-C256 ... (at most 8 times the first), stride 2 except for the last two, LeakyReLU 0.2,
    no norm on the first layer. No sigmoid.

    Args:
        channels: of the pictures.
        filters: of the first layer.
        receptive_field: 16, 34, 70 or 142 pixels.
        norm: normalisation.
    """

    def __init__(self, channels: int, filters: int, receptive_field: ReceptiveField, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = filters
        for stride in [2] * (STRIDED_LAYERS[receptive_field] - 1) + [1]:
            before, width = width, min(2 * width, 8 * filters)
            layers += [
                nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=norm == "none"),
                normalisation(norm, width),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Judge x [N, C, H, W]: logits [N, 1, h, w]."""
        logits: Tensor = self.layers(x)
        return logits
