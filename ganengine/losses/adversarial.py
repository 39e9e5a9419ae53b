"""Adversarial losses by family: what D and what G minimise, as pure functions of logits.

Logits are a tensor [N, ...] (one logit per sample, or a map of patch logits) or a list of such maps, one per scale.
Every loss is per sample [N]: the mean over a sample's map, and over the scales. Logits stay logits up to here; a D
that ends in a sigmoid is a mistake that the contract kit reports.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ganengine.errors import UserError, nearest
from ganengine.losses.equilibrium import SCALINGS
from ganengine.ops import patchgan_loss
from ganengine.ops.checks import accumulation_dtype, widened

Logits: TypeAlias = "Tensor | Sequence[Tensor]"
"""A map of logits [N, ...], or one map per scale."""

Smoothing: TypeAlias = "float | tuple[float, float]"
"""How far a label moves towards the other one, as a share of their distance; a pair is a range to draw from."""


@dataclass(frozen=True)
class Family:
    """One family of losses: the form of its terms and the labels that they compare logits with."""

    name: str
    mode: Literal["bce", "ls", "hinge", "linear"]
    """The term of D, as `ganengine.ops.patchgan_loss` names it."""
    generator_mode: Literal["bce", "ls", "hinge", "linear"]
    """The term of G."""
    real: float
    """Label of real samples, unless the caller chooses another."""
    fake: float
    """Label of generated samples."""
    factor: float = 1.0
    """Factor on every term; least squares has 1/2, which the op leaves out."""
    saturating: bool = False
    """G maximises D's loss on fakes instead of minimising a loss of its own."""

    def __call__(self, **options: Any) -> Adversarial:
        """Build the losses of this family; `options` are the fields of `Adversarial`."""
        return Adversarial(self, **options)


NONSATURATING = Family("nonsaturating", "bce", "bce", real=1.0, fake=0.0)
SATURATING = Family("saturating", "bce", "bce", real=1.0, fake=0.0, saturating=True)
LS = Family("ls", "ls", "ls", real=1.0, fake=0.0, factor=0.5)
HINGE = Family("hinge", "hinge", "linear", real=1.0, fake=-1.0)
WASSERSTEIN = Family("wasserstein", "linear", "linear", real=1.0, fake=-1.0)

FAMILIES: Mapping[str, Family] = {f.name: f for f in (NONSATURATING, SATURATING, LS, HINGE, WASSERSTEIN)}


