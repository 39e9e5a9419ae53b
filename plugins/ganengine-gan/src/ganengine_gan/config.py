"""Options of each variant: those of the usual game of two players, with defaults of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ganengine.errors import check_options
from ganengine.ramps import EveryNth, Exponential, Piecewise
from ganengine.two_player import TwoPlayerConfig
from ganengine.variant import Progress, State, Value

Architecture = Literal[
    "mlp-small", "mlp", "mlp-maxout", "conv-small", "conv", "conv-upsampling", "conv-scenes", "resnet", "toy"
]
DNorm = Literal["batch", "layer", "none"]


@dataclass(frozen=True)
class FamilyConfig(TwoPlayerConfig):
    """What the five variants have in common beside the usual game: the choice of networks, and 2014's ramp.

    Raises:
        UserError: a number outside what makes sense.
    """

    architecture: Architecture = "mlp"
    """mlp-small (one hidden layer), mlp (three), mlp-maxout (the paper's), conv-small (two strided layers, for digits),
    conv (DCGAN's, sides of 16, 32, 64 ...), conv-upsampling (96 x 96), conv-scenes (112 x 112), resnet (16, 32, 64
    ...). Points always get toy (three layers)."""
    toy_units: int = 128
    """Units of each of the three hidden layers of toy; 512 in the published code of wgan-gp."""
    g_slope: float = 0.1
    """Slope of leaky ReLU in mlp-small's G; 0 is a plain ReLU."""
    g_filters: int = 128
    """Filters before G's last layer in conv and conv-small; each layer before has twice as many."""
    d_filters: int = 128
    """Filters of D's first layer in conv; half as many in conv-small."""
    d_norm: DNorm = "batch"
    """Normalisation in the D of the conv architectures; a gradient penalty wants layer or none."""
    decay: float = 1.0
    """Above 1, divides both rates after each step, down to 1e-6, in place of --lr-ramp; 1.000004 in 2014's code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            ("g_slope", 0 <= self.g_slope <= 1, "from 0 to 1"),
            ("toy_units", self.toy_units >= 1, "at least 1"),
            ("g_filters", self.g_filters >= 1, "at least 1"),
            ("d_filters", self.d_filters >= 1, "at least 1"),
            ("decay", 1 <= self.decay < 2, "from 1 to below 2"),
        )

    def rate(self, start: float) -> Value:
        """Return the ramp of a learning rate."""
        return super().rate(start) if self.decay == 1 else Exponential(start, self.decay, floor=1e-6)


@dataclass(frozen=True)
class GANConfig(FamilyConfig):
    """Generative Adversarial Nets (arXiv:1406.2661): the game itself, between two multilayer perceptrons.

    Raises:
        UserError: a number outside what makes sense.
    """

    penalty: Literal["none", "gp", "r1", "r2"] = "r1"
    """Penalty on D's gradient; without one (none, as in the paper) perceptrons soon draw a few digits only."""
    penalty_weight: float = 1.0
    """gamma of r1, weighted by gamma / 2."""
    penalty_every: int = 4
    """Penalise at every n-th step only, n times as strongly."""


@dataclass(frozen=True)
class DCGANConfig(FamilyConfig):
    """Deep Convolutional GAN (arXiv:1511.06434): strided convolutions, batch norm in both networks.

    Raises:
        UserError: a number outside what makes sense.
    """

    architecture: Architecture = "conv-small"
    """conv-small (two strided layers, for digits), conv (the paper's, sides of 16, 32, 64 ...), conv-upsampling
    (96 x 96), conv-scenes (112 x 112), resnet (16, 32, 64 ...), or a perceptron: mlp-small, mlp, mlp-maxout. Points
    always get toy."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments (section 4)."""


@dataclass(frozen=True)
class LSGANConfig(DCGANConfig):
    """Least Squares GAN (arXiv:1611.04076): fakes are pulled to the boundary by their distance from it.

    Raises:
        UserError: a number outside what makes sense.
    """

    adversarial: str = "ls"
    """Adversarial loss by name; of ls --fake-target is a, --real-target b, --generator-target c: 0, 1, 1 (eq. 9)."""
    prior: Literal["normal", "uniform"] = "uniform"
    """Distribution of z: uniform on [-1, 1] (published code), or N(0, 1)."""


@dataclass(frozen=True)
class WGANConfig(DCGANConfig):
    """Wasserstein GAN (arXiv:1701.07875): a critic with clipped weights estimates the earth mover's distance.

    Raises:
        UserError: a number outside what makes sense.
    """

    adversarial: str = "wasserstein"
    """Adversarial loss by name."""
    optimizer: Literal["adam", "sgd", "rmsprop"] = "rmsprop"
    """Optimizer of both networks; one with momentum makes the critic unstable (section 4)."""
    lr: float = 5e-5
    """Learning rate of G (algorithm 1)."""
    d_steps: int = 5
    """Steps of the critic for each one of G (algorithm 1)."""
    clip_weights: float = 0.01
    """Limit of every weight of the critic (algorithm 1)."""
    eager_critic: bool = True
    """100 steps of the critic at the first 25 steps of G and at every 500th, so that it is near its optimum (published
    code)."""

    def d_repeats(self) -> int | Callable[[Progress, State], int]:
        """Return the critic's steps for each one of G."""
        if not self.eager_critic:
            return self.d_steps
        return EveryNth(500, 100, otherwise=Piecewise(((0, 100), (25, self.d_steps))))


@dataclass(frozen=True)
class WGANGPConfig(DCGANConfig):
    """WGAN with gradient penalty (arXiv:1704.00028).

    Raises:
        UserError: a number outside what makes sense.
    """

    adversarial: str = "wasserstein"
    """Adversarial loss by name."""
    penalty: Literal["none", "gp", "r1", "r2"] = "gp"
    """Penalty on the critic's gradient (equation 3)."""
    d_norm: DNorm = "none"
    """Normalisation in the critic: batch norm would tie samples together, which the penalty of each must not see
    (section 4)."""
    d_steps: int = 5
    """Steps of the critic for each one of G (algorithm 1)."""
    lr: float = 1e-4
    """Learning rate of G (algorithm 1)."""
    betas: tuple[float, float] = (0.0, 0.9)
    """Decay of Adam's two moments (algorithm 1)."""
