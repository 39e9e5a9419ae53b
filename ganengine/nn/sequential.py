"""A sequence of layers in which an activation is one with the norm before it or the convolution behind, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere

from ganengine import ranks
from ganengine.nn.convolution import Conv2d, takes_along
from ganengine.nn.norm import LEAST_ELEMENTS, BatchNorm2d, InstanceNorm2d, instance_kernel_pays, rows_of
from ganengine.nn.padding import ReflectionPad2d
from ganengine.nn.spectral_norm import follow
from ganengine.ops.activation import LEAKY_SLOPE, SLOPES
from ganengine.ops.conditional_batch_norm import OP as BATCH_NORM
from ganengine.ops.conditional_batch_norm import conditional_batch_norm, memory_format, one_class
from ganengine.ops.dispatch import compiled
from ganengine.ops.instance_norm import instance_norm
from ganengine.ops.registration import traced

Activation: TypeAlias = Literal["relu", "leaky_relu"]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where torch keeps those who listen to a module; those who listen to every module: behind `_global`."""


class Sequential(nn.Sequential):
    """As nn.Sequential; batch or instance norm with ReLU, or leaky ReLU of slope 0.2, behind it is one operation.

    So is any other ReLU or leaky ReLU, or reflection padding, with a convolution behind it that takes it along
    (ganengine.nn.convolution).
    Whoever runs the layers one by one, or listens to them by hooks, gets each layer's own result.

    Gradients: any order.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what nn.Sequential returns."""
        if not isinstance(input, Tensor):  # torch.fx traces layer by layer
            return super().forward(input)
        return run(list(self), input)


def run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Return what layers make of x, one after the other."""
    place = 0
    while place < len(layers):
        layer = layers[place]
        behind = layers[place + 1] if place + 1 < len(layers) else None
        if isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            joined = _joined(layer, behind, x)
        else:
            joined = _taken_along(layer, behind, x, own=place > 0)
        x = layer(x) if joined is None else joined
        place += 1 if joined is None else 2
    return x


def _joined(norm: nn.BatchNorm2d | nn.InstanceNorm2d, behind: nn.Module | None, x: Tensor) -> Tensor | None:
    """Return the activated result where one kernel makes it faster, else None."""
    kind = _kind(behind)
    if kind is None or memory_format(x) != torch.channels_last:
        return None
    if _heard(norm) or _heard(behind):
        return None
    if type(norm) is InstanceNorm2d:
        by_statistics = x.shape[-1] * x.shape[-2] > 1 and norm.running_mean is None
        own = by_statistics and instance_kernel_pays(x, norm.training)
        return instance_norm(x, *rows_of(norm, x), norm.eps, SLOPES[kind]) if own else None
    if isinstance(norm, nn.BatchNorm2d) and type(norm) in (nn.BatchNorm2d, BatchNorm2d) and _batch_kernel_pays(norm, x):
        return _batch_norm(norm, x, kind)
    return None


def _taken_along(layer: nn.Module, behind: nn.Module | None, x: Tensor, own: bool) -> Tensor | None:
    """Return what a convolution makes of x behind an activation or a reflection, where it takes that along.

    Args:
        layer: the activation or the reflection.
        behind: the convolution.
        x: what they take.
        own: nobody else has x. Behind an activation the convolution keeps it for the gradient, where torch keeps the
            activated one, so that others may change x in place.
    """
    if type(layer) not in (nn.ReLU, nn.LeakyReLU, ReflectionPad2d) or not takes_along(behind):
        return None
    # In other memory the gradient would lie otherwise than behind a layer of its own, and a norm sum it up otherwise.
    if memory_format(x) != torch.channels_last:
        return None
    # One that works in place may change what others read.
    if getattr(layer, "inplace", False) or _heard(layer) or _heard(behind, but=follow):
        return None
    made: Tensor | None = None
    if isinstance(layer, ReflectionPad2d):
        left, right, top, bottom = layer.padding
        even = (left, top) == (right, bottom) and isinstance(behind, Conv2d) and behind.padding == (0, 0)
        if even and x.dim() == 4 and 0 <= top < x.shape[2] and 0 <= left < x.shape[3]:
            made = behind(x, reflect=(top, left))  # type: ignore[misc]
    elif own:
        made = behind(x, slope=getattr(layer, "negative_slope", 0.0))  # type: ignore[misc]
    return made


def _heard(layer: Any, but: Any = None) -> bool:
    """Whether somebody listens to a layer, or to every layer; a hook that takes no notice of the input may stay."""
    own = (hook for kind in HOOKS for hook in getattr(layer, kind).values() if hook is not but)
    return any(own) or any(getattr(everywhere, f"_global{kind}") for kind in HOOKS)


def _kind(layer: nn.Module | None) -> Activation | None:
    if type(layer) is nn.ReLU:
        return "relu"
    return "leaky_relu" if type(layer) is nn.LeakyReLU and layer.negative_slope == LEAKY_SLOPE else None


def _batch_kernel_pays(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    return (
        norm.training
        and norm.affine
        and norm.momentum is not None
        and ranks.world() == 1
        and x.numel() >= LEAST_ELEMENTS
        and compiled(BATCH_NORM, x.device.type)
        and not traced()
    )


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor, kind: Activation) -> Tensor:
    kept = norm.track_running_stats  # `ganengine.nn.context.hold` clears it
    if kept and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return conditional_batch_norm(
        x,
        norm.weight[None],
        norm.bias[None],
        one_class(x),
        running_mean=norm.running_mean if kept else None,
        running_var=norm.running_var if kept else None,
        momentum=norm.momentum or 0.0,
        eps=norm.eps,
        activation=kind,
    )
