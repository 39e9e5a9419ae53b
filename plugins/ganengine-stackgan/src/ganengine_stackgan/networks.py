"""Networks of gan-int-cls, and the discriminator that both variants use."""

from __future__ import annotations

import math

import torch
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn

from ganengine_stackgan.config import IntClsConfig, TextConfig
from ganengine_stackgan.text import CharEncoder, PictureEncoder

SLOPE = 0.2
BASE = 4
"""Side of the smallest features."""
DEEPEST = 8
"""D's last features have at most so many times its first layer's channels."""


def build(config: IntClsConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return E and V in the stage `text`, then E, frozen, and D; and G in all of them.

    G: z [N, latent], texts [N, E] -> pictures; D: pictures, texts -> logits [N]; E: character codes [N, L] -> texts.

    Raises:
        UserError: pictures of another form than the networks draw, or data without the texts asked for.
    """
    channels, side = form(data_spec)
    texts = width_of_texts(config, data_spec)
    G = Generator(config, texts, channels, doublings("size", side))
    networks: dict[str, nn.Module] = {"G": drawn(G)}
    if stage.name != "text":
        networks["D"] = drawn(Discriminator(config, texts, channels, doublings("size", side)))
    return encoders(config, channels, side, stage) | networks


def encoders(config: TextConfig, channels: int, side: int, stage: Stage) -> dict[str, nn.Module]:
    """Return the networks that read text in a stage."""
    if not config.learns_text:
        return {}
    E = CharEncoder(config.text_width, config.embedding)
    if stage.name != "text":
        return {"E": E.requires_grad_(False)}
    return {"E": E, "V": PictureEncoder(channels, side, config.d_filters, config.embedding)}


def form(data_spec: DataSpec) -> tuple[int, int]:
    """Return channels and side of the pictures.

    Raises:
        UserError: the data has no pictures, or they are no squares.
    """
    field = data_spec.fields["real"]
    if field.kind != "image" or field.shape[1] != field.shape[2]:
        raise UserError(f"expected square pictures, got {field.kind} {list(field.shape)}. Choose other data.")
    return field.shape[0], field.shape[1]


def width_of_texts(config: TextConfig, data_spec: DataSpec) -> int:
    """Return E, how many numbers an embedding has.

    Raises:
        UserError: embeddings are asked for that the data does not have.
    """
    if config.learns_text:
        return config.embedding
    field = data_spec.fields.get("embedding")
    if field is None:
        raise UserError(
            "--text-encoder precomputed: expected data with embeddings (embeddings.npz beside captions.json), got "
            "none. Add them, or use --text-encoder own."
        )
    return field.shape[1]


def doublings(option: str, side: int) -> int:
    """Return how often 4 is doubled to give the side of pictures.

    Raises:
        UserError: it never does.
    """
    if side < 2 * BASE or side & (side - 1):
        raise UserError(f"--{option}: expected a power of two from {2 * BASE} on, got {side}.")
    return (side // BASE).bit_length() - 1


def drawn(network: nn.Module) -> nn.Module:
    """Return a network with initial weights N(0, 0.02)."""
    initialise(network, "normal", torch.default_generator)
    return network


class Generator(nn.Module):
    """FC LR.2 of the text, beside z; T to 4 x 4, T4s2 up to the picture; residual blocks at 4 x 4 and 8 x 8.

    Args:
        config: widths.
        texts: E.
        channels: of a picture.
        ups: doublings from 4 to the picture's side.

    Paper: 1605.05396, figure 2, and the published code's residual blocks.
    """

    def __init__(self, config: IntClsConfig, texts: int, channels: int, ups: int) -> None:
        super().__init__()
        self.compress = nn.Sequential(nn.Linear(texts, config.condition), nn.LeakyReLU(SLOPE))
        width = config.g_filters << (ups - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(config.latent + config.condition, width, BASE, bias=False),
            BatchNorm2d(width),
            Bottleneck(width),
        ]
        for up in range(1, ups):
            width //= 2
            layers += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), BatchNorm2d(width)]
            layers.append(Bottleneck(width) if up == 1 else nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor, texts: Tensor) -> Tensor:
        """Return pictures [N, C, H, W] in [-1, 1]."""
        joined = torch.cat((z, self.compress(texts)), 1)
        pictures: Tensor = self.layers(joined[:, :, None, None])
        return pictures


class Bottleneck(nn.Module):
    """relu(x + C1 BN ReLU, C3 BN ReLU, C3 BN), a quarter as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False), BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, width, 3, padding=1, bias=False), BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same form."""
        out: Tensor = (x + self.layers(x)).relu()
        return out


class Discriminator(nn.Module):
    """C4s2 LR.2 (BN from the second layer on) to 4 x 4; beside it FC LR.2 of the text at every place; C1, C4: a logit.

    With `d_product` the logit gains <C4 of the picture's features, t> / sqrt(E).

    Where the features at 4 x 4 are wider than 8 times the first layer's, C3 BN LR.2 halve them to that before.

    Args:
        config: widths.
        texts: E.
        channels: of a picture.
        downs: halvings from the picture's side to 4.

    Paper: 1605.05396, figure 2; 1612.03242, figure 2; the product is that of 1802.05637, equation 4.
    """

    def __init__(self, config: TextConfig, texts: int, channels: int, downs: int) -> None:
        super().__init__()
        width = config.d_filters
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for _ in range(downs - 1):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), BatchNorm2d(2 * width), nn.LeakyReLU(SLOPE)]
            width *= 2
        while width > DEEPEST * config.d_filters:
            width //= 2
            layers += [nn.Conv2d(2 * width, width, 3, 1, 1, bias=False), BatchNorm2d(width), nn.LeakyReLU(SLOPE)]
        self.look = nn.Sequential(*layers)
        self.compress = nn.Sequential(nn.Linear(texts, config.condition), nn.LeakyReLU(SLOPE))
        self.judge = nn.Sequential(
            nn.Conv2d(width + config.condition, width, 1, bias=False), BatchNorm2d(width), nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 1, BASE),
        )  # fmt: skip
        self.project = nn.Conv2d(width, texts, BASE, bias=False) if config.d_product else None

    def forward(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Return logits [N]: whether pictures are real, and what the texts [N, E] say.

        Of several texts for each picture, [K, N, E], [K, N]: these share the features of the pictures.
        """
        seen = self.look(pictures)
        if texts.ndim == 2:
            return self.answer(seen, texts)
        return torch.stack([self.answer(seen, each) for each in texts])

    def answer(self, seen: Tensor, texts: Tensor) -> Tensor:
        """Return the logits [N] of features and texts."""
        told = self.compress(texts)[:, :, None, None].expand(-1, -1, *seen.shape[2:])
        logits: Tensor = self.judge(torch.cat((seen, told.to(seen.dtype)), 1)).flatten()
        if self.project is None:
            return logits
        product: Tensor = (self.project(seen).flatten(1) * texts).sum(1)
        return logits + product / math.sqrt(texts.shape[1])
