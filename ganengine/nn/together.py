"""One pass of a network over several batches, where no sample can tell which others are beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ganengine.nn.conditional_batch_norm import ConditionalBatchNorm2d
from ganengine.nn.dropout import Dropout
from ganengine.nn.minibatch_std import MinibatchStd
from ganengine.nn.reference_norm import ReferenceNorm

MIXING = (nn.modules.batchnorm._BatchNorm, ConditionalBatchNorm2d, MinibatchStd, ReferenceNorm)
"""Layers by which samples of a batch see each other."""
DRAWING = (Dropout, nn.modules.dropout._DropoutNd)
"""Layers whose draws belong to a place in the batch."""


def together(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """Return what a network makes of each batch: in one pass where that is the same, else in one pass each.

    One pass has fewer and larger operations. It is taken where all batches have one shape and no layer has statistics
    of the batch, draws, or a state that each pass moves on (spectral norm). A network with layers of its own that mix
    samples must be run batch by batch.

    Args:
        network: takes one tensor [N, ...] and returns one [N, ...].
        batches: each [N, ...]; N may differ.

    Gradients: those of the separate passes.
    """
    shapes = {batch.shape[1:] for batch in batches}
    if len(batches) < 2 or len(shapes) > 1 or not _samples_are_apart(network):
        return tuple(network(batch) for batch in batches)
    whole: Tensor = network(torch.cat(batches))
    return torch.split(whole, [len(batch) for batch in batches])


def _samples_are_apart(network: nn.Module) -> bool:
    return not any(
        isinstance(module, MIXING + DRAWING) or _moves_on(module) or parametrize.is_parametrized(module)
        for module in network.modules()
    )


def _moves_on(module: nn.Module) -> bool:
    """Whether a layer's state may change with every pass: running statistics, torch's older spectral norm (a hook)."""
    tracks = isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats
    return tracks or bool(module._forward_pre_hooks)
