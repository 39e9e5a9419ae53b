"""The engine's own operations: one schema each, a documented PyTorch reference, compiled kernels where there are any.

docs/ops.md has the formulas and the rule by which a kernel registers over its reference.
"""

from __future__ import annotations

from ganengine.ops.conditional_batch_norm import conditional_batch_norm
from ganengine.ops.convolution import convolution, convolution_backward, convolution_bias, convolution_weights
from ganengine.ops.dispatch import Kernel, kernels, mode, set_mode, stated_mode
from ganengine.ops.im2col import col2im, im2col
from ganengine.ops.instance_norm import instance_norm
from ganengine.ops.maxout import maxout
from ganengine.ops.merged_kernels import merged_kernels
from ganengine.ops.patchgan_loss import patchgan_loss
from ganengine.ops.skinny_product import skinny_product, skinny_product_backward, skinny_product_weights
from ganengine.ops.spectral_norm import iterated, over_next_sigma, over_sigma

__all__ = [
    "Kernel",
    "col2im",
    "conditional_batch_norm",
    "convolution",
    "convolution_backward",
    "convolution_bias",
    "convolution_weights",
    "im2col",
    "instance_norm",
    "iterated",
    "kernels",
    "maxout",
    "merged_kernels",
    "mode",
    "over_next_sigma",
    "over_sigma",
    "patchgan_loss",
    "set_mode",
    "skinny_product",
    "skinny_product_backward",
    "skinny_product_weights",
    "stated_mode",
]

set_mode(stated_mode())
