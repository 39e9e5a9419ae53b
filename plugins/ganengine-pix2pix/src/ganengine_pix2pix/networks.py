"""Generators (U-Net, encoder-decoder, residual) and the PatchGAN discriminator of pix2pix.

Paper: arXiv:1611.07004, section 6.1. Parameter counts equal those of the authors' PyTorch code at 256 x 256 with
batch norm: 54,413,955 for the U-Net, 2,768,705 for the 70 x 70 PatchGAN on 6 channels. Departures: convolutions in
front of instance norm have no bias (the mean takes it away again) and instance norm has scale and shift.
"""

from __future__ import annotations

from math import ceil

import torch
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, Dropout, InstanceNorm2d, crop_like, pad_to_multiple
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_pix2pix.config import Norm, Pix2PixConfig, ReceptiveField, UNetLayout

MAX_LEVELS = 8  # section 6.1.1: 256 x 256 down to 1 x 1
STRIDED_LAYERS: dict[int, int] = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Receptive field of a PatchGAN -> how many of its convolutions have stride 2 (two of stride 1 follow)."""


def build(config: Pix2PixConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Build G, and D unless the arm is `l1`.

    Args:
        config: options of the variant.
        data_spec: channels and size of A and B; the two may differ in channels.
        stage: unused; there is one stage.

    Raises:
        UserError: the pictures are too small for the receptive field.
    """
    source, target = data_spec.channels(config.source), data_spec.channels(config.target)
    side = min(data_spec.fields[config.source].shape[-2:])
    networks: dict[str, nn.Module] = {"G": _generator(config, source, target, side)}
    if config.has_critic:
        _check_patch(config.receptive_field, side)
        channels = source + target if config.sees_input else target
        networks["D"] = PatchGAN(channels, config.d_filters, config.receptive_field, config.norm)
    for network in networks.values():
        # The engine seeds torch's generator around this call.
        initialise(network, "normal", torch.default_generator, gain=config.init_gain)
    return networks


def _generator(config: Pix2PixConfig, source: int, target: int, side: int) -> nn.Module:
    if config.generator.startswith("resnet"):
        blocks = int(config.generator.removeprefix("resnet-"))
        return ResNet(source, target, config.g_filters, blocks, config.norm, config.dropout)
    skips = config.generator == "unet"
    levels = config.levels or fitting_levels(side)
    return UNet(
        source, target, config.g_filters, levels, config.norm, config.dropout, skips=skips, layout=config.unet_layout
    )


def _check_patch(receptive_field: ReceptiveField, side: int) -> None:
    if receptive_field == 1:
        return
    needed = smallest_side(receptive_field)
    if side < needed:
        fitting = max([1, *(field for field in STRIDED_LAYERS if smallest_side(field) <= side)])
        raise UserError(
            f"--receptive-field {receptive_field}: expected pictures of at least {needed} pixels, "
            f"they have {side}. Use --receptive-field {fitting}, or a larger --size."
        )


def smallest_side(receptive_field: int) -> int:
    """Return the smallest side in pixels that a PatchGAN of this receptive field gives one logit for."""
    return 3 << STRIDED_LAYERS[receptive_field]


def fitting_levels(side: int) -> int:
    """Return the depth of a U-Net for pictures of `side` pixels: 256 -> 8, 128 -> 7, 64 -> 6.

    The deepest (at most 8) whose bottleneck has at least one pixel and whose padding, where `side` is no multiple of
    2^levels, adds at most a quarter of the side.
    """
    deepest = min(MAX_LEVELS, side.bit_length() - 1)
    for levels in range(deepest, 1, -1):
        if padded_side(side, 2**levels) <= side * 5 / 4:
            return levels
    return 1


def padded_side(side: int, multiple: int) -> int:
    """Return `side` rounded up to a multiple of `multiple`."""
    return ceil(side / multiple) * multiple


