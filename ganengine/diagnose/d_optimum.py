"""Does D reach its optimum? Two frozen Gaussians, a small D, and the D* that theory states.

    D*(x) = p_data(x) / (p_data(x) + p_G(x)),   the summed loss of D* is log 4 - 2 JSD(p_data || p_G)

For p_data = N(0, 1) and p_G = N(m, 1) the logit of D* is m^2 / 2 - m x. Paper: 1406.2661, proposition 1 and theorem 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ganengine import draws
from ganengine.losses.adversarial import adversarial
from ganengine.nn.init import initialise

STEPS, BATCH, UNITS = 600, 2048, 32
"""Of the training of D; together about 2 s on one core."""
LR = 1e-2
"""Adam's, falling to 0 in a straight line, so that the last steps average."""
TOLERANCE = {"slope": 0.05, "intercept": 0.05, "loss": 0.01, "deviation": 0.03}
"""How far each number may be from its optimum."""
CAVEATS = (
    "A network of fixed shape may not contain D*: theory speaks of functions, not of networks.",
    "Convergence to the optimum is not guaranteed: here both densities stand still, in a game G moves too.",
)


@dataclass(frozen=True)
class Optimum:
    """What D has learned, beside what it should be."""

    mean: float
    """m: the mean of p_G."""
    jsd: float
    """Jensen-Shannon divergence of the two densities, nats."""
    found: dict[str, float]
    """slope and intercept of the logit (least squares, weighted by (p_data + p_G) / 2), summed loss, and deviation: the
    largest |D - D*| on the middle 95 % of the mixture."""
    best: dict[str, float]
    """The same of D*."""
    x: np.ndarray = field(repr=False)
    """Places, [M]."""
    curves: dict[str, np.ndarray] = field(repr=False)
    """D, D*, p_data and p_G at these places."""

    @property
    def missed(self) -> list[str]:
        """Return the numbers that are too far from their optimum."""
        return [name for name, bound in TOLERANCE.items() if not abs(self.found[name] - self.best[name]) <= bound]


def optimum(mean: float, seed: int = 0, steps: int = STEPS) -> Optimum:
    """Train D on fresh samples of N(0, 1) and N(mean, 1) and compare it with D*.

    Determinism: the same seed and number of threads give the same numbers.
    """
    D = train_d(mean, seed, steps)
    x = torch.linspace(min(0.0, mean) - 8, max(0.0, mean) + 8, 4001, dtype=torch.float64)
    p_data, p_G = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, mean))
    with torch.no_grad():
        logit = D(x.float().unsqueeze(1)).double()
    best = mean**2 / 2 - mean * x
    slope, intercept = _line(x, logit, (p_data + p_G) / 2)
    at_best = _loss(best, p_data, p_G, x)
    share = torch.cumulative_trapezoid((p_data + p_G) / 2, x)
    middle = torch.zeros_like(x, dtype=torch.bool)
    middle[1:] = (share > 0.025) & (share < 0.975)
    deviation = (logit.sigmoid() - best.sigmoid()).abs()[middle].max()
    return Optimum(
        mean=mean,
        jsd=(math.log(4) - at_best) / 2,
        found={
            "slope": slope,
            "intercept": intercept,
            "loss": _loss(logit, p_data, p_G, x),
            "deviation": float(deviation),
        },
        best={"slope": -mean, "intercept": mean**2 / 2, "loss": at_best, "deviation": 0.0},
        x=x.numpy(),
        curves={
            "D": logit.sigmoid().numpy(),
            "D*": best.sigmoid().numpy(),
            "p_data": p_data.numpy(),
            "p_G": p_G.numpy(),
        },
    )


def train_d(mean: float, seed: int, steps: int) -> nn.Module:
    """Return a D: x [N, 1] -> logits [N], trained by the summed loss with both densities frozen."""
    D = nn.Sequential(
        nn.Linear(1, UNITS), nn.Tanh(), nn.Linear(UNITS, UNITS), nn.Tanh(), nn.Linear(UNITS, 1), nn.Flatten(0)
    )  # fmt: skip
    initialise(D, "glorot", draws.generator(seed, "d-optimum", "init"))
    source = draws.generator(seed, "d-optimum", "samples")
    loss = adversarial("nonsaturating")
    optimizer = torch.optim.Adam(D.parameters(), LR)
    for step in range(steps):
        real = torch.randn(BATCH, 1, generator=source)
        fake = mean + torch.randn(BATCH, 1, generator=source)
        optimizer.param_groups[0]["lr"] = LR * (1 - step / steps)
        optimizer.zero_grad()
        loss.d(D(real), D(fake)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return D


def _line(x: Tensor, y: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return slope and intercept of the line nearest to y(x) in weighted least squares."""
    weight = weight / weight.sum()
    x_mean, y_mean = (weight * x).sum(), (weight * y).sum()
    slope = (weight * (x - x_mean) * (y - y_mean)).sum() / (weight * (x - x_mean) ** 2).sum()
    return float(slope), float(y_mean - slope * x_mean)


def _loss(logit: Tensor, p_data: Tensor, p_G: Tensor, x: Tensor) -> float:
    """Return D's summed loss, E_data softplus(-l) + E_G softplus(l), by quadrature."""
    softplus = nn.functional.softplus
    return float(torch.trapezoid(p_data * softplus(-logit) + p_G * softplus(logit), x))
