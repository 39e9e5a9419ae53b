"""Options of cgan: those of the usual game with a label, and the form of the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ganengine.errors import check_options
from ganengine.ramps import Exponential
from ganengine.two_player import ConditionalConfig
from ganengine.variant import Value


@dataclass(frozen=True)
class CGANConfig(ConditionalConfig):
    """Conditional Generative Adversarial Nets (arXiv:1411.1784): G and D both see the label.

    Raises:
        UserError: a number outside what makes sense.
    """

    architecture: Literal["inner-relu", "paper"] = "inner-relu"
    """inner-relu: ReLU and dropout between each linear layer and its maximum; paper: section 4.1, wider layers for the
    label in G, no inner ReLU, dropout on the input of layers in both networks."""
    dropout: float = 0.0
    """Share of D's pieces (inner-relu) or of both networks' inputs of layers (paper) that is dropped in training; 0.5
    in the paper."""
    penalty: Literal["none", "gp", "r1", "r2"] = "r1"
    """Penalty on D's gradient: r1 at real samples keeps D from winning where dropout kept it from learning."""
    penalty_weight: float = 1.0
    """gamma of r1, weighted by gamma / 2."""
    penalty_every: int = 4
    """Penalise at every n-th step only, n times as strongly."""
    lr: float = 5e-4
    """Learning rate of both networks."""
    lr_ramp: Literal["constant", "linear"] = "linear"
    """linear: to 0 over the second half of the horizon; constant."""
    decay: float = 1.0
    """Above 1, divides both rates after each step, down to 1e-6, in place of --lr-ramp; 1.00004 in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
            ("decay", 1 <= self.decay < 2, "from 1 to below 2"),
        )

    def rate(self, start: float) -> Value:
        """Return the ramp of a learning rate."""
        return super().rate(start) if self.decay == 1 else Exponential(start, self.decay, floor=1e-6)
