"""What may happen after a phase's step: clip weights, keep earlier samples in a pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganengine import ranks
from ganengine.errors import UserError

if TYPE_CHECKING:
    from ganengine.step import Step


def clip_weights(network: str, limit: float) -> Callable[[Step], None]:
    """Return an action for `Phase.after` that limits every parameter of `network` to [-limit, limit].

    Args:
        network: name of the network, as `step[network]` gives it.
        limit: above 0; 0.01 in the paper.

    Raises:
        UserError: the limit is not above 0.

    Paper: 1701.07875, algorithm 1, line 7.
    """
    if not 0.0 < limit < float("inf"):
        raise UserError(f"clip_weights: expected a limit above 0, got {limit}. The paper's is 0.01.")

    def clip(step: Step) -> None:
        with torch.no_grad():
            for parameter in step[network].parameters():
                parameter.clamp_(-limit, limit)

    return clip


class ImagePool(nn.Module):
    """Earlier generated images, shown to D again so that it does not forget them.

    Until the pool is full each new image is stored and returned. Afterwards, with probability 1/2 a new image takes
    the place of a stored one, which is returned instead of it; otherwise the new one is returned and not stored.
    Images of a batch go through one after the other. A pool of size 0 returns what it is given.

    The storage takes its shape, dtype and device from the first images; it is a buffer and so part of the checkpoint.
    The host never waits for the device. Of several ranks each passes the images of all through a pool of its own, so
    that the pools stay equal to the one of a single rank. Gradients: none, images are detached.

    Paper: 1612.07828, section 2.3; size 50 and the rule of this form from 1703.10593, section 4.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 0:
            raise UserError(f"ImagePool: expected a size of 0 or more, got {size}.")
        self.size = size
        self.register_buffer("images", torch.empty(0))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def extra_repr(self) -> str:
        return f"size={self.size}"

    @torch.no_grad()
    def forward(self, images: Tensor, draws: Tensor) -> Tensor:
        """Pass images through the pool.

        Args:
            images: [N, ...], newly generated.
            draws: [N, 2], uniform on [0, 1): whether to swap, and with which stored image.

        Returns:
            [N, ...], new and stored images.

        Raises:
            UserError: draws of another shape, or images unlike those in the pool.
        """
        if draws.shape != (len(images), 2):
            raise UserError(f"ImagePool: expected draws [{len(images)}, 2], got {list(draws.shape)}.")
        if self.size == 0:
            return images.detach()
        if self.images.numel() == 0:
            self.images = images.new_zeros((self.size, *images.shape[1:]))
            self.count = self.count.to(images.device)
        if self.images.shape[1:] != images.shape[1:]:
            raise UserError(
                f"ImagePool: expected images {list(self.images.shape[1:])} as stored before, got"
                f" {list(images.shape[1:])}. Use a pool for each size."
            )
        images, draws = ranks.whole(images), ranks.whole(draws)
        swap = draws[:, 0] < 0.5
        slots = (draws[:, 1] * self.size).long().clamp(max=self.size - 1)  # 1 - 2^-24 times 2^24 rounds up
        shown = [self._show(images[i : i + 1], swap[i], slots[i]) for i in range(len(images))]
        return ranks.share(torch.cat(shown)) if shown else images.detach()

    def _show(self, image: Tensor, swap: Tensor, slot: Tensor) -> Tensor:
        full = self.count >= self.size
        index = torch.where(full, slot, self.count).reshape(1)
        stored = self.images.index_select(0, index)
        self.images.index_copy_(0, index, torch.where(swap | ~full, image.to(stored.dtype), stored))
        self.count.add_(~full)
        return torch.where(swap & full, stored.to(image.dtype), image)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}images")
        if saved is not None and saved.shape != self.images.shape and saved.shape[0] in (0, self.size):
            self.images = self.images.new_empty(saved.shape, dtype=saved.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
