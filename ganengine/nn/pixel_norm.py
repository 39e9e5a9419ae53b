"""Pixel norm: the features of every place have length sqrt(C)."""

from __future__ import annotations

from torch import Tensor, nn

from ganengine.nn.tracing import leaf_module
from ganengine.ops.checks import accumulation_dtype


class PixelNorm(nn.Module):
    """Divide by the root mean square over the features: b = a / sqrt(mean_c(a_c^2) + eps).

    The feature axis is the second: of maps [N, C, H, W] every place is normalised by itself, of latents [N, C] every
    sample. It has no parameters and does not look at other samples. Computed in float32 or wider.

    Args:
        eps: added to the mean square.

    Gradients: any order.
    Paper: 1710.10196, section 4.2.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    @leaf_module
    def forward(self, x: Tensor) -> Tensor:
        square = x.to(accumulation_dtype(x.dtype)).square().mean(1, keepdim=True)
        return x * (square + self.eps).rsqrt().to(x.dtype)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
