"""Options of progan: the game, how long each level lasts, and how wide the networks are."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ganengine.errors import check_options
from ganengine.ramps import Linear
from ganengine.variant import Progress

SIDES = tuple(4 << level for level in range(9))
"""Of the pictures of each level: 4, 8 ... 1024."""


@dataclass(frozen=True)
class ProGANConfig:
    """Both networks begin at 4 x 4 pixels; at each level a layer of twice the side fades in (arXiv:1710.10196).

    Raises:
        UserError: a number outside what makes sense.
    """

    latent: int = 64
    """Numbers in a latent z, which is normalised to the length sqrt(latent)."""
    filters: int = 256
    """F: features of n x n pixels have min(2 F / n, --widest) channels."""
    widest: int = 64
    """Most channels of a layer."""
    fade_images: int = 6_000
    """Images in which a new level fades in."""
    stable_images: int = 10_000
    """Images for which it then trains alone; the first level has these only."""
    level_batch: tuple[int, ...] = (32, 32, 16)
    """Batch of each level, that of 4 x 4 first; further levels have the last one's. Nothing: --batch for all."""
    gp_weight: float = 10.0
    """lambda of the gradient penalty between real and generated pictures."""
    drift: float = 0.001
    """epsilon: weight of D's squared logits on real pictures, which keeps them near 0."""
    lr: tuple[float, ...] = (1e-3,)
    """Learning rate of both networks at each level, that of 4 x 4 first; further levels have the last one's."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Decay of Adam's two moments, which start anew at every level."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""

    def __post_init__(self) -> None:
        check_options(
            self,
            *(
                (name, getattr(self, name) >= 1, "at least 1")
                for name in ("latent", "filters", "widest", "stable_images")
            ),
            ("fade_images", self.fade_images >= 0, "0 or more"),
            ("level_batch", all(batch >= 1 for batch in self.level_batch), "numbers from 1"),
            *((name, 0 <= getattr(self, name) < inf, "0 or more") for name in ("gp_weight", "drift")),
            ("lr", bool(self.lr) and all(0 < lr < inf for lr in self.lr), "numbers above 0"),
            ("adam_eps", 0 < self.adam_eps < inf, "above 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
        )

    def width(self, side: int) -> int:
        """Return the channels of features of this side."""
        return max(1, min(self.widest, 2 * self.filters // side))

    def alpha(self, progress: Progress) -> float:
        """Return how far the newest level has faded in: images of the stage / --fade-images, at most 1.

        The first level has nothing to fade in over.
        """
        if not progress.stage or not self.fade_images:
            return 1.0
        return Linear(0.0, 1.0, end=self.fade_images, unit="stage")(progress, {})
