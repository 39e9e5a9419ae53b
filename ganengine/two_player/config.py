"""Options of a game of one G and one D. A variant inherits them and states its own defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

from ganengine.errors import UserError, check_options
from ganengine.ramps import linear_decay
from ganengine.variant import Optimizer, Progress, State, Value


@dataclass(frozen=True)
class TwoPlayerConfig:
    """Options of a game of one G and one D.

    Raises:
        UserError: a number outside what makes sense, or two options that exclude each other.
    """

    conditional: ClassVar[bool] = False
    """Whether both networks take a label too."""

    latent: int = 100
    """Numbers in a latent z."""
    prior: Literal["normal", "uniform"] = "normal"
    """Distribution of z: N(0, 1), or uniform on [-1, 1]."""
    adversarial: str = "nonsaturating"
    """Adversarial loss by name: nonsaturating, saturating, ls, hinge, wasserstein, or a plugin's."""
    scaling: Literal["sum", "mean", "half"] = "sum"
    """D's loss is the sum of its real and fake term, or their mean; half: G's is halved too."""
    real_target: float | None = None
    """Label of real samples (b of ls); None: the loss's own."""
    fake_target: float | None = None
    """Label of generated samples (a of ls); None: the loss's own. Swap both for the swapped convention."""
    generator_target: float | None = None
    """What G wants D to say (c of ls); None: the label of real samples."""
    label_smoothing: float = 0.0
    """One-sided smoothing: 0.1 turns the label 1 of real samples into 0.9."""
    random_smoothing: bool = False
    """Draw each sample's smoothing between 0 and --label-smoothing."""
    order: Literal["alternating", "simultaneous"] = "alternating"
    """alternating: D steps on fresh noise, then G against the new D. simultaneous: both gradients at the old weights,
    from the same fakes, then both steps."""
    d_steps: int = 1
    """Steps of D for each one of G, each on a batch of its own."""
    d_warmup: int = 0
    """Steps of D alone before G begins."""
    d_batch: Literal["separate", "joined"] = "separate"
    """Whether D sees real and fake in two passes or in one, where batch norm mixes them."""
    penalty: Literal["none", "gp", "r1", "r2"] = "none"
    """Penalty on D's gradient: gp between real and fake (WGAN-GP), r1 at real, r2 at fake samples."""
    penalty_weight: float = 10.0
    """lambda of gp; gamma of r1 and r2, which are weighted by gamma / 2."""
    penalty_every: int = 1
    """Penalise at every n-th step only, n times as strongly."""
    clip_weights: float = 0.0
    """Limit of every weight of D after each of its steps (WGAN); 0: none."""
    optimizer: Literal["adam", "sgd", "rmsprop"] = "adam"
    """Optimizer of both networks."""
    lr: float = 2e-4
    """Learning rate of G."""
    d_lr: float | None = None
    """Learning rate of D; None: that of G."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's two moments."""
    adam_eps: float = 1e-8
    """Adam's epsilon; 1e-7 in Keras."""
    momentum: float = 0.0
    """Momentum of sgd."""
    lr_ramp: Literal["constant", "linear"] = "constant"
    """linear: to 0 over the second half of the horizon."""

    def __post_init__(self) -> None:
        check_options(
            self,
            ("latent", self.latent >= 1, "at least 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to below 1"),
            ("d_steps", self.d_steps >= 1, "at least 1"),
            ("d_warmup", self.d_warmup >= 0, "0 or more"),
            ("penalty_weight", 0 <= self.penalty_weight < inf, "0 or more"),
            ("penalty_every", self.penalty_every >= 1, "at least 1"),
            ("clip_weights", 0 <= self.clip_weights < inf, "0 or more"),
            ("lr", 0 < self.lr < inf, "above 0"),
            ("d_lr", self.d_lr is None or 0 < self.d_lr < inf, "above 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            ("adam_eps", 0 < self.adam_eps < inf, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
        )
        if self.order == "simultaneous" and (self.d_steps > 1 or self.penalty_every > 1):
            raise UserError(
                "--order simultaneous: D and G step once each on one batch, so --d-steps and --penalty-every are 1. "
                "Use --order alternating."
            )

    def rate(self, start: float) -> Value:
        """Return a learning rate that begins at `start`; a variant with a ramp of its own overrides this."""
        return linear_decay(start) if self.lr_ramp == "linear" else start

    def d_repeats(self) -> int | Callable[[Progress, State], int]:
        """Return D's steps for each one of G; a variant that changes them as it goes on overrides this."""
        return self.d_steps

    def optimizer_of(self, start: float) -> Optimizer:
        """Return the recipe of one network's optimizer."""
        options: dict[str, dict[str, Any]] = {
            "adam": {"betas": self.betas, "eps": self.adam_eps},
            "sgd": {"momentum": self.momentum},
            "rmsprop": {},
        }
        return Optimizer(lr=self.rate(start), name=self.optimizer, options=options[self.optimizer])


@dataclass(frozen=True)
class ConditionalConfig(TwoPlayerConfig):
    """Options of a game of one G and one D that both take a label."""

    conditional: ClassVar[bool] = True
    """Both networks take a label."""

    fake_labels: Literal["uniform", "data"] = "uniform"
    """Labels of generated samples: drawn uniformly, or those of the real batch."""
