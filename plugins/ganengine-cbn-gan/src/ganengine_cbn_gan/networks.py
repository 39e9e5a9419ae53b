"""Residual networks that take a label: G by conditional batch norm, D by projection."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, spectral_norm
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_cbn_gan.blocks import EPS, DownBlock, SelfAttention, UpBlock
from ganengine_cbn_gan.config import CBNGANConfig

ATTENDED = 32
"""Largest side of features with attention: the paper's best (1805.08318, table 1)."""


def build(config: CBNGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, latent], y -> pictures, and D: pictures, y -> logits [N].

    y are labels [N], or weights of the classes [N, K], which mix what the classes would give.

    Raises:
        UserError: pictures of another form than the networks draw, or too few latents for the blocks.
    """
    field = data_spec.fields["real"]
    if field.kind != "image":
        raise UserError(f"cbn-gan: expected pictures, got data of kind {field.kind}. Choose a data source of pictures.")
    channels, height, width = field.shape
    classes = data_spec.fields["label"].num_classes or 1
    sides = _sides(height, width)
    G, D = Generator(config, channels, classes, sides), Discriminator(config, channels, classes, sides)
    draw = torch.default_generator
    for network in (G, D):
        initialise(network, config.init, draw)
        if config.init == "glorot":
            for block in network.blocks.children():
                for name in ("conv1", "conv2"):
                    initialise(block.get_submodule(name), "glorot", draw, math.sqrt(2))
    spectral_norm(D, draw)
    return {"G": G, "D": D}


class Generator(nn.Module):
    """Linear to s x s, residual blocks up to the picture's side, BN, ReLU, C3, tanh.

    Args:
        config: widths, how the label enters, attention.
        channels: of a picture.
        classes: K.
        sides: of the features, from s to the picture's.
    """

    def __init__(self, config: CBNGANConfig, channels: int, classes: int, sides: list[int]) -> None:
        super().__init__()
        self.num_classes = classes
        widths = _widths(config.g_filters, config.g_widest, len(sides) - 1)[::-1]
        self.embedding: nn.Embedding | None = None
        self.parts = [config.latent]
        conditions = [classes] * len(widths)
        if config.condition == "latent":
            self.embedding = nn.Embedding(classes, config.embedding)
            self.parts = _parts(config.latent, len(sides))
            conditions = [1 + config.embedding + part for part in self.parts[1:]]
        self.begin = nn.Linear(self.parts[0], widths[0] * sides[0] ** 2)
        self.unflatten = nn.Unflatten(1, (widths[0], sides[0], sides[0]))
        self.blocks = nn.ModuleList(
            UpBlock(*both, condition, config.class_spread if self.embedding is None else None)
            for both, condition in zip(pairwise((widths[0], *widths)), conditions, strict=True)
        )
        self.attention = _attention(sides[1:], widths, attended(config, sides))
        self.end = nn.Sequential(
            BatchNorm2d(widths[-1], eps=EPS), nn.ReLU(), nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh()
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return pictures [N, C, H, W] in [-1, 1]."""
        first, *rest = torch.split(z, self.parts, 1)
        x = self.unflatten(self.begin(first))
        conditions = [y] * len(self.blocks)
        if self.embedding is not None:
            # A constant 1 carries the scale and shift that all classes and latents share.
            shared = (torch.ones_like(z[:, :1]), embedded(self.embedding, y).to(z.dtype))
            conditions = [torch.cat((*shared, part), 1) for part in rest]
        for block, attention, condition in zip(self.blocks, self.attention, conditions, strict=True):
            x = attention(block(x, condition))
        pictures: Tensor = self.end(x)
        return pictures


class Discriminator(nn.Module):
    """Residual blocks down to s x s and one that stays there, ReLU, sum over positions: l = FC(h) + <Embed(y), h>.

    Every layer is spectrally normalised by `build`, the embedding too. Paper: 1802.05637, equation 8 (projection).

    Args:
        config: widths, attention.
        channels: of a picture.
        classes: K.
        sides: of the features, from s to the picture's.
    """

    def __init__(self, config: CBNGANConfig, channels: int, classes: int, sides: list[int]) -> None:
        super().__init__()
        widths = _widths(config.d_filters, config.d_widest, len(sides))
        self.blocks = nn.ModuleList(
            DownBlock(*both, down=level < len(widths), first=level == 1)
            for level, both in enumerate(pairwise((channels, *widths)), 1)
        )
        self.attention = _attention([*sides[-2::-1], sides[0]], widths, attended(config, sides))
        self.out = nn.Linear(widths[-1], 1)
        self.embedding = nn.Embedding(classes, widths[-1])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return logits [N]."""
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x))
        h = x.relu().sum((2, 3))
        logits: Tensor = self.out(h).flatten() + (embedded(self.embedding, y) * h).sum(1)
        return logits


def embedded(table: nn.Embedding, y: Tensor) -> Tensor:
    """Return the rows of labels [N], or their mixtures by weights [N, K]."""
    result: Tensor = table(y) if y.dim() == 1 else y.to(table.weight.dtype) @ table.weight
    return result


def attended(config: CBNGANConfig, sides: list[int]) -> int:
    """Return the side of the features with attention: the largest between two blocks up to `ATTENDED`; 0: none.

    Raises:
        UserError: there are no features between two blocks.
    """
    if not config.attention:
        return 0
    if len(sides) < 3:
        raise UserError(f"--attention: expected pictures of 16 pixels or more, got {sides[-1]}. Use --no-attention.")
    return max(side for side in sides[1:-1] if side <= ATTENDED)


def _sides(height: int, width: int) -> list[int]:
    """Return the sides of features from s in 4..7 to the picture's, each twice the one before."""
    levels = width.bit_length() - 3
    if height != width or levels < 1 or width >> levels << levels != width:
        fitting = max(8, min(height, width))
        fitting = fitting >> (fitting.bit_length() - 3) << (fitting.bit_length() - 3)
        raise UserError(
            f"cbn-gan: expected squares of 4, 5, 6 or 7 pixels doubled once or more (28, 32, 48, 64 ...), "
            f"got {height} x {width}. Use --size {fitting}."
        )
    return [width >> level for level in range(levels, -1, -1)]


def _widths(filters: int, widest: int, count: int) -> list[int]:
    """Return channels by level, those at full size first."""
    return [min(widest, filters << level) for level in range(count)]


def _parts(latent: int, count: int) -> list[int]:
    """Return sizes of parts of z, one for the first layer and one for each block, as equal as can be."""
    if latent < count:
        raise UserError(f"--latent: expected at least {count}, a number for each block and one more, got {latent}.")
    return [latent // count + (index < latent % count) for index in range(count)]


def _attention(sides: list[int], widths: list[int], place: int) -> nn.ModuleList:
    """Return what follows each block, given the side and channels of its result: attention at side `place`."""
    return nn.ModuleList(
        SelfAttention(width) if side == place else nn.Identity() for side, width in zip(sides, widths, strict=True)
    )
