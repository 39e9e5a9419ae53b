"""Adaptive augmentation: each transformation with probability p, which grows while D is too sure of real samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ganengine.augment.augmentation import Augmentation, as_pictures
from ganengine.augment.resample import resample
from ganengine.config import RunOptions

INTERVAL = 4
"""Readings between two changes of p."""

LIMIT = 0.8
"""Largest p. Beyond it augmentations leak into what G makes (section 2.2)."""

SHIFT = 0.125
"""Of whole pixels: the largest translation; of fractions: its standard deviation; as a share of the side."""


class AdaptiveAugment(Augmentation):
    """Pixel blitting, geometry and color, each transformation of a sample with probability p.

    r = E[sign(D(real))] is read over 4 updates; p then moves by their images / `--ada-images`, up where r lies above
    `--ada-target` and down where below.

    Paper: arXiv:2006.06676, sections 2 and 3, appendix B (`bgc`). Departures: p stops at 0.8; one bilinear resampling
    at the picture's own resolution, mirrored at its edges, instead of one at twice that with wavelet filters.
    """

    groups = ("blit", "geometry", "color")
    numbers = 28
    adaptive = True

    def __init__(self, options: RunOptions, device: torch.device) -> None:
        super().__init__(options, device)
        self.target, self.images = options.ada_target, options.ada_images
        self.p = torch.zeros((), device=device)
        self.r = torch.zeros((), device=device)
        self._sum = torch.zeros((), device=device)
        self._count = 0
        self._shown = 0

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        columns = draws.unbind(1)
        if "blit" in self.policy or "geometry" in self.policy:
            matrix = torch.eye(3, dtype=draws.dtype, device=draws.device).expand(len(images), 3, 3)
            if "blit" in self.policy:
                matrix = matrix @ blit(_Draws(columns[:7], self.p), images.shape[-2], images.shape[-1])
            if "geometry" in self.policy:
                matrix = matrix @ geometry(_Draws(columns[7:18], self.p), images.shape[-2], images.shape[-1])
            images = resample(images, matrix)
        return color(images, _Draws(columns[18:], self.p)) if "color" in self.policy else images

    def adapt(self, signs: Tensor | None, images: int) -> None:
        self._shown += images
        if signs is None:
            return
        self._sum = self._sum + signs
        self._count += 1
        if self._count == INTERVAL:
            self.r = self._sum / INTERVAL
            self.p = (self.p + (self.r - self.target).sign() * (self._shown / self.images)).clamp(0.0, LIMIT)
            self._sum, self._count, self._shown = torch.zeros_like(self._sum), 0, 0

    def readings(self) -> dict[str, Tensor]:
        return {"ada_p": self.p, "ada_r": self.r}

    def state_dict(self) -> dict[str, Any]:
        return {
            "p": self.p.clone(),
            "r": self.r.clone(),
            "sum": self._sum.clone(),
            "count": self._count,
            "shown": self._shown,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.p, self.r, self._sum = (state[name].to(self.p.device) for name in ("p", "r", "sum"))
        self._count, self._shown = int(state["count"]), int(state["shown"])


class _Draws:
    """Random numbers in the order in which they are asked for, and the probability that a transformation is done."""

    def __init__(self, columns: tuple[Tensor, ...], p: Tensor) -> None:
        self._columns: Iterator[Tensor] = iter(columns)
        self.p = p

    def uniform(self) -> Tensor:
        """Draw [N] from [0, 1)."""
        return next(self._columns)

    def normal(self) -> Tensor:
        """Draw [N] from the standard normal distribution."""
        # 2^-24, half a step of the argument, keeps it off -1; the sum is exact.
        return torch.erfinv(2 * self.uniform() - 1 + 2.0**-24) * math.sqrt(2.0)

    def angle(self) -> Tensor:
        """Draw [N] from [-pi, pi)."""
        return (2 * self.uniform() - 1) * math.pi

    def maybe(self, value: Tensor, neutral: float, p: Tensor | None = None) -> Tensor:
        """Return `value` with probability p, else what changes nothing; [N], or [N, k] with one choice for a row."""
        chosen = self.uniform() < (self.p if p is None else p)
        return torch.where(chosen.view(-1, *(1,) * (value.dim() - 1)), value, neutral)


def blit(draws: _Draws, height: int, width: int) -> Tensor:
    """Return what undoes a mirroring, a rotation by quarters and a translation by whole pixels, [N, 3, 3]."""
    mirror = draws.maybe(1 - 2 * (2 * draws.uniform()).floor(), 1.0)
    quarters = draws.maybe((4 * draws.uniform()).floor(), 0.0).long()
    share = torch.stack((draws.uniform(), draws.uniform()), 1) * (2 * SHIFT) - SHIFT
    moved = draws.maybe((share * share.new_tensor([width, height])).round(), 0.0)
    # A table, since the cosine of pi / 2 is not quite 0.
    cos, sin = (mirror.new_tensor(row)[quarters] for row in ([1, 0, -1, 0], [0, 1, 0, -1]))
    return (
        _matrix(mirror, 0, 0, 0, 1, 0)
        @ _matrix(cos, sin, 0, -sin, cos, 0)
        @ _matrix(1, 0, -moved[:, 0], 0, 1, -moved[:, 1])
    )


def geometry(draws: _Draws, height: int, width: int) -> Tensor:
    """Return what undoes scaling, rotation, stretching, a second rotation and a translation, [N, 3, 3]."""
    once = 1 - (1 - draws.p).sqrt()  # of two rotations, so that one of them at least takes place with p
    scale = draws.maybe((0.2 * draws.normal()).exp2(), 1.0)
    before = draws.maybe(draws.angle(), 0.0, once)
    stretch = draws.maybe((0.2 * draws.normal()).exp2(), 1.0)
    after = draws.maybe(draws.angle(), 0.0, once)
    share = torch.stack((draws.normal(), draws.normal()), 1) * SHIFT
    moved = draws.maybe(share * share.new_tensor([width, height]), 0.0)
    return (
        _matrix(1 / scale, 0, 0, 0, 1 / scale, 0)
        @ _rotation(before)
        @ _matrix(1 / stretch, 0, 0, 0, stretch, 0)
        @ _rotation(after)
        @ _matrix(1, 0, -moved[:, 0], 0, 1, -moved[:, 1])
    )


def color(images: Tensor, draws: _Draws) -> Tensor:
    """Return pictures of other brightness, contrast, luma, hue and saturation.

    With m the mean of a pixel's channels and d = x - m: f c (m + b) + c s R d. b is added, c the contrast, f = -1
    flips the luma, R turns d about the grey axis, s is the saturation. All of them are linear and commute but for b,
    which stands before the rest. A grey picture has d = 0.
    """

    drawn = (
        draws.maybe(0.2 * draws.normal(), 0.0),
        draws.maybe((0.5 * draws.normal()).exp2(), 1.0),
        draws.maybe(1 - 2 * (2 * draws.uniform()).floor(), 1.0),
        draws.maybe(draws.angle(), 0.0),
        draws.maybe(draws.normal().exp2(), 1.0),
    )
    bright, contrast, flip, angle, saturation = (values.view(-1, 1, 1, 1, 1) for values in drawn)
    x = as_pictures(images)
    mean = x.mean(2, keepdim=True)
    rest = x - mean
    # (1, 1, 1) / sqrt 3 cross rest
    across = (rest.roll(1, 2) - rest.roll(-1, 2)) / math.sqrt(3.0)
    rest = angle.cos() * rest + angle.sin() * across
    return (flip * contrast * (mean + bright) + contrast * saturation * rest).flatten(1, 2)


def _rotation(angle: Tensor) -> Tensor:
    """Return what undoes a rotation by `angle`."""
    return _matrix(angle.cos(), angle.sin(), 0, -angle.sin(), angle.cos(), 0)


def _matrix(*entries: Tensor | float) -> Tensor:
    """Return affine matrices [N, 3, 3] of the first two rows' entries."""
    like = next(entry for entry in entries if isinstance(entry, Tensor))
    rows = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in (*entries, 0, 0, 1)]
    return torch.stack(rows, 1).view(-1, 3, 3)
