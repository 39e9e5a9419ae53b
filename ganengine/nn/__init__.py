"""Thin modules over `ganengine.ops` and keyed random numbers."""

from ganengine.nn.conditional_batch_norm import ConditionalBatchNorm2d
from ganengine.nn.convolution import preact_conv2d
from ganengine.nn.dropout import Dropout
from ganengine.nn.equalised import EqualisedConv2d, EqualisedLinear
from ganengine.nn.maxout import Maxout
from ganengine.nn.minibatch_std import MinibatchStd
from ganengine.nn.norm import BatchNorm2d, InstanceNorm2d
from ganengine.nn.padding import crop_like, pad_to_multiple
from ganengine.nn.pixel_norm import PixelNorm
from ganengine.nn.precision import computed_in
from ganengine.nn.reference_norm import ReferenceNorm, WithReference
from ganengine.nn.resampled import conv_pool2d, up_conv2d
from ganengine.nn.spectral_norm import SpectralNorm, spectral_norm
from ganengine.nn.together import together

__all__ = [
    "BatchNorm2d",
    "ConditionalBatchNorm2d",
    "Dropout",
    "EqualisedConv2d",
    "EqualisedLinear",
    "InstanceNorm2d",
    "Maxout",
    "MinibatchStd",
    "PixelNorm",
    "ReferenceNorm",
    "SpectralNorm",
    "WithReference",
    "computed_in",
    "conv_pool2d",
    "crop_like",
    "pad_to_multiple",
    "preact_conv2d",
    "spectral_norm",
    "together",
    "up_conv2d",
]
