"""What a user may say about data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ganengine.errors import UserError

Alpha: TypeAlias = Literal["white", "black", "keep"]
Resize: TypeAlias = Literal["stretch", "crop"]


@dataclass(frozen=True)
class DataOptions:
    """How pictures become samples of one size.

    Raises:
        UserError: a size below 1, a load size below the size, or a negative bound.
    """

    size: int = 128
    """Side of the training pictures in pixels."""
    load_size: int | None = None
    """Resize to this side, then crop `size` at random; None: no jitter."""
    flip: bool = True
    """Mirror half of the pictures, unless the data set says that mirrored ones are none of its kind."""
    alpha: Alpha = "white"
    """What to do with transparency: put it on white or black, or keep it as a channel."""
    seed: int = 0
    """Order, crops and mirroring follow from it."""
    bad_images: Literal["skip", "fail"] = "skip"
    """What to do with unreadable pictures: leave them out and say so, or stop."""
    resize: Resize = "stretch"
    """How pictures that are not square become so: stretched, or scaled to the shorter side and cropped."""
    memory_mib: int = 2048
    """Bound on decoded pictures kept in memory; what is beyond it is read or decoded again."""
    cache_mib: int = 16384
    """Bound on decoded pictures kept on disk, over all data sets; 0: none."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size: expected at least 1 pixel, got {self.size}.")
        if self.load_size is not None and self.load_size < self.size:
            raise UserError(f"load_size: expected at least size ({self.size}), got {self.load_size}.")
        if self.memory_mib < 0:
            raise UserError(f"memory_mib: expected 0 or more, got {self.memory_mib}.")
        if self.cache_mib < 0:
            raise UserError(f"cache_mib: expected 0 or more, got {self.cache_mib}.")

    def read_size(self, size: int) -> int:
        """Return the side to resize to before `size` is cropped: the jitter of `load_size`, in proportion."""
        return size if self.load_size is None else max(size, round(size * self.load_size / self.size))
