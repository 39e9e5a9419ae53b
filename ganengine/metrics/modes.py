"""Which modes of a mixture of Gaussians samples reach, and a detector of collapse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganengine.errors import UserError

NEAR = 3.0
"""Standard deviations from a centre within which a sample is good."""
COVERED = 0.01
"""Share of the samples that must be good at a centre for it to be covered."""


@dataclass(frozen=True)
class Modes:
    """How samples lie about the centres of a mixture."""

    counts: Tensor
    """[K]: good samples at each centre."""
    samples: int
    """N, those that are not finite included."""

    @property
    def covered(self) -> int:
        """How many centres have at least 1 % of the samples near."""
        return int((self.counts >= COVERED * self.samples).sum())

    @property
    def good(self) -> float:
        """Share of the samples that are within 3 standard deviations of a centre."""
        return float(self.counts.sum()) / self.samples


def count_modes(points: Tensor, centres: Tensor, deviation: float) -> Modes:
    """Count the samples that are near each centre.

    Args:
        points: [N, D].
        centres: [K, D].
        deviation: standard deviation of each Gaussian in every direction.

    Raises:
        UserError: no samples, or points of another dimension than the centres.
    """
    if points.ndim != 2 or not len(points) or points.shape[1] != centres.shape[1]:
        raise UserError(f"points: expected [N, {centres.shape[1]}], N at least 1; got {list(points.shape)}.")
    distances = torch.cdist(points.double(), centres.double())
    nearest, place = distances.nan_to_num(nan=torch.inf).min(1)
    return Modes(torch.bincount(place[nearest <= NEAR * deviation], minlength=len(centres)), len(points))


@dataclass
class CollapseDetector:
    """Flags collapse once coverage has stayed below a share for some ticks in a row.

    Coverage is any share from 0 to 1 of what real data has: modes of a mixture, or classes that a judge finds.
    """

    share: float = 0.5
    ticks: int = 3
    low: int = 0
    """Ticks in a row, up to now, with less."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.ticks < 1:
            raise UserError(
                f"collapse: expected a share above 0 and up to 1 and at least one tick, got {self.share} and "
                f"{self.ticks}."
            )

    def collapsed(self, coverage: float) -> bool:
        """Take in the coverage of a tick and return whether this is a collapse by now; NaN counts as 0."""
        self.low = 0 if coverage >= self.share else self.low + 1
        return self.low >= self.ticks
