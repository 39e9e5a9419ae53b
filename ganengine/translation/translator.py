"""Translate pictures with a trained run: at once where they are small, in tiles where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ganengine.data.pictures import to_levels, to_tensor
from ganengine.errors import UserError
from ganengine.nn.padding import crop_like, pad_to_multiple
from ganengine.trained import Trained
from ganengine.translation.places import Job
from ganengine.translation.reading import Bits, Picture, read
from ganengine.translation.statistics import WholeStatistics
from ganengine.translation.tiles import PASSES, Tiling, translate_tiles
from ganengine.variant import View

PIXELS = 1 << 21
"""At most so many pixels are translated at once; a larger picture goes alone."""
Advance: TypeAlias = Callable[[float], None]
"""Tells that so many pixels more are done."""


class Translator:
    """Translates pictures of any size, all in the same way.

    Args:
        trained: the run.
        view: which of its translations.
        batch: at most so many pictures of one size at once.
        tiling: how larger pictures are cut; None: they are translated whole.
        bits: of results; None: as each picture has.
        keep_alpha: put the transparency of a picture on its result.

    Where the precision was left open, results of 16 bits are computed in float32.
    """

    def __init__(
        self, trained: Trained, view: View, *, batch: int, tiling: Tiling | None, bits: Bits | None, keep_alpha: bool
    ) -> None:
        self.trained, self.view = trained, view
        self.batch, self.tiling, self.bits, self.keep_alpha = batch, tiling, bits, keep_alpha
        self.statistics = WholeStatistics(trained.sampler.networks, trained.sampler.statistics, PASSES)

    def read(self, job: Job) -> Picture:
        """Read a picture as the networks take it.

        Raises:
            BadPictureError: it is damaged, or cannot be given so many channels.
        """
        return read(job.file, self.trained.spec.channels(self.view.source), self.trained.settings.engine.alpha)

    def together(self, height: int, width: int) -> int:
        """Return how many pictures of this size are translated at once."""
        if self.tiling and self.tiling.cuts(height, width):
            return 1
        return max(1, min(self.batch, PIXELS // max(1, height * width)))

    def translate(self, work: Sequence[tuple[Job, Picture]], advance: Advance) -> Iterator[tuple[Job, np.ndarray]]:
        """Translate pictures; neighbours of one size at once, where they are not cut."""
        start = 0
        for index in range(1, len(work) + 1):
            # A header's size may be that before an EXIF turn: only here sizes are certain.
            if index == len(work) or _kind(work[index][1]) != _kind(work[start][1]):
                yield from self._alike(work[start:index], advance)
                start = index

    def _alike(self, work: Sequence[tuple[Job, Picture]], advance: Advance) -> Iterator[tuple[Job, np.ndarray]]:
        height, width = work[0][1].pixels.shape[:2]
        if self.tiling and self.tiling.cuts(height, width):
            for job, picture in work:
                yield job, self._finished(self._in_tiles(job, picture, self.tiling, advance), picture)
            return
        images = torch.stack([to_tensor(picture.pixels) for _, picture in work])
        outputs = self._run(images, [job.name for job, _ in work], work[0][1])
        advance(len(work) * height * width)
        for (job, picture), output in zip(work, outputs, strict=True):
            yield job, self._finished(to_levels(output, self.bits or picture.bits), picture)

    def _in_tiles(self, job: Job, picture: Picture, tiling: Tiling, advance: Advance) -> np.ndarray:
        height, width = picture.pixels.shape[:2]
        runs = (self.statistics.passes + 1) * len(tiling.spans(height)) * len(tiling.spans(width))

        def run(tile: Tensor, place: str) -> Tensor:
            advance(height * width / runs)
            return self._run(tile, [f"{job.name}@{place}"], picture)

        return translate_tiles(picture.pixels, tiling, run, self.statistics, self.bits or picture.bits)

    def _finished(self, result: np.ndarray, picture: Picture) -> np.ndarray:
        """Put the picture's transparency on its result, where there is room."""
        if picture.cover is None or not self.keep_alpha or result.shape[2] not in (1, 3):
            return result
        top = np.float32(np.iinfo(result.dtype).max)
        cover = picture.cover.astype(np.float32) * (top / 255 if picture.cover.dtype == np.uint8 else top)
        return np.concatenate([result, np.floor(cover + 0.5).astype(result.dtype)], axis=2)

    def _run(self, images: Tensor, names: Sequence[str], like: Picture) -> Tensor:
        """Pad to what the networks take, translate, crop; `like` is a picture of the kind of all."""
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.view.multiple, self.view.minimum)
        with _memory_told(height, width):
            # bfloat16 has 8 significant bits, fewer than these results.
            exact = self.trained.automatic and (self.bits or like.bits) == 16
            return crop_like(self.trained.sampler.translate(self.view, padded, names, exact=exact), images)


def _kind(picture: Picture) -> tuple[tuple[int, ...], Bits]:
    """Return what pictures that are translated at once have in common."""
    return picture.pixels.shape, picture.bits


@contextmanager
def _memory_told(height: int, width: int) -> Iterator[None]:
    """Tell what helps where memory does not suffice."""
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch has no error of its own for this.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"--tile: memory does not suffice for {width}x{height} pixels at once. Use --tile 512, or a smaller one."
        ) from error
