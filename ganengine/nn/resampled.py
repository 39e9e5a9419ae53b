"""A 3 x 3 convolution and the doubling or halving beside it as one convolution of stride 2, on the CPU.

The mean of 2 x 2 results of a convolution is one convolution of stride 2 with the mean of four shifted kernels; a
convolution of repeated pixels is a transposed one with their sum (ganengine.ops.merged_kernels). Both have 16 products
where there were 36, and no second pass over the large map. Adopted convolutions (ganengine.nn.adopt) are taken this way
where it is faster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn.convolution import Conv2d, convolved, gathering, preact_conv2d, scattering, ways_of
from ganengine.nn.precision import computed_in
from ganengine.nn.spectral_norm import follow
from ganengine.ops.convolution import activated, kernels_pay
from ganengine.ops.merged_kernels import merged_kernels
from ganengine.ops.registration import traced

LEAST_SIDE = {torch.bfloat16: 32, torch.float16: 32, torch.float32: 16}
"""Of the large map: smaller ones are as fast in two passes (measured with 32 and 64 channels, 64 pictures)."""
LEAST_SIDE_OF_KERNELS = 8
"""The same where convolutions go by our own kernels."""


def conv_pool2d(conv: nn.Conv2d, x: Tensor, slope: float = 1.0) -> Tensor:
    """Return avg_pool2d(conv(act(x)), 2).

    Args:
        conv: its own forward is run where the two do not become one.
        x: [N, C, H, W].
        slope: of the activation below 0: 0 ReLU, 1 none.

    Gradients: any order.
    """
    if not _merges(conv, x, 1):
        return F.avg_pool2d(preact_conv2d(conv, x, slope), 2)
    weight = merged_kernels(_weight(conv), repeats=False)
    form = gathering((4, 4), (2, 2), (1, 1), x)
    ways = ways_of(x, weight.numel(), form, conv.training)
    if ways is None:
        return F.conv2d(activated(x, slope), weight, conv.bias, stride=2, padding=1)
    return convolved(x, weight, conv.bias, form, ways, slope)


def up_conv2d(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return conv(interpolate(x, scale_factor=2)), each pixel repeated 2 x 2.

    Args:
        conv: its own forward is run where the two do not become one.
        x: [N, C, H, W].

    Gradients: any order.
    """
    if not _merges(conv, x, 2):
        doubled: Tensor = conv(F.interpolate(x, scale_factor=2))
        return doubled
    weight = merged_kernels(_weight(conv), repeats=True)
    form = scattering((4, 4), (2, 2), (1, 1), (0, 0), x)
    ways = ways_of(x, weight.numel(), form, conv.training)
    if ways is None:
        return F.conv_transpose2d(x, weight, conv.bias, stride=2, padding=1)
    return convolved(x, weight, conv.bias, form, ways)


def _merges(conv: nn.Conv2d, x: Tensor, times: int) -> bool:
    """Whether the two become one, where the large map has `times` the sides of x."""
    return (
        isinstance(conv, Conv2d)
        and isinstance(x, Tensor)  # torch.fx traces with proxies, which have no sides
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and (conv.padding, conv.padding_mode, conv.groups) == ((1, 1), "zeros", 1)
        and not conv._forward_hooks
        and all(hook is follow for hook in conv._forward_pre_hooks.values())
        and x.device.type == "cpu"
        and not traced()
        and not any(times * side % 2 for side in x.shape[2:])
        and times * min(x.shape[2:]) >= _least_side(computed_in(x))
    )


def _least_side(dtype: torch.dtype) -> int:
    return LEAST_SIDE_OF_KERNELS if kernels_pay(dtype) else LEAST_SIDE.get(dtype, 1 << 30)


def _weight(conv: nn.Conv2d) -> Tensor:
    """Return the kernel of a pass: where it is spectrally normalised, after the iteration that goes before it."""
    for _ in conv._forward_pre_hooks:
        follow(conv, None)
    return conv.weight
