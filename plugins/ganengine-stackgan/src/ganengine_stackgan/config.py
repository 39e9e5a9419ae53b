"""Options of gan-int-cls and stackgan: how text is read, the game of three kinds, widths, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from ganengine.errors import UserError, check_options
from ganengine.ramps import Linear, Staircase
from ganengine.variant import Optimizer, Value


@dataclass(frozen=True)
class TextConfig:
    """Options that both variants share.

    Raises:
        UserError: a number outside what makes sense.
    """

    latent: int = 32
    """Numbers in a latent z; 100 in the papers."""
    text_encoder: Literal["own", "precomputed"] = "own"
    """own: a small encoder of characters, trained on the captions in a stage of its own; precomputed: the rows of the
    data's field `embedding`, so that captions which the data lacks cannot be asked for."""
    embedding: int = 128
    """Numbers in a text's embedding, of the own encoder; 1024 in the papers."""
    text_width: int = 48
    """Channels of the own encoder's first convolution."""
    text_images: int = 20_000
    """Pictures of the stage that trains the own encoder."""
    text_lr: float = 1e-3
    """Learning rate of that stage."""
    averaged_captions: int = 1
    """So many of a picture's captions are drawn and their embeddings averaged; 4 in the published code."""
    condition: int = 64
    """Numbers that a network compresses the embedding to; 128 in the papers."""
    cls: bool = True
    """D also sees real pictures with wrong texts, and calls them wrong (1605.05396, algorithm 1: CLS)."""
    d_filters: int = 32
    """Channels of D's first layer; twice as many in each layer after it."""
    d_product: bool = True
    """D also sees the inner product of text and features of the picture; in the papers it only sees them joined."""
    penalty_weight: float = 1.0
    """gamma of the R1 penalty on D's gradient at real pictures, weighted by gamma / 2; 0, as in the papers: none."""
    penalty_every: int = 4
    """Penalise at every n-th step only, n times as strongly."""
    lr: float = 5e-4
    """Learning rate of generators; 2e-4 in the papers."""
    d_lr: float | None = None
    """Learning rate of discriminators; None: that of generators."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments."""
    halve_every: int = 0
    """Learning rates are halved after every so many pictures of a stage; 0: never."""

    def __post_init__(self) -> None:
        whole = ("latent", "embedding", "text_width", "text_images", "averaged_captions", "condition", "d_filters")
        check_options(
            self,
            *((name, getattr(self, name) >= 1, "at least 1") for name in whole),
            *((name, 0 < getattr(self, name) < inf, "above 0") for name in ("text_lr", "lr")),
            ("d_lr", self.d_lr is None or 0 < self.d_lr < inf, "above 0"),
            ("penalty_weight", 0 <= self.penalty_weight < inf, "0 or more"),
            ("penalty_every", self.penalty_every >= 1, "at least 1"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            ("halve_every", self.halve_every >= 0, "0 or more"),
        )

    @property
    def learns_text(self) -> bool:
        """Whether there is an encoder to train."""
        return self.text_encoder == "own"

    def rate(self, start: float) -> Value:
        """Return a learning rate that begins at `start` in each stage."""
        return Staircase(start, self.halve_every, unit="stage") if self.halve_every else start

    def adam(self, lr: Value) -> Optimizer:
        """Return the recipe of an optimizer."""
        options: dict[str, Any] = {"betas": self.betas}
        return Optimizer(lr, options=options)

    @property
    def d_start(self) -> float:
        """Learning rate of discriminators at the start."""
        return self.lr if self.d_lr is None else self.d_lr


@dataclass(frozen=True)
class IntClsConfig(TextConfig):
    """One G against one D, both told a sentence (arXiv:1605.05396).

    Raises:
        UserError: a number outside what makes sense.
    """

    int_texts: bool = True
    """G must also please D with texts between two (1605.05396, equation 5: INT)."""
    int_share: float = 0.5
    """beta, the share of the first text in such a mixture."""
    g_filters: int = 32
    """Channels of G at half the picture's side; twice as many at each smaller side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            ("int_share", 0 <= self.int_share <= 1, "from 0 to 1"),
            ("g_filters", self.g_filters >= 4, "at least 4"),
        )


@dataclass(frozen=True)
class StackConfig(TextConfig):
    """A sketch by G0, then a larger picture by G, each against a D of its own (arXiv:1612.03242).

    Raises:
        UserError: a number outside what makes sense.
    """

    low: int = 16
    """Side of the pictures of stage I; 64 in the paper."""
    low_images: int = 100_000
    """Pictures of stage I."""
    settle: bool = True
    """Stage I's learning rates fall to 0 over its second half, so that what is frozen has come to rest."""
    kl: float = 0.002
    """lambda, the weight of KL(N(mu, sigma) || N(0, I)), summed over --condition numbers; 1 in the paper. The published
    code has 2 and averages over 128 numbers, which is 1/64 here. With 0.02 stage II, which has the sketch to go by,
    stopped reading the text: mu and sigma told 0.1 nats of it."""
    g0_filters: int = 32
    """Channels of G0 at full size; twice as many at each smaller side."""
    g_filters: int = 32
    """Channels of G's first layer; four times as many in its residual blocks."""
    blocks: int = 2
    """Residual blocks of G; 4 in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            ("low_images", self.low_images >= 1, "at least 1"),
            ("kl", 0 <= self.kl < inf, "0 or more"),
            ("g0_filters", self.g0_filters >= 1, "at least 1"),
            ("g_filters", self.g_filters >= 4 and not self.g_filters % 4, "a multiple of 4"),
            ("blocks", self.blocks >= 1, "at least 1"),
        )
        if self.low < 8 or self.low & (self.low - 1):
            raise UserError(f"--low: expected a power of two from 8 on, got {self.low}.")

    def low_rate(self, start: float) -> Value:
        """Return a learning rate of stage I."""
        if not self.settle:
            return self.rate(start)
        return Linear(start, 0.0, begin=self.low_images / 2, end=self.low_images, unit="stage")
