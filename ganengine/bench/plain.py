"""Networks as the field's reference repositories have them, for the plain loops that the engine is measured against."""

from __future__ import annotations

from torch import nn

from ganengine.nn import Dropout


def plain(network: nn.Module) -> nn.Module:
    """Replace the keyed dropout in `network` by torch's own, in place. Norms are torch's in training."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    return network
