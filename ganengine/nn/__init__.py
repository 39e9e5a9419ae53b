"""Thin modules over `ganengine.ops` and keyed random numbers."""

from ganengine.nn.conditional_batch_norm import ConditionalBatchNorm2d
from ganengine.nn.dropout import Dropout
from ganengine.nn.maxout import Maxout
from ganengine.nn.norm import BatchNorm2d, InstanceNorm2d
from ganengine.nn.reference_norm import ReferenceNorm, WithReference
from ganengine.nn.spectral_norm import SpectralNorm, spectral_norm

__all__ = [
    "BatchNorm2d",
    "ConditionalBatchNorm2d",
    "Dropout",
    "InstanceNorm2d",
    "Maxout",
    "ReferenceNorm",
    "SpectralNorm",
    "WithReference",
    "spectral_norm",
]
