"""One pass of a network over several batches, where no sample can tell which others are beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganengine.nn.conditional_batch_norm import ConditionalBatchNorm2d
from ganengine.nn.dropout import Dropout
from ganengine.nn.minibatch_std import MinibatchStd
from ganengine.nn.reference_norm import ReferenceNorm

MIXING = (nn.modules.batchnorm._BatchNorm, ConditionalBatchNorm2d, MinibatchStd, ReferenceNorm)
"""Layers by which samples of a batch see each other."""
DRAWING = (Dropout, nn.modules.dropout._DropoutNd)
"""Layers whose draws belong to a place in the batch."""
ACROSS = MIXING + DRAWING


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
    """Asked in every step, and so without torch's walk over modules, which makes a name for each."""
    kept = not (isinstance(network, ACROSS) or _moves_on(network) or "parametrizations" in network._modules)
    return kept and all(_samples_are_apart(part) for part in network._modules.values() if part is not None)


def _moves_on(module: nn.Module) -> bool:
    """Whether a layer's state may change with every pass: running statistics, torch's older spectral norm (a hook)."""
    if module._forward_pre_hooks:
        return True
    return isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats
