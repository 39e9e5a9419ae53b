"""Options of infogan, and the latent that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ganengine.errors import check_options
from ganengine.variant import Part, Prior


@dataclass(frozen=True)
class InfoGANConfig:
    """A GAN whose G must let D read part of the latent from the picture (arXiv:1606.03657).

    Raises:
        UserError: a number outside what makes sense.
    """

    noise: int = 62
    """Numbers of the latent that nothing has to be read from, uniform on [-1, 1]."""
    categories: int = 10
    """Values of the category code."""
    codes: int = 2
    """Continuous codes, uniform on [-1, 1]; 0: none."""
    lambda_category: float = 1.0
    """Weight of the information about the category."""
    lambda_codes: float = 1.0
    """Weight of the information about the continuous codes."""
    code_std: float | None = 1.0
    """Standard deviation of what Q says of a continuous code; None: Q says it too."""
    adversarial: str = "nonsaturating"
    """Adversarial loss by name."""
    g_filters: int = 64
    """Channels of G at half size; twice as many at a quarter."""
    d_filters: int = 64
    """Channels of the trunk at half size; twice as many at a quarter."""
    hidden: int = 1024
    """Width of the fully connected layers of G and of the trunk."""
    q_hidden: int = 128
    """Width of Q's hidden layer."""
    lr: float = 1e-3
    """Learning rate of Adam for G."""
    d_lr: float = 2e-4
    """Learning rate of Adam for trunk, D and Q."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments."""

    def __post_init__(self) -> None:
        widths = ("noise", "g_filters", "d_filters", "hidden", "q_hidden")
        check_options(
            self,
            *((name, getattr(self, name) >= 1, "at least 1") for name in widths),
            ("categories", self.categories >= 2, "at least 2"),
            ("codes", self.codes >= 0, "0 or more"),
            *((name, 0 <= getattr(self, name) < inf, "0 or more") for name in ("lambda_category", "lambda_codes")),
            ("code_std", self.code_std is None or 0 < self.code_std < inf, "above 0, or None"),
            ("lr", 0 < self.lr < inf, "above 0"),
            ("d_lr", 0 < self.d_lr < inf, "above 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
        )

    @property
    def prior(self) -> Prior:
        """What latents are drawn from: noise, category, and codes where there are any."""
        named = Part("noise", self.noise, "uniform"), Part("category", self.categories, "categorical")
        return Prior.of(*named, *([Part("codes", self.codes, "uniform")] if self.codes else []))
