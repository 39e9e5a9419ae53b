"""Numbers that change as a run goes on: learning rates, weights, fade-ins, repeats.

A ramp is a pure function of (progress, state), so stopping and going on cannot bend it. Positions are counted in a
unit: `horizon` (fraction of the images that the run is planned for, 0 to 1), `images`, `stage` (images since the stage
began) or `steps`. This module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from ganengine.errors import UserError, nearest
from ganengine.variant import Progress, State

Unit: TypeAlias = Literal["horizon", "images", "stage", "steps"]

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Constant:
    """The same number at all times."""

    value: float

    def __post_init__(self) -> None:
        _check_finite("Constant", value=self.value)

    def __call__(self, progress: Progress, state: State) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """From `start` to `stop` in a straight line between the positions `begin` and `end`; constant outside."""

    start: float
    stop: float
    begin: float = 0.0
    end: float = 1.0
    unit: Unit = "horizon"

    def __post_init__(self) -> None:
        _check_finite("Linear", start=self.start, stop=self.stop)
        _check_span("Linear", self.begin, self.end, self.unit)

    def __call__(self, progress: Progress, state: State) -> float:
        share = _share(progress, self.begin, self.end, self.unit)
        return (1.0 - share) * self.start + share * self.stop


def linear_decay(start: float, constant: float = 0.5) -> Linear:
    """Return `start` for the share `constant` of the horizon, then a straight line to 0.

    Half and half is the 100 + 100 epochs of pix2pix's and CycleGAN's published code.
    """
    return Linear(start, 0.0, begin=constant)


@dataclass(frozen=True)
class Cosine:
    """From `start` to `stop` along half a cosine between `begin` and `end`; constant outside."""

    start: float
    stop: float = 0.0
    begin: float = 0.0
    end: float = 1.0
    unit: Unit = "horizon"

    def __post_init__(self) -> None:
        _check_finite("Cosine", start=self.start, stop=self.stop)
        _check_span("Cosine", self.begin, self.end, self.unit)

    def __call__(self, progress: Progress, state: State) -> float:
        share = _share(progress, self.begin, self.end, self.unit)
        return self.stop + (self.start - self.stop) * (1.0 + math.cos(math.pi * share)) / 2.0


@dataclass(frozen=True)
class Staircase:
    """start * factor^floor(position / every), at least `floor`: halved every n images by default."""

    start: float
    every: float
    factor: float = 0.5
    floor: float = 0.0
    unit: Unit = "images"

    def __post_init__(self) -> None:
        _check_finite("Staircase", start=self.start, floor=self.floor)
        _check_positive("Staircase", every=self.every, factor=self.factor)
        _check_unit("Staircase", self.unit)

    def __call__(self, progress: Progress, state: State) -> float:
        return max(self.floor, self.start * math.pow(self.factor, _position(progress, self.unit) // self.every))


@dataclass(frozen=True)
class Exponential:
    """start / divisor^step, at least `floor`.

    The 2014 papers divide the learning rate by 1.000004 per batch, from 0.1 down to 1e-6.
    """

    start: float
    divisor: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("Exponential", start=self.start, floor=self.floor)
        if not 1.0 <= self.divisor < math.inf:
            raise UserError(f"Exponential: expected a divisor of at least 1, got {self.divisor}.")

    def __call__(self, progress: Progress, state: State) -> float:
        # A negative exponent underflows to 0 in a long run where a positive one would overflow and raise.
        return max(self.floor, self.start * self.divisor**-progress.step)


@dataclass(frozen=True)
class InverseSqrt:
    """`start` for the first `hold` images, then start * sqrt(hold / images). It needs no horizon."""

    start: float
    hold: float

    def __post_init__(self) -> None:
        _check_finite("InverseSqrt", start=self.start)
        _check_positive("InverseSqrt", hold=self.hold)

    def __call__(self, progress: Progress, state: State) -> float:
        return self.start * math.sqrt(self.hold / max(self.hold, progress.images))


@dataclass(frozen=True)
class Piecewise(Generic[Number]):
    """A table ((position, value), ...): each value holds from its position to the next one's."""

    points: tuple[tuple[float, Number], ...]
    unit: Unit = "steps"

    def __post_init__(self) -> None:
        _check_unit("Piecewise", self.unit)
        positions = [position for position, _ in self.points]
        if not positions or positions[0] != 0 or any(a >= b for a, b in pairwise(positions)):
            raise UserError(f"Piecewise: expected positions that start at 0 and rise, got {positions}.")

    def __call__(self, progress: Progress, state: State) -> Number:
        position = _position(progress, self.unit)
        return next(value for start, value in reversed(self.points) if start <= position)


@dataclass(frozen=True)
class EveryNth(Generic[Number]):
    """`value` at every n-th step, step 0 included, `otherwise` (a number or a ramp) at all others.

    The critic repeats of WGAN's published code, 100 in the first 25 steps and at every 500th, else 5:
    `EveryNth(500, 100, otherwise=Piecewise(((0, 100), (25, 5))))`.
    """

    n: int
    value: Number
    otherwise: Number | Callable[[Progress, State], Number]

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"EveryNth: expected n of at least 1, got {self.n}.")

    def __call__(self, progress: Progress, state: State) -> Number:
        if progress.step % self.n == 0:
            return self.value
        return self.otherwise(progress, state) if callable(self.otherwise) else self.otherwise


def _position(progress: Progress, unit: Unit) -> float:
    if unit == "horizon":
        return progress.fraction
    if unit == "images":
        return progress.images
    return progress.stage_images if unit == "stage" else progress.step


def _share(progress: Progress, begin: float, end: float, unit: Unit) -> float:
    """Return how much of the span from `begin` to `end` is done, in [0, 1]."""
    return min(1.0, max(0.0, (_position(progress, unit) - begin) / (end - begin)))


def _check_unit(ramp: str, unit: str) -> None:
    units = get_args(Unit)
    if unit not in units:
        raise UserError(f'{ramp}: expected a unit of {", ".join(units)}, got "{unit}".{nearest(unit, units)}')


def _check_span(ramp: str, begin: float, end: float, unit: str) -> None:
    _check_unit(ramp, unit)
    if not 0 <= begin < end < math.inf:
        raise UserError(f"{ramp}: expected 0 <= begin < end, got begin {begin} and end {end}.")
    if unit == "horizon" and end > 1:
        raise UserError(
            f"{ramp}: expected an end of at most 1 (fraction of the horizon), got {end}."
            ' To count images, add unit="images".'
        )


def _check_finite(ramp: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise UserError(f"{ramp}: expected a finite {name}, got {number}.")


def _check_positive(ramp: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise UserError(f"{ramp}: expected {name} above 0, got {number}.")
