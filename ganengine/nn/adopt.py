"""Have torch's own layers in a network compute as the faster ones of this package, with the same numbers."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from ganengine.nn.convolution import Conv2d, ConvTranspose2d
from ganengine.nn.flatten import Flatten, Unflatten
from ganengine.nn.padding import ReflectionPad2d
from ganengine.nn.sequential import Sequential

SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.Flatten: Flatten,
    nn.ReflectionPad2d: ReflectionPad2d,
    nn.Sequential: Sequential,
    nn.Unflatten: Unflatten,
}


def adopt(network: nn.Module) -> int:
    """Change the classes of layers in `network` in place, and return how many; state and names stay as they are."""
    count = 0
    for module in network.modules():
        kind = type(module)
        if kind in SWAPS:
            module.__class__ = SWAPS[kind]
        elif parametrize.is_parametrized(module) and kind.__bases__[0] in SWAPS:
            # Not by that class's bases: torch makes one for each parametrized module, but deep copies share it.
            members = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
            module.__class__ = type(kind.__name__, (SWAPS[kind.__bases__[0]],), members)
        else:
            continue
        count += 1
    return count
