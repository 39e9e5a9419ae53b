"""Losses of cbn-gan: those of the usual game, and a penalty that keeps G's filters orthogonal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from ganengine.two_player import losses
from torch import Tensor

from ganengine_cbn_gan.config import CBNGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step

    from ganengine_cbn_gan.networks import Generator


def build(config: CBNGANConfig) -> dict[str, Callable[[Step], dict[str, Tensor]]]:
    """Return the losses `d`, `g` and `penalty`; where --orthogonal is not 0, `g` has the term `orthogonal`."""
    built = losses.build(config)
    adversarial = built["g"]

    def g(step: Step) -> dict[str, Tensor]:
        # The same for each sample: a term of the whole batch could not be made from parts of it.
        penalty = config.orthogonal * orthogonal_penalty(step["G"])
        return {**adversarial(step), "orthogonal": penalty.expand(step.batch.size)}

    return {**built, "g": g} if config.orthogonal else built


def orthogonal_penalty(G: Generator) -> Tensor:
    """Return the sum over G's layers of ||W W^T * (1 - I)||_F^2, W as a matrix [outputs, rest], 0-d.

    The embedding of the classes is left out. Of a spectrally normalised layer W is the weight before normalisation.

    Gradients: any order. Paper: 1809.11096, equation 3; as published code has it, over outputs and without embedding.
    """
    total = torch.zeros((), device=next(G.parameters()).device)
    for name, weight in G.named_parameters():
        layer, _, last = name.removesuffix(".original").rpartition(".")
        if last == "weight" and weight.ndim > 1 and not layer.startswith("embedding"):
            total = total + off_diagonal(weight.flatten(1))
    return total


def off_diagonal(matrix: Tensor) -> Tensor:
    """Return the sum of squares of M M^T off its diagonal: ||M M^T||_F^2 = ||M^T M||_F^2, so the smaller is made."""
    with torch.autocast(matrix.device.type, enabled=False):  # a difference of large numbers
        rows, columns = matrix.shape
        gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
        return gram.square().sum() - matrix.square().sum(1).square().sum()
