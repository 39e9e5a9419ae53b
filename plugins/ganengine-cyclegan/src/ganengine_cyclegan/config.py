"""Options of cyclegan; they stand beside the engine's own (batch, size, load-size, flip, horizon ...)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from ganengine.errors import check_options

Norm = Literal["batch", "instance", "none"]
Ramp = Literal["constant", "linear"]
ReceptiveField = Literal[16, 34, 70, 142]


@dataclass(frozen=True)
class CycleGANConfig:
    """Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (arXiv:1703.10593).

    Numbers of sections and equations below are the paper's. The defaults suit small pictures on a small machine;
    `--preset paper` is the paper's recipe.

    Raises:
        UserError: a number outside what makes sense.
    """

    lambda_cycle: float = 10.0
    """Weight of the cycle loss (lambda of equation 3); 0 takes it away."""
    lambda_identity: float = 0.0
    """Weight of the identity loss, as a share of --lambda-cycle; 0.5 where colours must stay (section 5.2)."""
    adversarial: str = "ls"
    """Adversarial loss by name; ls is the paper's choice (section 4), nonsaturating its equation 1 in log form."""
    pool: int = 50
    """Earlier translations kept in each direction for the discriminator to look back at (section 4); 0: none."""
    blocks: int | None = None
    """Residual blocks of a generator; None: 6, or 9 from 256 pixels on (section 7.2)."""
    g_filters: int = 16
    """Filters of a generator's first layer; 64 in section 7.2."""
    d_filters: int = 32
    """Filters of a discriminator's first layer; 64 in section 7.2."""
    receptive_field: ReceptiveField = 70
    """Side in pixels of the patches that a discriminator judges; 70 in section 4."""
    norm: Norm = "instance"
    """Normalisation in all networks; instance is the paper's."""
    lr: float = 5e-4
    """Learning rate of Adam for both generators; 2e-4 in section 4."""
    d_lr: float = 2e-4
    """Learning rate of Adam for both discriminators; 2e-4 in section 4."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments, those of the published code."""
    lr_ramp: Ramp = "linear"
    """linear: constant over the first half of the horizon, then in a straight line to 0 (section 4); constant."""
    init_gain: float = 0.02
    """Standard deviation of the weights at the start (section 4)."""

    def __post_init__(self) -> None:
        check_options(
            self,
            ("lambda_cycle", 0 <= self.lambda_cycle < inf, "0 or more"),
            ("lambda_identity", 0 <= self.lambda_identity < inf, "0 or more"),
            ("pool", self.pool >= 0, "0 or more"),
            ("blocks", self.blocks is None or self.blocks >= 1, "at least 1"),
            ("g_filters", self.g_filters >= 1, "at least 1"),
            ("d_filters", self.d_filters >= 1, "at least 1"),
            ("lr", 0 < self.lr < inf, "above 0"),
            ("d_lr", 0 < self.d_lr < inf, "above 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            ("init_gain", 0 < self.init_gain < inf, "above 0"),
        )

    @property
    def identity_weight(self) -> float:
        """Weight of the identity loss in the generators' objective; 0: there is none."""
        return self.lambda_identity * self.lambda_cycle

    @property
    def adversarial_weight(self) -> float:
        """Weight of every adversarial term: the paper's least squares has no 1/2, the engine's has."""
        return 2.0 if self.adversarial == "ls" else 1.0
