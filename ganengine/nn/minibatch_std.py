"""Minibatch standard deviation: D sees how much the samples of a batch differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganengine import ranks
from ganengine.nn.tracing import leaf_module
from ganengine.ops.checks import accumulation_dtype
from ganengine.ops.conditional_batch_norm import reference_pooled


class MinibatchStd(nn.Module):
    """Append a channel that holds, everywhere, how much the batch varies: [N, C, H, W] -> [N, C + 1, H, W].

        s = mean over (c, h, w) of sqrt(var_n(x) + eps),  var_n the uncorrected variance over the samples

    The batch is one group. So a logit depends on its batch mates: real and generated samples go through in calls of
    their own, a batch cut into parts (`--accumulate`) has a statistic of each part, as with batch norm; several
    ranks have one together. A single sample has s = sqrt(eps). Computed in float32 or wider.

    Args:
        eps: added to the variance; the root has a gradient where all samples are equal.

    Gradients: any order.
    Paper: 1710.10196, section 3; eps: its published code.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    @leaf_module
    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(accumulation_dtype(x.dtype))
        var = wide.var(0, correction=0)
        if self.training and ranks.world() > 1:
            own = torch.stack((wide.mean(0), var, torch.full_like(var, len(x)))).flatten(1)
            _, var, _, _ = reference_pooled(ranks.gathered(own))
        deviation = (var + self.eps).sqrt().mean().to(x.dtype)
        return torch.cat((x, deviation.expand(x.shape[0], 1, *x.shape[2:])), 1)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
