"""Options of began."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from ganengine.errors import check_options


@dataclass(frozen=True)
class BEGANConfig:
    """D is an autoencoder; G makes what D reconstructs well, D learns not to (arXiv:1703.10717).

    Raises:
        UserError: a number outside what makes sense.
    """

    latent: int = 16
    """Numbers in a latent z, and in what D's encoder makes of a picture."""
    filters: int = 16
    """Channels of the decoders, and of D's encoder at full size, n; there 2 n, 3 n ... at each smaller size."""
    gamma: float = 0.7
    """Diversity ratio: what E R(G(z)) / E R(x) is held at. Smaller is sharper and less varied."""
    lambda_k: float = 0.1
    """How fast k follows gamma R(x) - R(G(z))."""
    repel: float = 0.1
    """Weight of the squared cosine between D's codes of G's pictures, in G's loss: how hard samples push apart."""
    lr: float = 1e-3
    """Learning rate of Adam for both networks."""
    lr_rule: Literal["constant", "plateau", "halving"] = "constant"
    """plateau: halved each time that M has not fallen for --patience steps; halving: every --halve-every steps."""
    lr_floor: float = 2e-5
    """Smallest learning rate that a rule leads to."""
    patience: int = 1000
    """plateau: steps without an M that is 1 % lower than any before."""
    halve_every: int = 100_000
    """halving: steps."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments."""

    def __post_init__(self) -> None:
        check_options(
            self,
            *((name, getattr(self, name) >= 1, "at least 1") for name in ("latent", "filters")),
            ("gamma", 0 < self.gamma <= 1, "above 0, at most 1"),
            ("lambda_k", 0 < self.lambda_k < inf, "above 0"),
            ("repel", 0 <= self.repel < inf, "0 or more"),
            ("lr", 0 < self.lr < inf, "above 0"),
            ("lr_floor", 0 <= self.lr_floor < inf, "0 or more"),
            *((name, getattr(self, name) >= 1, "at least 1") for name in ("patience", "halve_every")),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
        )