@dataclass(frozen=True)
class Adversarial:
    """The losses of both players in one game.

        D minimises  d * f * (term(real, real label) + term(fake, fake label))
        G minimises  g * f * term(fake, generator label)          (saturating: -term(fake, fake label))

    with the family's factor f and the scaling's factors d, g: `sum` (1, 1); `mean` (1/2, 1), which is "divide D's
    objective by 2" (pix2pix, CycleGAN); `half` (1/2, 1/2), which is J(D) and J(G) = -1/2 E log D(G(z)) of the GAN
    tutorial. At equilibrium (D = 1/2) D's nonsaturating loss is 1.386, 0.693, 0.693 and G's 0.693, 0.693, 0.347.

    Paper: 1406.2661 (saturating, nonsaturating), 1611.04076 eq. 2 (ls), 1705.02894 (hinge), 1701.07875
    (wasserstein), 1606.03498 section 3.4 (one-sided label smoothing), 1701.00160 eq. 8 and 13 (`half`).
    CycleGAN's G (1703.10593) has no 1/2 in least squares: give its term the weight 2.

    Raises:
        UserError: unknown scaling; labels outside what the family takes, or equal; smoothing out of range, or in a
            family without targets to smooth.
    """

    family: Family
    scaling: str = "sum"
    real_target: float | None = None
    """Label of real samples (b of least squares); None: the family's. Swap both for the swapped convention."""
    fake_target: float | None = None
    """Label of generated samples (a of least squares)."""
    generator_target: float | None = None
    """What G wants D to say (c of least squares); None: the label of real samples."""
    smoothing: Smoothing = 0.0
    """One-sided smoothing of real labels: 0.1 turns 1 into 0.9; (0, 0.3) draws each sample's from 1 to 0.7."""
    fake_smoothing: Smoothing = 0.0
    """Smoothing of fake labels. It changes what the optimal D is and warns."""

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise UserError(
                f'scaling: expected one of {", ".join(SCALINGS)}, got "{self.scaling}".'
                + nearest(self.scaling, SCALINGS)
            )
        self._check_targets()
        self._check_smoothing("smoothing", self.smoothing)
        self._check_smoothing("fake_smoothing", self.fake_smoothing)
        if self.fake_smoothing not in (0.0, (0.0, 0.0)):
            warnings.warn(
                "fake_smoothing: smoothing the labels of fakes changes the optimal D, which then rewards G for staying"
                " where it is. Smooth real labels only (smoothing=...) unless that is what you study.",
                UserWarning,
                stacklevel=3,
            )

    def d_real(self, logits: Logits, draws: Tensor | None = None) -> Tensor:
        """Return D's loss on real samples.

        Args:
            logits: [N, ...] or a list of maps.
            draws: [N], uniform on [0, 1); read only where `smoothing` is a range.

        Returns:
            [N], scaled, so that d = d_real + d_fake.
        """
        return _times(self._d_factor, self._term(logits, self._real, self._fake, self.smoothing, draws))

    def d_fake(self, logits: Logits, draws: Tensor | None = None) -> Tensor:
        """Return D's loss on generated samples, [N]; arguments as in `d_real`, for `fake_smoothing`."""
        return _times(self._d_factor, self._term(logits, self._fake, self._real, self.fake_smoothing, draws))

    def d(
        self, real: Logits, fake: Logits, real_draws: Tensor | None = None, fake_draws: Tensor | None = None
    ) -> Tensor:
        """Return D's whole loss, [N].

        Raises:
            UserError: the batches have different sizes; use `d_real` and `d_fake` as two terms then.
        """
        on_real = self._term(real, self._real, self._fake, self.smoothing, real_draws)
        on_fake = self._term(fake, self._fake, self._real, self.fake_smoothing, fake_draws)
        if on_real.shape != on_fake.shape:
            raise UserError(
                f"d: expected as many real as fake samples, got {len(on_real)} and {len(on_fake)}."
                " Return d_real and d_fake as two terms instead."
            )
        return _times(self._d_factor, on_real + on_fake)

    def g(self, fake: Logits) -> Tensor:
        """Return G's loss, [N]. Labels are not smoothed for G."""
        factor = SCALINGS[self.scaling][1] * self.family.factor
        if self.family.saturating:
            return -factor * patchgan_loss(fake, self._fake, mode=self.family.mode, reduction="none")
        target = self._real if self.generator_target is None else self.generator_target
        return _times(factor, patchgan_loss(fake, target, mode=self.family.generator_mode, reduction="none"))

    def readout(self, logits: Logits) -> Tensor:
        """Return what the log shows as D(x), 0-d and detached.

        The mean sigmoid where D's output is a probability (bce families), the mean raw score otherwise; with swapped
        labels both fall as a sample looks more real.
        """
        maps = [widened(m.detach(), accumulation_dtype(m.dtype)) for m in as_maps(logits)]
        # As every sample's map has one size, also the mean of the samples' means.
        means = [(m.sigmoid() if self.family.mode == "bce" else m).mean() for m in maps]
        return means[0] if len(means) == 1 else torch.stack(means).mean()

    def signs(self, logits: Logits) -> Tensor | None:
        """Return the mean sign of logits, 0-d and detached: 1 where D takes all of them for real, -1 for fake.

        The sign is about the middle between the labels of real and fake samples (D = 1/2). None for `wasserstein`,
        whose scores have no zero. On real samples this is r_t of 2006.06676, section 3.
        """
        if self.family.mode == "linear":
            return None
        middle = 0.0 if self.family.mode == "bce" else (self._real + self._fake) / 2
        means = [(m.detach() - middle).sign().to(accumulation_dtype(m.dtype)).mean() for m in as_maps(logits)]
        mean = means[0] if len(means) == 1 else torch.stack(means).mean()
        return mean if self._real > self._fake else -mean

    @property
    def _real(self) -> float:
        return self.family.real if self.real_target is None else self.real_target

    @property
    def _fake(self) -> float:
        return self.family.fake if self.fake_target is None else self.fake_target

    @property
    def _d_factor(self) -> float:
        return SCALINGS[self.scaling][0] * self.family.factor

    def _term(self, logits: Logits, own: float, other: float, smoothing: Smoothing, draws: Tensor | None) -> Tensor:
        mode = self.family.mode
        if not isinstance(smoothing, tuple):
            return patchgan_loss(logits, own + smoothing * (other - own), mode=mode, reduction="none")
        if draws is None:
            raise UserError(
                f"random smoothing {smoothing}: expected draws [N], uniform on [0, 1), got None."
                " Hand in numbers drawn with step.rand."
            )
        low, high = smoothing
        targets = own + (low + (high - low) * draws) * (other - own)
        return patchgan_loss(logits, targets, mode=mode, reduction="none")

    def _check_targets(self) -> None:
        name, mode = self.family.name, self.family.mode
        targets = [t for t in (self._real, self._fake, self.generator_target) if t is not None]
        if mode == "bce" and not all(0.0 <= t <= 1.0 for t in targets):
            raise UserError(f"{name}: expected targets in [0, 1], got {targets}. They are probabilities.")
        if mode == "ls" and not all(math.isfinite(t) for t in targets):
            raise UserError(f"{name}: expected finite targets, got {targets}.")
        if mode in ("hinge", "linear") and not all(t in (1.0, -1.0) for t in targets):
            raise UserError(f"{name}: expected targets +1 and -1, got {targets}. Only their signs can be swapped.")
        if self._real == self._fake:
            raise UserError(f"{name}: expected two different targets, got {self._real} for real and for fake.")
        if self.family.saturating and self.generator_target is not None:
            raise UserError(f"{name}: G maximises D's loss and has no target of its own; leave generator_target out.")

    def _check_smoothing(self, field: str, smoothing: Smoothing) -> None:
        low, high = smoothing if isinstance(smoothing, tuple) else (smoothing, smoothing)
        if not 0.0 <= low <= high < 1.0:
            raise UserError(f"{field}: expected a share in [0, 1) or a range (low, high) of such, got {smoothing}.")
        if high and self.family.mode not in ("bce", "ls"):
            raise UserError(f"{field}: {self.family.name} has no labels to smooth; use 0, or another family.")


