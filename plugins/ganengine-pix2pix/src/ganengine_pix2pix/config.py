"""Options of pix2pix; they stand beside the engine's own (batch, size, load-size, flip, horizon ...)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from ganengine.errors import check_options

Arm = Literal["l1", "gan", "cgan", "l1+gan", "l1+cgan"]
Direction = Literal["AtoB", "BtoA"]
Generator = Literal["unet", "encoder-decoder", "resnet-6", "resnet-9"]
Norm = Literal["batch", "instance", "none"]
Ramp = Literal["constant", "linear", "sqrt"]
ReceptiveField = Literal[1, 16, 34, 70, 142, 286]
UNetLayout = Literal["paper", "pytorch"]


@dataclass(frozen=True)
class Pix2PixConfig:
    """Image-to-Image Translation with Conditional Adversarial Networks (arXiv:1611.07004).

    Numbers of sections and tables below are the paper's. The defaults suit small pictures on a small machine;
    `--preset paper` is the paper's recipe.

    Raises:
        UserError: a number outside what makes sense.
    """

    direction: Direction = "AtoB"
    """Which picture of a pair is the input."""
    arm: Arm = "l1+cgan"
    """Terms of the generator's loss, table 1: cgan shows D the input beside the output, gan does not."""
    lambda_l1: float = 100.0
    """Weight of the L1 term beside the adversarial one (section 6.1)."""
    adversarial: str = "nonsaturating"
    """Adversarial loss by name; nonsaturating is the paper's (section 3.3), ls the later CycleGAN's."""
    generator: Generator = "unet"
    """unet (section 3.2.1), encoder-decoder (the same without skips), or residual blocks (arXiv:1703.10593)."""
    levels: int | None = None
    """How often the U-Net halves a picture; None: as often as its size allows, at most 8 times (section 6.1.1)."""
    unet_layout: UNetLayout = "paper"
    """pytorch: as in the authors' PyTorch code, with dropout one layer later, in the layers between the bottleneck and
    the last four, and, beside instance norm, a bias in the first and the deepest convolution."""
    g_filters: int = 32
    """Filters of G's first layer; 64 in section 6.1.1."""
    d_filters: int = 32
    """Filters of D's first layer; 64 in section 6.1.2."""
    receptive_field: ReceptiveField = 70
    """Side in pixels of the patches that D judges (section 4.4); 1 judges single pixels."""
    norm: Norm = "instance"
    """Normalisation in both networks; instance is batch norm at batch 1, as in the paper, at any batch size."""
    dropout: float = 0.0
    """Share of features dropped in G, in use as well: the model's only noise; 0.5 in section 2.1."""
    lr: float = 5e-4
    """Learning rate of Adam for G; 2e-4 in section 3.3."""
    d_lr: float = 1e-4
    """Learning rate of Adam for D; 2e-4 in section 3.3. A slower D does not win on small sets."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments (section 3.3)."""
    lr_ramp: Ramp = "sqrt"
    """constant (the paper), linear (to 0 over the second half of the horizon, the published code), sqrt (as
    1 / sqrt(images) after --lr-hold images: as good a picture as can be had whenever one stops)."""
    lr_hold: int = 5000
    """Images before the ramp sqrt begins to fall."""
    init_gain: float = 0.02
    """Standard deviation of the weights at the start (section 6.2)."""

    def __post_init__(self) -> None:
        check_options(
            self,
            ("levels", self.levels is None or 1 <= self.levels <= 10, "a number from 1 to 10"),
            ("g_filters", self.g_filters >= 1, "at least 1"),
            ("d_filters", self.d_filters >= 1, "at least 1"),
            ("lambda_l1", 0 <= self.lambda_l1 < inf, "0 or more"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
            ("lr", 0 < self.lr < inf, "above 0"),
            ("d_lr", 0 < self.d_lr < inf, "above 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            ("lr_hold", self.lr_hold >= 1, "at least 1"),
            ("init_gain", 0 < self.init_gain < inf, "above 0"),
        )

    @property
    def source(self) -> str:
        """Field of a batch that is G's input."""
        return self.direction[0]

    @property
    def target(self) -> str:
        """Field of a batch that G's output is compared with."""
        return self.direction[-1]

    @property
    def has_critic(self) -> bool:
        """Whether there is a D at all."""
        return self.arm != "l1"

    @property
    def has_l1(self) -> bool:
        """Whether G is pulled towards the truth by the L1 distance."""
        return self.arm.startswith("l1")

    @property
    def sees_input(self) -> bool:
        """Whether D judges input and output together."""
        return self.arm.endswith("cgan")
