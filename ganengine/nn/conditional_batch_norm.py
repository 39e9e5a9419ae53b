"""Conditional batch norm layer: one scale and shift per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganengine import ranks
from ganengine.errors import UserError
from ganengine.nn.norm import follow, norm_over_ranks
from ganengine.nn.tracing import leaf_module
from ganengine.ops import conditional_batch_norm
from ganengine.ops.activation import SLOPES


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation whose scale and shift are looked up by class: y = activation(gamma[label] xn + beta[label]).

    Args:
        num_features: channels C.
        num_classes: classes K.
        eps: added to the variance.
        momentum: weight of the new value in the running statistics; None: their plain average over all batches.
        activation: None, "relu" or "leaky_relu" (slope 0.2).

    State: `gamma` [K, C] (starts at 1), `beta` [K, C] (starts at 0), `running_mean`, `running_var` [C],
    `num_batches_tracked`. The state of two eager forms loads too: norm `bn` (affine=False) beside embeddings `gamma`
    and `beta` [K, C], or beside one embedding `embed` [K, 2 C] of scales followed by shifts.

    Statistics are those of the batch over all classes and, in training, over all ranks. Gradients: any order.
    Paper: arXiv:1610.07629, eq. 5; arXiv:1707.00683.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        activation: Literal["relu", "leaky_relu"] | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes
        self.eps = eps
        self.momentum = momentum
        self.activation = activation
        self.track_running_stats = True
        self.gamma = nn.Parameter(torch.ones(num_classes, num_features))
        self.beta = nn.Parameter(torch.zeros(num_classes, num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    @leaf_module
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return like x [N, C, H, W].

        Args:
            x: [N, C, H, W].
            y: labels [N] in [0, num_classes); or weights of the classes [N, num_classes], which mix their scales and
                shifts: one-hot weights are a label, halves of two classes morph between them.
        """
        if x.dim() != 4 or x.shape[1] != self.num_features:
            raise UserError(f"ConditionalBatchNorm2d: expected x [N, {self.num_features}, H, W], got {list(x.shape)}.")
        momentum = 0.0
        kept = not self.training or self.track_running_stats  # `ganengine.nn.context.hold` clears the latter
        if self.training and kept:
            self.num_batches_tracked.add_(1)
            # sync: without a momentum the count itself is the weight
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        mixed = y.dim() == 2
        if mixed and y.shape[1] != self.num_classes:
            raise UserError(
                f"ConditionalBatchNorm2d: expected labels [N] or weights [N, {self.num_classes}], got {list(y.shape)}."
            )
        gamma = y.to(self.gamma.dtype) @ self.gamma if mixed else self.gamma
        beta = y.to(self.beta.dtype) @ self.beta if mixed else self.beta
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        if self.training and ranks.world() > 1:
            made, shared = norm_over_ranks(
                x, gamma, beta, None if mixed else y, self.eps, SLOPES[self.activation]
            )  # fmt: skip
            follow(mean, var, shared, momentum)
            return made
        return conditional_batch_norm(
            x,
            gamma,
            beta,
            None if mixed else y,
            running_mean=mean,
            running_var=var,
            training=self.training,
            momentum=momentum,
            eps=self.eps,
            activation=self.activation,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, num_classes={self.num_classes}, eps={self.eps}, momentum={self.momentum}, "
            f"activation={self.activation}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        _rename(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _rename(state_dict: dict[str, Any], prefix: str) -> None:
    """Give the entries of an eager equivalent this module's names, in place."""
    names: Mapping[str, str] = {
        "gamma.weight": "gamma",
        "beta.weight": "beta",
        "bn.running_mean": "running_mean",
        "bn.running_var": "running_var",
        "bn.num_batches_tracked": "num_batches_tracked",
    }
    both = state_dict.pop(f"{prefix}embed.weight", None)
    if both is not None:
        state_dict[f"{prefix}gamma"], state_dict[f"{prefix}beta"] = both.chunk(2, dim=1)
    for old, new in names.items():
        if prefix + old in state_dict:
            state_dict[prefix + new] = state_dict.pop(prefix + old)