# ----------------------------------------------------------------------------------------------------------------
# Layers


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Return the normalisation layer of that kind, with scale and shift."""
    if kind == "batch":
        return BatchNorm2d(channels)
    if kind == "instance":
        return InstanceNorm2d(channels, affine=True)
    return nn.Identity()


class Translator(nn.Module):
    """A generator that takes pictures of any size: it pads the right and bottom edge and crops the result.

    Args:
        multiple: sides that `paint` works on are multiples of this ...
        minimum: ... and at least this.
    """

    def __init__(self, multiple: int, minimum: int = 1) -> None:
        super().__init__()
        self.multiple = multiple
        self.minimum = minimum

    def forward(self, x: Tensor) -> Tensor:
        """Translate x [N, C, H, W] in [-1, 1] to [N, C', H, W] in [-1, 1]."""
        return crop_like(self.paint(pad_to_multiple(x, self.multiple, self.minimum)), x)

    def paint(self, x: Tensor) -> Tensor:
        """Translate x, whose sides fit."""
        raise NotImplementedError


# ----------------------------------------------------------------------------------------------------------------
# Generators


class UNet(Translator):
    """Encoder and decoder of 4 x 4 convolutions of stride 2, with or without skip connections.

    Encoder C64-C128-C256-C512-C512 ... (LeakyReLU 0.2), decoder T512 ... T256-T128-T64-T_out (ReLU, tanh); no norm on
    the first layer, the bottleneck and the output; dropout in the first three layers of the decoder. With skips,
    encoder level i is concatenated to the input of decoder level i.

    Args:
        in_channels, out_channels: of input and output.
        filters: of the first layer; deeper ones have 2, 4, 8, 8 ... times as many.
        levels: how often the size is halved.
        norm: normalisation.
        dropout: probability; it stays on in use.
        skips: False gives the paper's encoder-decoder.
        layout: "pytorch" is that of the authors' PyTorch code: dropout where the decoder has 8 times the filters on
            both sides, the bottleneck's layer excepted; with instance norm, a bias where no norm follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, filters: int, levels: int, norm: Norm, dropout: float, *,
        skips: bool, layout: UNetLayout = "paper",
    ) -> None:  # fmt: skip
        super().__init__(multiple=2**levels)
        widths = [filters * min(2**level, 8) for level in range(levels)]
        # As published: a bias only where no norm is used at all, and in the output.
        bias = norm == "none"
        end_bias = bias or (layout == "pytorch" and norm == "instance")
        dropped = range(levels - 3, levels) if layout == "paper" else range(4, levels - 1)
        self.skips = skips
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            below = widths[level - 1] if level else in_channels
            plain = level in (0, levels - 1)
            conv = nn.Conv2d(below, width, 4, stride=2, padding=1, bias=end_bias if plain else bias)
            self.down.append(conv if plain else nn.Sequential(conv, normalisation(norm, width)))
        for level in reversed(range(levels)):
            width = widths[level] * (2 if skips and level < levels - 1 else 1)
            if level == 0:
                self.up.append(nn.ConvTranspose2d(width, out_channels, 4, stride=2, padding=1))
                continue
            below = widths[level - 1]
            layers = [
                nn.ConvTranspose2d(width, below, 4, stride=2, padding=1, bias=bias),
                normalisation(norm, below),
            ]
            if level in dropped:
                layers.append(Dropout(dropout, always=True))
            self.up.append(nn.Sequential(*layers))

    def paint(self, x: Tensor) -> Tensor:
        """Translate x; its sides are multiples of 2^levels."""
        features: list[Tensor] = []
        for level, layer in enumerate(self.down):
            x = layer(F.leaky_relu(x, 0.2) if level else x)
            features.append(x)
        x = features.pop()
        for index, layer in enumerate(self.up):
            if self.skips and index:
                # relu(leaky_relu(e)) = relu(e): features are kept as they are before either activation.
                x = torch.cat((x, features.pop()), 1)
            x = layer(F.relu(x))
        return torch.tanh(x)


class ResNet(Translator):
    """C64 k7, C128 k3s2, C256 k3s2, residual blocks of 256, T128 k3s2, T64 k3s2, C_out k7 with tanh.

    Reflection padding, ReLU; dropout inside the residual blocks. Paper: arXiv:1703.10593, appendix 7.2.
    """

    def __init__(
        self, in_channels: int, out_channels: int, filters: int, blocks: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__(multiple=4, minimum=8)  # 8: reflection needs two pixels inside the blocks
        bias = norm == "none"

        def finish(width: int) -> list[nn.Module]:
            return [normalisation(norm, width), nn.ReLU()]

        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, filters, 7, bias=bias),
            *finish(filters),
        ]
        for width in (filters * 2, filters * 4):
            layers += [nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=bias), *finish(width)]
        layers += [Residual(filters * 4, norm, dropout) for _ in range(blocks)]
        for width in (filters * 2, filters):
            up = nn.ConvTranspose2d(width * 2, width, 3, stride=2, padding=1, output_padding=1, bias=bias)
            layers += [up, *finish(width)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(filters, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def paint(self, x: Tensor) -> Tensor:
        """Translate x; its sides are multiples of 4."""
        painted: Tensor = self.layers(x)
        return painted


class Residual(nn.Module):
    """x + conv(dropout(relu(conv(x)))), 3 x 3 with reflection padding and norm."""

    def __init__(self, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for last in (False, True):
            layers += [
                nn.ReflectionPad2d(1),
                nn.Conv2d(width, width, 3, bias=norm == "none"),
                normalisation(norm, width),
            ]
            if not last:
                layers += [nn.ReLU(), Dropout(dropout, always=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the layers make of it."""
        refined: Tensor = x + self.layers(x)
        return refined


# ----------------------------------------------------------------------------------------------------------------
# Discriminator


class PatchGAN(nn.Module):
    """Judge overlapping patches: a map of logits, each of which sees `receptive_field` pixels square.

    4 x 4 convolutions C64-C128-C256 ... (at most 8 times the first), stride 2 except for the last two, LeakyReLU 0.2,
    no norm on the first layer. The 1 x 1 form (PixelGAN) is C64-C128-C1 of 1 x 1 kernels. No sigmoid.

    Args:
        channels: of what is judged (input and output together, or output alone).
        filters: of the first layer.
        receptive_field: 1, 16, 34, 70, 142 or 286 pixels.
        norm: normalisation.
    """

    def __init__(self, channels: int, filters: int, receptive_field: ReceptiveField, norm: Norm) -> None:
        super().__init__()
        if receptive_field == 1:
            kernel, padding, strides = 1, 0, [1, 1, 1]
        else:
            kernel, padding, strides = 4, 1, [2] * STRIDED_LAYERS[receptive_field] + [1, 1]
        layers: list[nn.Module] = []
        for depth, stride in enumerate(strides):
            first, last = depth == 0, depth == len(strides) - 1
            width = 1 if last else filters * min(2**depth, 8)
            bias = first or last or norm == "none"
            layers.append(nn.Conv2d(channels, width, kernel, stride=stride, padding=padding, bias=bias))
            if not first and not last:
                layers.append(normalisation(norm, width))
            if not last:
                layers.append(nn.LeakyReLU(0.2))
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Judge x [N, C, H, W]: logits [N, 1, h, w]."""
        logits: Tensor = self.layers(x)
        return logits
