"""How far forecasts are from what came, in the units of the data: one value for all scenes.

Every metric is fn(futures [rows, k, steps, 2], truth [rows, steps, 2], starts [N + 1]) -> float; rows `starts[i]` to
`starts[i + 1]` are the people of scene i, and future j of each of them belongs to one future j of the scene.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganengine.ragged import sums


def ade(futures: Tensor, truth: Tensor, starts: Tensor) -> float:
    """Return the average displacement error of each scene's best future: the mean distance over people and steps.

    Paper: 1803.10892, section 4; the best is that of a scene as a whole, as in its published code.
    """
    return _best(_distances(futures, truth).mean(-1), starts)


def fde(futures: Tensor, truth: Tensor, starts: Tensor) -> float:
    """Return the final displacement error of each scene's best future: the mean distance over people at the last step.

    Paper: 1803.10892, section 4.
    """
    return _best(_distances(futures, truth)[..., -1], starts)


def ade_mean(futures: Tensor, truth: Tensor, starts: Tensor) -> float:
    """Return the mean distance over all futures, people and steps."""
    return float(_distances(futures, truth).mean())


def fde_mean(futures: Tensor, truth: Tensor, starts: Tensor) -> float:
    """Return the mean distance at the last step over all futures and people."""
    return float(_distances(futures, truth)[..., -1].mean())


def spread(futures: Tensor, truth: Tensor, starts: Tensor) -> float:
    """Return how far a person's ends lie from their middle, as a mean over futures and people; 0 where all are one."""
    ends = futures[:, :, -1].double()
    return float((ends - ends.mean(1, keepdim=True)).norm(dim=-1).mean())


def straight_on(observed: Tensor, steps: int) -> Tensor:
    """Return where everybody would be at constant velocity, that of the last observed step: [rows, 1, steps, 2]."""
    last = observed[:, -1:]
    ahead = torch.arange(1, steps + 1, dtype=observed.dtype, device=observed.device).view(1, -1, 1)
    return (last + (last - observed[:, -2:-1]) * ahead).unsqueeze(1)


def _distances(futures: Tensor, truth: Tensor) -> Tensor:
    """Return [rows, k, steps], float64."""
    distances: Tensor = torch.linalg.vector_norm(futures.double() - truth.double().unsqueeze(1), dim=-1)
    return distances


def _best(errors: Tensor, starts: Tensor) -> float:
    """Return the mean over people of the errors [rows, k] in the best future of their scene."""
    return float(sums(errors, starts).amin(1).sum() / len(errors))