def _times(factor: float, loss: Tensor) -> Tensor:
    return loss if factor == 1 else factor * loss


def adversarial(name: str, **options: Any) -> Adversarial:
    """Build the losses of the built-in family `name`; `options` are the fields of `Adversarial`.

    Raises:
        UserError: unknown family, or options that do not fit it.
    """
    if name not in FAMILIES:
        raise UserError(
            f'adversarial loss: expected one of {", ".join(FAMILIES)}, got "{name}".' + nearest(name, FAMILIES)
        )
    return FAMILIES[name](**options)


def nonsaturating_d_loss(real_logits: Logits, fake_logits: Logits) -> Tensor:
    """Return sp(-l_real) + sp(l_fake), [N], with sp(t) = log(1 + e^t). Paper: 1406.2661, eq. 1."""
    return NONSATURATING().d(real_logits, fake_logits)


def nonsaturating_g_loss(fake_logits: Logits) -> Tensor:
    """Return sp(-l) = -log D(G(z)), [N]. Paper: 1406.2661, section 3."""
    return NONSATURATING().g(fake_logits)


def saturating_d_loss(real_logits: Logits, fake_logits: Logits) -> Tensor:
    """Return sp(-l_real) + sp(l_fake), [N]. Paper: 1406.2661, eq. 1."""
    return SATURATING().d(real_logits, fake_logits)


def saturating_g_loss(fake_logits: Logits) -> Tensor:
    """Return -sp(l) = log(1 - D(G(z))), [N]; its gradient -sg(l) fades where D is sure. Paper: 1406.2661, eq. 1."""
    return SATURATING().g(fake_logits)


def ls_d_loss(real_logits: Logits, fake_logits: Logits, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Return 1/2 (l_real - b)^2 + 1/2 (l_fake - a)^2, [N]. Paper: 1611.04076, eq. 2."""
    return LS(real_target=b, fake_target=a).d(real_logits, fake_logits)


def ls_g_loss(fake_logits: Logits, c: float = 1.0) -> Tensor:
    """Return 1/2 (l - c)^2, [N]. Paper: 1611.04076, eq. 2."""
    return LS(generator_target=c).g(fake_logits)


def hinge_d_loss(real_logits: Logits, fake_logits: Logits) -> Tensor:
    """Return relu(1 - l_real) + relu(1 + l_fake), [N]. Paper: 1705.02894; 1802.05957, eq. 17."""
    return HINGE().d(real_logits, fake_logits)


def hinge_g_loss(fake_logits: Logits) -> Tensor:
    """Return -l, [N]. Paper: 1802.05957, eq. 18."""
    return HINGE().g(fake_logits)


def wasserstein_d_loss(real_logits: Logits, fake_logits: Logits) -> Tensor:
    """Return l_fake - l_real, [N]. Paper: 1701.07875, algorithm 1."""
    return WASSERSTEIN().d(real_logits, fake_logits)


def wasserstein_g_loss(fake_logits: Logits) -> Tensor:
    """Return -l, [N]. Paper: 1701.07875, algorithm 1."""
    return WASSERSTEIN().g(fake_logits)


def as_maps(logits: Logits) -> Sequence[Tensor]:
    """Return the maps of `logits`, one per scale."""
    return [logits] if isinstance(logits, Tensor) else logits


def score(logits: Logits) -> Tensor:
    """Return D's score of each sample, [N]: the mean over its map, and over the scales."""
    maps = as_maps(logits)
    means = [m.reshape(len(m), -1).mean(1, dtype=accumulation_dtype(m.dtype)) for m in maps]
    return torch.stack(means).mean(0)
