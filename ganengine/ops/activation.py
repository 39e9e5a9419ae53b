"""The activations that ops can apply, each as one number: the slope below zero.

    y = z where z > 0, else slope * z

so that a kernel needs no branch per name. The derivative at 0 is the slope, hence 0 for "relu".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

LEAKY_SLOPE = 0.2
"""Slope of "leaky_relu": the one that GAN papers use since DCGAN (arXiv:1511.06434, section 3)."""

SLOPES: Mapping[str | None, float] = MappingProxyType({None: 1.0, "relu": 0.0, "leaky_relu": LEAKY_SLOPE})


def activate(z: Tensor, slope: float) -> Tensor:
    """Return z where z > 0, else slope * z. NaN stays NaN; an infinite z gives no NaN for slope 0."""
    if slope == 1:
        return z
    return F.relu(z) if slope == 0 else F.leaky_relu(z, slope)


def activation_gradient(grad: Tensor, z: Tensor, slope: float) -> Tensor:
    """Return grad times the activation's derivative at z. An infinite grad gives no NaN where slope 0 stops it."""
    if slope == 1:
        return grad
    aten = torch.ops.aten  # a where() of one's own is several times slower
    gradient: Tensor = (
        aten.threshold_backward(grad, z, 0) if slope == 0 else aten.leaky_relu_backward(grad, z, slope, False)
    )
    return gradient
