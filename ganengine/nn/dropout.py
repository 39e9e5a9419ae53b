"""Dropout whose mask is keyed by seed, step, module and sample instead of the global generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn.context import current, dropout_key, sample_keys
from ganengine.nn.tracing import leaf_module
from ganengine.ops.counter import keep_mask
from ganengine.ops.registration import traced


class Dropout(nn.Module):
    """Set elements to zero with probability `p`, scale the rest by 1 / (1 - p).

    Args:
        p: probability of an element to be dropped, in [0, 1).
        always: drop in eval mode too, where dropout is the model's noise (pix2pix, arXiv:1611.07004, section 2.1).

    Determinism: the mask of a sample is a function of (seed, step, repeat, scope, module name, call, index of the
    sample in the global batch); at use, of (seed, the sample's own name). Gradients: any order, with respect to x.
    """

    def __init__(self, p: float = 0.5, *, always: bool = False) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: expected p in [0, 1), got {p}.")
        self.p = p
        self.always = always

    @leaf_module
    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0 or not (self.training or self.always):
            return x
        if current() is None and traced():
            return F.dropout(x, self.p)  # a seed that is drawn now would be the traced network's only one
        # The mask is made in logical (N, C, H, W) order, so that the memory format does not change it.
        keys = sample_keys(self)
        if keys is None:
            seed, first = dropout_key(self)
            mask = keep_mask(seed, first * (x.numel() // max(1, x.shape[0])), x.shape, self.p, x.device)
        else:
            rows = [keep_mask(seed, 0, x.shape[1:], self.p, x.device) for seed in keys]
            mask = torch.stack(rows) if rows else torch.empty(x.shape, dtype=torch.bool, device=x.device)
        return x * mask.to(x.dtype).mul_(1 / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}" + (", always=True" if self.always else "")
