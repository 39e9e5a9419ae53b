"""Where the adversarial losses stand while D cannot tell real from fake; this module imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SCALINGS: Mapping[str, tuple[float, float]] = {"sum": (1.0, 1.0), "mean": (0.5, 1.0), "half": (0.5, 0.5)}
"""Factors on D's two terms and on G's loss. They move the effective learning rate, so a preset states its own."""


@dataclass(frozen=True)
class Equilibrium:
    """Losses and D's reading while both distributions are one and D answers as well as it can.

        bce     D = 1/2:        -2 log 1/2 for D, -log 1/2 for G (log 1/2 where G saturates)
        ls      l = 1/2:        2 * 1/2 (1/2)^2 for D, 1/2 (1/2)^2 for G
        hinge   |l| <= 1:       2 for D; 0 for G by symmetry, as the loss leaves l open in between
        linear  l constant:     0 for D; the constant, and so G's loss, is open

    all times the factors of the scaling, with the family's own labels.
    """

    d: float
    """D's whole loss."""
    g: float | None
    """G's adversarial loss; None: it may stand anywhere."""
    reading: float | None
    """What the log shows as D(real) and D(fake), which are equal; None: they may stand anywhere."""


_SUMS: Mapping[str, Equilibrium] = {
    "nonsaturating": Equilibrium(2 * math.log(2), math.log(2), 0.5),
    "saturating": Equilibrium(2 * math.log(2), -math.log(2), 0.5),
    "ls": Equilibrium(0.25, 0.125, 0.5),
    "hinge": Equilibrium(2.0, 0.0, 0.0),
    "wasserstein": Equilibrium(0.0, None, None),
}


def equilibrium(family: str, scaling: str = "sum") -> Equilibrium | None:
    """Return the equilibrium of a built-in family under a scaling, or None for one that a plugin brought."""
    sums = _SUMS.get(family)
    if sums is None:
        return None
    d, g = SCALINGS[scaling]
    return Equilibrium(d * sums.d, None if sums.g is None else g * sums.g, sums.reading)
