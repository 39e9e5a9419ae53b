"""The Frechet distance of two Gaussians, and the Gaussian that fits a set of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganengine.errors import UserError


@dataclass(frozen=True)
class Gaussian:
    """Mean [F] and covariance [F, F], float64."""

    mean: Tensor
    covariance: Tensor


def fit_gaussian(features: Tensor) -> Gaussian:
    """Return the mean and the unbiased covariance of features.

    Args:
        features: [N, F], N at least 2.

    Raises:
        UserError: fewer than two samples, or values that are not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"features: expected [N, F] with N of at least 2, got {list(features.shape)}.")
    features = features.detach().to("cpu", torch.float64)
    if not features.isfinite().all():
        raise UserError("features: expected finite numbers, got some that are not. Look at samples of the run.")
    return Gaussian(features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Frechet distance of two Gaussians.

        |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)

    Both roots are of symmetric matrices, by their eigenvalues in float64; eigenvalues that rounding made negative count
    as 0, so covariances may be singular.

    Paper: Dowson and Landau 1982, eq. 4, with the product made symmetric.
    """
    root = _symmetric_root(a.covariance)
    cross = torch.linalg.eigvalsh(_symmetric(root @ b.covariance @ root)).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(0.0, float(distance))


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(_symmetric(matrix))
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2
