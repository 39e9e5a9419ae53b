"""Optimizers as schedules name them, with a fused step where torch has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganengine.errors import PluginError
from ganengine.variant import Optimizer

FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimizers with a fused step on the CPU as well as on CUDA. SGD's cannot begin a momentum while others are there,
as a shared optimizer does, so with momentum it is left to torch."""


def make_optimizer(recipe: Optimizer, parameters: list[nn.Parameter], classes: Mapping[str, Any]) -> Any:
    """Make the torch optimizer that `recipe` names, fused where torch has it.

    Raises:
        PluginError: no such optimizer, or options it does not take.
    """
    if recipe.name not in classes:
        raise PluginError(f'No optimizer is called "{recipe.name}"; there are {", ".join(sorted(classes))}.')
    kind = classes[recipe.name]
    options = dict(recipe.options)
    momentum = kind is torch.optim.SGD and options.get("momentum")
    if kind in FUSED and not momentum and all(parameter.is_floating_point() for parameter in parameters):
        options.setdefault("fused", True)
    try:
        # The learning rate is set before every step from the schedule.
        optimizer = kind(parameters, lr=0.0, **options)
    except (TypeError, ValueError) as error:
        raise PluginError(f'Optimizer "{recipe.name}" does not take these options: {error}.') from error
    if kind in (torch.optim.Adam, torch.optim.AdamW) and options.get("fused"):
        step_in_memory_order(optimizer)
    return optimizer


def step_in_memory_order(optimizer: torch.optim.Adam) -> None:
    """Have a fused Adam see channels-last tensors in the order in which they lie.

    On the CPU it copies each gradient that is not contiguous, to and fro: 6.9 ms instead of 2.9 for 2 M parameters. The
    step is elementwise, so views that are contiguous give the same numbers. State stays with the parameters.
    """
    collect = optimizer._init_group

    def in_memory_order(group: dict[str, Any], *lists: list[Tensor]) -> Any:
        complex_ones = collect(group, *lists)  # type: ignore[no-untyped-call]
        for tensors in lists:
            tensors[:] = [_as_it_lies(tensor) for tensor in tensors]
        return complex_ones

    optimizer._init_group = in_memory_order  # type: ignore[method-assign]


def _as_it_lies(tensor: Tensor) -> Tensor:
    if tensor.dim() != 4 or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor
    return tensor.permute(0, 2, 3, 1)
