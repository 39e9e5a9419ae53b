"""Options of social-gan: its losses, the form of the networks, the optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from ganengine.errors import UserError, check_options


@dataclass(frozen=True)
class SocialGANConfig:
    """Where the people of a scene will walk, as samples of what is plausible (arXiv:1803.10892).

    Raises:
        UserError: a number outside what makes sense.
    """

    noise: int = 8
    """Numbers in a latent; the people of a scene share one."""
    embed: int = 16
    """Width of the embedding of a step, and of the way between two people."""
    g_encoder: int = 32
    """Hidden numbers of the LSTM that reads the observed steps."""
    g_decoder: int = 48
    """Hidden numbers of the LSTM that walks on, noise included."""
    d_encoder: int = 48
    """Hidden numbers of D's LSTM."""
    pooling: Literal["people", "none"] = "people"
    """people: everybody's context holds the others of the scene; none: each path is by itself."""
    pool_hidden: int = 64
    """Width of the hidden layer over pairs of people; 512 in the paper."""
    bottleneck: int = 24
    """Numbers that pooling over the people of a scene gives; 8 in the paper."""
    g_mlp: int = 64
    """Width of the hidden layer between context and decoder."""
    d_mlp: int = 64
    """Width of the hidden layer of D behind its LSTM."""
    residual: bool = True
    """The decoder's output is added to the step before: without learning it walks straight on. The paper's is the step
    itself."""
    variety_k: int = 20
    """Futures of which the best one counts in the variety loss; 1: every future is drawn to what came."""
    variety_best: Literal["scene", "person"] = "scene"
    """Whether the best future is that of a scene as a whole, as in the published code, or each person's own."""
    variety_distance: Literal["norm", "squared"] = "norm"
    """norm: |Y - Y_k|_2 of a path (the paper); squared: its square (the published code)."""
    variety_weight: float = 1.0
    """Weight of the variety loss beside the adversarial one."""
    smoothing: tuple[float, float] = (0.7, 1.2)
    """Labels of real paths, and of fakes in G's loss, are drawn between these (the published code)."""
    lr: float = 1e-3
    """Learning rate of G."""
    d_lr: float | None = None
    """Learning rate of D; None: that of G."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two moments."""
    g_clip: float = 2.0
    """Largest 2-norm of G's gradient (the published code)."""

    def __post_init__(self) -> None:
        widths = ("embed", "g_encoder", "d_encoder", "pool_hidden", "bottleneck", "g_mlp", "d_mlp", "variety_k")
        check_options(
            self,
            *((name, getattr(self, name) >= 1, "at least 1") for name in widths),
            ("noise", self.noise >= 0, "0 or more"),
            ("g_decoder", self.g_decoder > self.noise, f"more than --noise ({self.noise})"),
            ("variety_weight", 0 <= self.variety_weight < inf, "0 or more"),
            ("smoothing", 0 < self.smoothing[0] <= self.smoothing[1] < 2, "two numbers in order, above 0 and below 2"),
            ("lr", 0 < self.lr < inf, "above 0"),
            ("d_lr", self.d_lr is None or 0 < self.d_lr < inf, "above 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            ("g_clip", 0 < self.g_clip < inf, "above 0"),
        )
        if sum(self.smoothing) > 2:
            raise UserError(
                f"--smoothing: expected labels of at most 1 on average, got {self.smoothing[0]:g} to "
                f"{self.smoothing[1]:g}: D's loss would have no end. Use 0.7 1.2."
            )
