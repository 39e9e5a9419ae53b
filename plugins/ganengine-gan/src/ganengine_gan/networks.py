"""Networks by architecture: for pictures what the config names, for points a perceptron."""

from __future__ import annotations

import torch
from ganengine.errors import UserError
from ganengine.nn.init import initialise
from ganengine.variant import DataSpec, Stage
from torch import nn

from ganengine_gan import convolutional, perceptron, residual
from ganengine_gan.config import FamilyConfig


def build(config: FamilyConfig, data_spec: DataSpec, stage: Stage) -> dict[str, nn.Module]:
    """Return G: z [N, latent] -> samples, and D: samples -> logits [N].

    Weights of perceptrons start as Glorot's (the documents' Keras code), those of convolutions as N(0, 0.02), of
    residual networks as He's.

    Raises:
        UserError: the architecture does not draw pictures of this size.
    """
    field = data_spec.fields["real"]
    if field.kind == "vector":
        G, D = perceptron.toy(config, field.shape[0])
    else:
        channels, height, width = field.shape
        if height != width:
            raise UserError(f"gan: expected square pictures, got {height} x {width}. Use --size.")
        makers = {
            "mlp-small": perceptron.small,
            "mlp": perceptron.deep,
            "mlp-maxout": perceptron.maxout,
            "toy": perceptron.pictures,
            "conv-small": convolutional.small,
            "conv": convolutional.strided,
            "conv-upsampling": convolutional.upsampling,
            "conv-scenes": convolutional.scenes,
            "resnet": residual.networks,
        }
        G, D = makers[config.architecture](config, channels, height)
    schemes = {"conv": "normal", "resnet": "he"}
    kind = config.architecture.partition("-")[0]
    scheme = schemes.get(kind, "glorot") if field.kind == "image" else "glorot"
    for network in (G, D):
        initialise(network, scheme, torch.default_generator)
    return {"G": G, "D": D}
