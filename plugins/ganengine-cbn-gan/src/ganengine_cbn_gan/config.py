"""Options of cbn-gan: those of the usual game with a label, and the form of the networks."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from ganengine.errors import check_options
from ganengine.ramps import linear_decay
from ganengine.two_player import ConditionalConfig
from ganengine.variant import Value


@dataclass(frozen=True)
class CBNGANConfig(ConditionalConfig):
    """One G for many classes: the label chooses scale and shift of every norm layer (arXiv:1802.05637).

    Raises:
        UserError: a number outside what makes sense.
    """

    latent: int = 128
    """Numbers in a latent z."""
    adversarial: str = "hinge"
    """Adversarial loss by name (1802.05957, equations 17 and 18)."""
    g_filters: int = 32
    """Channels of G at full size; twice as many at each smaller size, up to --g-widest."""
    g_widest: int = 64
    """Most channels of a layer of G."""
    d_filters: int = 32
    """Channels of D's first block; twice as many in each block after it, up to --d-widest."""
    d_widest: int = 64
    """Most channels of a layer of D."""
    condition: Literal["class", "latent"] = "class"
    """class: a scale and shift of each class in each norm; latent: linear in an embedding of the class that all norms
    share and in a part of z of the block's own (BigGAN, 1809.11096, appendix B)."""
    class_spread: float = 0.5
    """Standard deviation of the classes' scales and shifts at the start; at 0 all classes begin as one and part slowly,
    as each step moves a scale by about the learning rate."""
    embedding: int = 128
    """Numbers in the shared embedding of a class, where --condition is latent."""
    attention: bool = False
    """Self-attention in both networks, at the largest features of at most 32 x 32 between two blocks (SAGAN,
    1805.08318)."""
    init: Literal["glorot", "orthogonal"] = "glorot"
    """Weights at the start: glorot, with a gain of sqrt 2 inside blocks (SNGAN), or orthogonal (BigGAN)."""
    orthogonal: float = 0.0
    """beta of the penalty that keeps G's filters orthogonal (1809.11096, equation 3); 0: none."""
    d_steps: int = 1
    """Steps of D for each one of G, each on a batch of its own."""
    d_batch: Literal["separate", "joined"] = "joined"
    """D sees real and fake in one pass, which one power iteration serves, as in BigGAN's public code; or in two."""
    lr: float = 1e-3
    """Learning rate of G."""
    betas: tuple[float, float] = (0.0, 0.9)
    """Decay of Adam's two moments."""
    lr_ramp: Literal["constant", "linear"] = "constant"
    """linear: to 0 over the last ninth of the horizon (SNGAN's published code)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            *((name, getattr(self, name) >= 1, "at least 1") for name in ("g_filters", "d_filters", "embedding")),
            ("g_widest", self.g_widest >= self.g_filters, f"at least --g-filters ({self.g_filters})"),
            ("d_widest", self.d_widest >= self.d_filters, f"at least --d-filters ({self.d_filters})"),
            ("class_spread", 0 <= self.class_spread < inf, "0 or more"),
            ("orthogonal", 0 <= self.orthogonal < inf, "0 or more"),
        )

    def rate(self, start: float) -> Value:
        """Return the ramp of a learning rate."""
        return linear_decay(start, constant=8 / 9) if self.lr_ramp == "linear" else start
