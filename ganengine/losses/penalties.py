"""Penalties on a player: pure functions that return one value per sample [N], without their weight.

D(x) is the score of a sample: the mean over its map of logits and over the scales, as in the adversarial losses. D is
any callable from images to logits; a conditional one is closed over its condition: `lambda x: D(x, y)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganengine.errors import UserError
from ganengine.losses.adversarial import Logits, score
from ganengine.ops import patchgan_loss
from ganengine.ops.checks import accumulation_dtype


def gradient_penalty(D: Callable[[Tensor], Logits], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return (||grad D(xhat)||_2 - 1)^2 at xhat = mix * real + (1 - mix) * fake.

    Args:
        D: images -> logits.
        real, fake: [N, ...], of one shape; no gradient reaches them.
        mix: [N], uniform on [0, 1), one number per sample.

    Returns:
        [N]; its weight is the paper's lambda.

    Raises:
        UserError: shapes differ.

    Gradients: into D, second order, exact. Where grad D(xhat) = 0 the norm's subgradient 0 is taken, no NaN.
    Paper: 1704.00028, eq. 3.
    """
    if real.shape != fake.shape or mix.shape != real.shape[:1]:
        raise UserError(
            "gradient_penalty: expected real and fake of one shape [N, ...] and mix [N],"
            f" got {tuple(real.shape)}, {tuple(fake.shape)} and {tuple(mix.shape)}."
        )
    share = mix.reshape(-1, *(1,) * (real.ndim - 1)).to(real.dtype)
    gradient = _input_gradient(D, share * real.detach() + (1.0 - share) * fake.detach())
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return (norm - 1.0).square()


def r1_penalty(D: Callable[[Tensor], Logits], real: Tensor) -> Tensor:
    """Return ||grad D(x)||_2^2 at real samples.

    Args:
        D: images -> logits.
        real: [N, ...]; no gradient reaches it.

    Returns:
        [N]; its weight is gamma / 2 (times the interval of a lazy phase, which the phase's gain brings).

    Gradients: into D, second order, exact.
    Paper: 1801.04406, eq. 9.
    """
    return _input_gradient(D, real).square().sum(1)


def r2_penalty(D: Callable[[Tensor], Logits], fake: Tensor) -> Tensor:
    """Return ||grad D(x)||_2^2 at generated samples, [N]; see `r1_penalty`. Paper: 1801.04406, section 4.1."""
    return _input_gradient(D, fake).square().sum(1)


def drift_penalty(real_logits: Logits) -> Tensor:
    """Return the mean of l^2 over each sample's logits, [N]; its weight is the paper's epsilon, 0.001.

    Paper: 1710.10196, appendix A.1.
    """
    return patchgan_loss(real_logits, 0.0, mode="ls", reduction="none")


def _input_gradient(D: Callable[[Tensor], Logits], x: Tensor) -> Tensor:
    """Return grad_x D(x) as rows [N, values], in float32 or wider, differentiable by D's parameters."""
    x = x.detach().requires_grad_()
    gradient: Tensor = torch.autograd.grad(score(D(x)).sum(), x, create_graph=True)[0]
    return gradient.reshape(len(x), -1).to(accumulation_dtype(gradient.dtype))
