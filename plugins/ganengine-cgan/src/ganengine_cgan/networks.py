"""Perceptrons that take a label: G joins it with the noise, D with the picture, by maxout layers."""

from __future__ import annotations

from typing import Literal

import torch
from ganengine.errors import UserError
from ganengine.nn import Dropout, Maxout
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_cgan.config import CGANConfig


def build(config: CGANConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, latent], y -> pictures, and D: pictures, y -> logits [N], with Glorot's weights.

    y are labels [N], or weights of the classes [N, K].

    Raises:
        UserError: the data is no pictures.
    """
    field = data_spec.fields["real"]
    if field.kind != "image":
        raise UserError(f"cgan: expected pictures, got data of kind {field.kind}. Choose a data source of pictures.")
    shape = field.shape
    classes = data_spec.fields["label"].num_classes or 1
    networks: dict[str, nn.Module] = {
        "G": Generator(config, shape, classes),
        "D": Discriminator(config, shape, classes),
    }
    for network in networks.values():
        initialise(network, "glorot", torch.default_generator)
    return networks


class Generator(nn.Module):
    """tanh(W relu(V [relu(A z), relu(B y)])): 693,520 parameters for 28 x 28 grey pictures of 10 classes and z 100.

    Args:
        config: chooses the widths: 256, 256 and 512, or the paper's 200, 1000 and 1200.
        shape: (C, H, W) of a picture.
        classes: K.
    """

    def __init__(self, config: CGANConfig, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        of_noise, of_label, joint = (256, 256, 512) if config.architecture == "inner-relu" else (200, 1000, 1200)
        self.shape, self.num_classes = shape, classes
        self.noise = nn.Linear(config.latent, of_noise)
        self.label = nn.Linear(classes, of_label)
        self.joint = nn.Linear(of_noise + of_label, joint)
        self.out = nn.Linear(joint, shape[0] * shape[1] * shape[2])
        self.drop = Dropout(config.dropout if config.architecture == "paper" else 0.0)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return pictures [N, C, H, W] in [-1, 1]."""
        hidden = torch.cat((self.noise(z).relu(), self.label(weights(y, self.num_classes)).relu()), 1)
        hidden = self.joint(self.drop(hidden)).relu()
        pictures: Tensor = self.out(self.drop(hidden)).tanh().reshape(-1, *self.shape)
        return pictures


class Discriminator(nn.Module):
    """Maxout of the picture and of the label, maxout of both, one logit: 1,224,351 parameters for 28 x 28 and K = 10.

    Args:
        config: where dropout and ReLU stand.
        shape: (C, H, W) of a picture.
        classes: K.
    """

    def __init__(self, config: CGANConfig, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        paper = config.architecture == "paper"
        inner = 0.0 if paper else config.dropout
        activation: Literal["relu"] | None = None if paper else "relu"
        self.num_classes = classes
        self.picture = Maxout(shape[0] * shape[1] * shape[2], 240, 5, activation, inner)
        self.label = Maxout(classes, 50, 5, activation, inner)
        self.joint = Maxout(290, 240, 4, activation, inner)
        self.out = nn.Linear(240, 1)
        self.drop = Dropout(config.dropout if paper else 0.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return logits [N]."""
        both = torch.cat((self.picture(x.flatten(1)), self.label(weights(y, self.num_classes).to(x.dtype))), 1)
        logits: Tensor = self.out(self.drop(self.joint(self.drop(both))))
        return logits.flatten()


def weights(y: Tensor, classes: int) -> Tensor:
    """Return weights of the classes [N, K] of labels [N]; weights stay as they are."""
    return y if y.dim() == 2 else F.one_hot(y.long(), classes).float()
