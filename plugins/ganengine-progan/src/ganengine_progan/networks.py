"""Networks that grow: those of one level, with the outputs and inputs of the level before for the fade."""

from __future__ import annotations

from ganengine.errors import UserError
from ganengine.nn import EqualisedConv2d, EqualisedLinear, MinibatchStd, PixelNorm
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_progan.config import SIDES, ProGANConfig

SLOPE = 0.2
"""Of the leaky ReLUs."""


def build(config: ProGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, latent] -> pictures, and D: pictures -> logits [N], both for pictures of `stage.size`.

    Parts are named by the side of their pictures, so that those of earlier levels keep their names.

    Raises:
        UserError: the data is no pictures.
    """
    field = data_spec.fields["real"]
    if field.kind != "image":
        raise UserError(f"progan: expected pictures, got data of kind {field.kind}. Choose a data source of pictures.")
    side = stage.size or SIDES[0]
    return {"G": Generator(config, field.shape[0], side), "D": Discriminator(config, field.shape[0], side)}


def up(x: Tensor) -> Tensor:
    """Return pictures of twice the side, each pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def down(x: Tensor) -> Tensor:
    """Return pictures of half the side, the mean of four pixels each."""
    return F.avg_pool2d(x, 2)


def blended(new: Tensor, old: Tensor, alpha: float) -> Tensor:
    """Return alpha new + (1 - alpha) old; just `old` at 0, to the bit."""
    return alpha * new + (1.0 - alpha) * old


class Generator(nn.Module):
    """Latent to unit length, C4 and C3 to 4 x 4, [up 2, C3, C3] for each level, C1 to colours; no squashing at the end.

    After every 3 x 3 and 4 x 4 convolution: leaky ReLU, pixel norm.
    Paper: 1710.10196, table 2 and figure 2.

    Args:
        config: widths and latent.
        channels: of a picture.
        side: of a picture, one of `SIDES`.
    """

    def __init__(self, config: ProGANConfig, channels: int, side: int) -> None:
        super().__init__()
        sides = [s for s in SIDES if s <= side]
        self.blocks = nn.ModuleDict()
        for s in sides:
            width, before = config.width(s), config.width(s // 2)
            begin: tuple[nn.Module, ...] = (nn.Upsample(scale_factor=2.0), EqualisedConv2d(before, width, 3, padding=1))
            if s == SIDES[0]:
                latent = config.latent
                begin = PixelNorm(), nn.Unflatten(1, (latent, 1, 1)), EqualisedConv2d(latent, width, 4, padding=3)
            self.blocks[str(s)] = nn.Sequential(
                *begin, nn.LeakyReLU(SLOPE), PixelNorm(),
                EqualisedConv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE), PixelNorm(),
            )  # fmt: skip
        self.to_rgb = nn.ModuleDict(
            {str(s): EqualisedConv2d(config.width(s), channels, 1, gain=1.0) for s in sides[-2:]}
        )

    def forward(self, z: Tensor, alpha: float = 1.0) -> Tensor:
        """Return pictures [N, C, H, W], about in [-1, 1].

        Args:
            z: [N, latent].
            alpha: share of the newest level; at 0 the picture is that of the level before, enlarged.
        """
        features: list[Tensor] = [z]
        for block in self.blocks.values():
            features.append(block(features[-1]))
        *older, newest = self.to_rgb.values()
        picture: Tensor = newest(features[-1])
        return blended(picture, up(older[0](features[-2])), alpha) if older and alpha < 1 else picture


class Discriminator(nn.Module):
    """C1 from colours, [C3, C3, mean of 2 x 2] for each level, minibatch deviation, C3, C4, linear; leaky ReLUs.

    Paper: 1710.10196, table 2 and figure 2.

    Args:
        config: widths.
        channels: of a picture.
        side: of a picture, one of `SIDES`.
    """

    def __init__(self, config: ProGANConfig, channels: int, side: int) -> None:
        super().__init__()
        sides = [s for s in reversed(SIDES) if s <= side]
        self.from_rgb = nn.ModuleDict(
            {
                str(s): nn.Sequential(EqualisedConv2d(channels, config.width(s), 1), nn.LeakyReLU(SLOPE))
                for s in sides[:2]
            }
        )
        self.blocks = nn.ModuleDict()
        for s in sides[:-1]:
            width, after = config.width(s), config.width(s // 2)
            self.blocks[str(s)] = nn.Sequential(
                EqualisedConv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE),
                EqualisedConv2d(width, after, 3, padding=1), nn.LeakyReLU(SLOPE), nn.AvgPool2d(2),
            )  # fmt: skip
        width = config.width(SIDES[0])
        self.blocks[str(SIDES[0])] = nn.Sequential(
            MinibatchStd(), EqualisedConv2d(width + 1, width, 3, padding=1), nn.LeakyReLU(SLOPE),
            EqualisedConv2d(width, width, 4), nn.LeakyReLU(SLOPE), nn.Flatten(), EqualisedLinear(width, 1, gain=1.0),
        )  # fmt: skip

    def forward(self, x: Tensor, alpha: float = 1.0) -> Tensor:
        """Return logits [N].

        Args:
            x: [N, C, H, W].
            alpha: share of the newest level; at 0 the logit is that of the level before on the picture made smaller.
        """
        newest, *older = self.from_rgb.values()
        first, *rest = self.blocks.values()
        h = first(newest(x))
        if older and alpha < 1:
            h = blended(h, older[0](down(x)), alpha)
        for block in rest:
            h = block(h)
        logits: Tensor = h.flatten()
        return logits
