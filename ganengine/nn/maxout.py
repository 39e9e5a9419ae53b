"""Maxout layer: a linear layer of several pieces per unit, and their maximum."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.errors import UserError
from ganengine.nn.context import dropout_key
from ganengine.nn.tracing import leaf_module
from ganengine.ops import maxout


class Maxout(nn.Linear):
    """Linear layer and the maximum over its pieces: y_u = max over p of drop(activation((W x + b)_{p * units + u})).

    Args:
        in_features: features of x.
        units: features of the result.
        pieces: linear pieces per unit, 1 to 255.
        activation: None or "relu", before the maximum.
        dropout: probability of a piece to be dropped in training, in [0, 1); dropped pieces count as 0.

    Its state is that of `nn.Linear(in_features, pieces * units)`: `weight` and `bias`, piece p of unit u in row
    p * units + u. Weights start as those of nn.Linear.

    Determinism: the mask is keyed by the module's name and the sample's index in the global batch.
    Gradients: any order. Paper: arXiv:1302.4389.
    """

    def __init__(
        self,
        in_features: int,
        units: int,
        pieces: int,
        activation: Literal["relu"] | None = None,
        dropout: float = 0.0,
    ) -> None:
        if not 1 <= pieces <= 255:
            raise UserError(f"Maxout: expected 1 to 255 pieces, got {pieces}.")
        if not 0 <= dropout < 1:
            raise UserError(f"Maxout: expected dropout in [0, 1), got {dropout}.")
        super().__init__(in_features, pieces * units)
        self.units = units
        self.pieces = pieces
        self.activation = activation
        self.dropout = dropout

    @leaf_module
    def forward(self, x: Tensor) -> Tensor:
        """Return [N, units] for x [N, in_features]."""
        h = F.linear(x, self.weight)
        dropout = self.dropout if self.training else 0.0
        seed, first = dropout_key(self) if dropout > 0 else (0, 0)
        return maxout(
            h,
            self.bias,
            self.pieces,
            activation=self.activation,
            dropout=dropout,
            seed=seed,
            offset=first * self.out_features,
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, units={self.units}, pieces={self.pieces}, "
            f"activation={self.activation}, dropout={self.dropout}"
        )
