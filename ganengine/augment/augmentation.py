"""What an augmentation is: a function of pictures and random numbers, made of groups that can be chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganengine.config import RunOptions, words
from ganengine.errors import UserError, nearest


class Augmentation(ABC):
    """Changes pictures before a critic sees them. A plugin adds one by the hook `ganengine_augmentations`.

    Args:
        options: of the run; `augment_policy` chooses among the groups.
        device: where the pictures are.

    Raises:
        UserError: the policy names something else than groups of this augmentation.
    """

    groups: ClassVar[tuple[str, ...]]
    """Names of its parts, in the order in which they act."""
    numbers: ClassVar[int]
    """How many random numbers it takes per sample, whatever the policy."""
    adaptive: ClassVar[bool] = False
    """Whether it follows `adapt`: a variant whose losses tell nothing is refused then."""

    def __init__(self, options: RunOptions, device: torch.device) -> None:
        policy = options.augment_policy
        self.policy = self.groups if policy is None else words(policy)
        unknown = [word for word in self.policy if word not in self.groups]
        if unknown:
            raise UserError(
                f"--augment-policy: expected some of {','.join(self.groups)} (those of --augment {options.augment}), "
                f'got "{policy}".{nearest(unknown[0], self.groups)}'
            )

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return changed pictures.

        Args:
            images: [N, C, H, W], float32 or float64, in [-1, 1].
            draws: [N, numbers], the same dtype, uniform on [0, 1). Row n is all that sample n depends on.

        Gradients: with respect to images, twice differentiable, since penalties differentiate gradients of D.
        """

    def adapt(self, signs: Tensor | None, images: int) -> None:  # noqa: B027  most have nothing to adapt
        """Follow what the critics say, once per step.

        Args:
            signs: 0-d, mean over real samples of the side on which D's logits lie: 1 if D is sure of all of them;
                None: this step has no reading.
            images: real images that this step has shown.
        """

    def readings(self) -> dict[str, Tensor]:
        """Return 0-d tensors for the log, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take over what `state_dict` gave."""


def as_pictures(images: Tensor) -> Tensor:
    """Return a view [N, pictures, channels, H, W] of [N, C, H, W]: channels in threes, or each one by itself.

    A critic may get several pictures in one tensor (input and output of a translation). If C is a multiple of three
    they are taken for RGB, else for grey.
    """
    n, channels, height, width = images.shape
    each = 3 if channels % 3 == 0 else 1
    return images.reshape(n, channels // each, each, height, width)
