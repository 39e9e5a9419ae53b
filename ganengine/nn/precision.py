"""The dtype that layers compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def computed_in(x: Tensor) -> torch.dtype:
    """Return the dtype in which convolutions and linear layers take x: autocast's where it is on, else x's own.

    What is put together before a layer, as x.to(computed_in(x)), costs half in bfloat16, and is cast there anyway.
    """
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return x.dtype
    return torch.get_autocast_dtype(kind)
