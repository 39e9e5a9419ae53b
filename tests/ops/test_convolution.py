"""Convolutions in float32 and by tiles against torch's in float64: values, gradients, threads, bad numbers."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ganengine.ops import dispatch, registration
from ganengine.ops.convolution import (
    BACKWARD,
    FORWARD,
    WEIGHTS,
    convolution,
    convolution_backward,
    convolution_weights,
    reference,
    reference_backward,
    reference_weights,
)

from .cases import lay_out

RAW = torch.ops.ganengine
BF16, F32 = torch.bfloat16, torch.float32
OF_BFLOAT16 = {"portable": 0, "dots": 1, "tiles": 2}
OF_FLOAT32 = {"baseline": 0, "avx2": 1, "avx512": 2}
WAYS = (*OF_BFLOAT16, *OF_FLOAT32)
"""Forms of the kernels: of bfloat16 as `set_bf16_products` counts products, of float32 as `set_isa` does sets."""
ROUNDING = {BF16: 2**-8, F32: 2**-24}
Pair = tuple[int, int]

needs_kernel = pytest.mark.skipif(not dispatch.compiled("convolution", "cpu"), reason="no compiled CPU kernels")


@contextmanager
def computing(way: str) -> Iterator[None]:
    """Have the kernel take one of its forms, and cases be of its dtype."""
    wanted, of_bfloat16 = {**OF_BFLOAT16, **OF_FLOAT32}[way], way in OF_BFLOAT16
    Case.dtype = BF16 if of_bfloat16 else F32
    try:
        if (RAW.set_bf16_products if of_bfloat16 else RAW.set_isa)(wanted) != wanted:
            pytest.skip(f"this machine has no {way}")
        yield
    finally:
        Case.dtype = BF16
        RAW.set_bf16_products(2)
        RAW.set_isa(2)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    with computing(request.param):
        yield request.param


@dataclass(frozen=True)
class Case:
    """A convolution from pictures [n, wide, *sides] to `narrow` channels."""

    n: int
    wide: int
    sides: Pair
    narrow: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    reflect: bool = False

    dtype: ClassVar[torch.dtype] = BF16
    """Of the data of all cases, as `computing` has it."""

    @property
    def places(self) -> Pair:
        found = [(self.sides[i] + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1 for i in (0, 1)]
        return found[0], found[1]

    @property
    def form(self) -> tuple[list[int], list[int]]:
        return list(self.stride), list(self.padding)

    def x(self) -> Tensor:
        return self._drawn(1, self.n, self.wide, *self.sides).to(self.dtype)

    def y(self) -> Tensor:
        return self._drawn(2, self.n, self.narrow, *self.places).to(self.dtype)

    def weight(self) -> Tensor:
        return self._drawn(3, self.narrow, self.wide, *self.kernel)

    def bias(self, channels: int) -> Tensor:
        return self._drawn(4, channels)

    def _drawn(self, seed: int, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn

    def three(self, weight: Tensor, narrow_bias: Tensor | None, wide_bias: Tensor | None) -> list[Tensor]:
        """Return what the three ops make."""
        x, y = self.x(), self.y()
        return [
            convolution(x, weight, narrow_bias, *self.form),
            convolution_backward(y, weight, wide_bias, *self.form, self.sides),
            convolution_weights(x, y, *self.form, self.kernel),
        ]

    def exact(
        self, weight: Tensor, narrow_bias: Tensor | None, wide_bias: Tensor | None, dtype: torch.dtype = torch.float64
    ) -> list[Tensor]:
        """Return the same by torch's convolution and its gradients; in float32 of the sizes of all summands alone."""

        def taken(t: Tensor) -> Tensor:
            return t.to(dtype) if dtype == torch.float64 else t.to(dtype).abs()

        x, w = taken(self.x()).requires_grad_(), taken(weight.to(self.dtype)).requires_grad_()
        narrow = F.conv2d(x, w, None, self.stride, self.padding)
        wide, gradient = torch.autograd.grad(narrow, (x, w), taken(self.y()))
        narrow = narrow.detach()
        for side, bias in ((narrow, narrow_bias), (wide, wide_bias)):
            if bias is not None:
                side += taken(bias).view(-1, 1, 1)
        return [narrow, wide, gradient]


def assert_right(case: Case, dtype: torch.dtype = F32, bias: bool = True) -> None:
    """Hold all three ops to one rounding of the exact values, and to what sums in float32 may lose.

    These lose 2^-24 of a partial sum at each step. Where summands have either sign, partial sums grow as the root of
    their number and losses cancel: all of them together are below 2^-24 of the sum of sizes. 2^-20 leaves room.
    """
    weight = case.weight().to(torch.promote_types(dtype, Case.dtype)).contiguous(memory_format=torch.channels_last)
    biases = [case.bias(channels) if bias else None for channels in (case.narrow, case.wide)]
    found, exact = case.three(weight, *biases), case.exact(weight, *biases)
    for name, mine, truth, sizes in zip(
        ("values", "data gradient", "weight gradient"), found, exact, case.exact(weight, *biases, F32), strict=True
    ):
        assert mine.shape == truth.shape
        _, c, h, w = mine.shape
        assert mine.stride() == (h * w * c, 1, w * c, c)
        assert mine.dtype == (F32 if name == "weight gradient" else Case.dtype)
        rounding = 0.0 if name == "weight gradient" else ROUNDING[Case.dtype]
        error = (mine.double() - truth).abs()
        excess = (error - rounding * truth.abs() - 2**-20 * sizes).max().item()
        assert excess <= 0, f"{name}: {excess:.3g} too much of {truth.abs().max().item():.3g}"


# ----------------------------------------------------------------------------------------------------------------
# The ops with all that they take, and what they are by indices and torch's convolution alone

OPS = ["values", "data", "weights"]
Slopes = tuple[float, float]


def by_op(
    case: Case,
    op: str,
    first: Tensor,
    second: Tensor,
    bias: Tensor | None = None,
    *,
    slopes: Slopes = (1.0, 1.0),
    gate: Tensor | None = None,
) -> Tensor:
    """Return what an op makes; the first slope is that of the data or the gate, the second that of a second side."""
    if op == "values":
        return convolution(first, second, bias, *case.form, case.reflect, slopes[0], gate)
    if op == "data":
        return convolution_backward(first, second, bias, *case.form, case.sides, case.reflect, slopes[0], gate)
    return convolution_weights(first, second, *case.form, case.kernel, case.reflect, *slopes)


def by_torch(
    case: Case,
    op: str,
    first: Tensor,
    second: Tensor,
    bias: Tensor | None = None,
    *,
    slopes: Slopes = (1.0, 1.0),
    gate: Tensor | None = None,
) -> Tensor:
    """Return the same in float64, to be differentiated."""
    if gate is None:
        first = bent(first, slopes[0])
    if op == "weights":
        second = bent(second, slopes[1])
    if op == "values":
        made = _gathered(case, first, second)
    else:
        x = first if op == "weights" else first.new_zeros(case.n, case.wide, *case.sides).requires_grad_()
        w = second if op == "data" else first.new_zeros(case.narrow, case.wide, *case.kernel).requires_grad_()
        with torch.enable_grad():
            along, grad = (x, first) if op == "data" else (w, second)
            made = torch.autograd.grad(_gathered(case, x, w), along, grad, create_graph=True)[0]
    if bias is not None:
        made = made + bias.view(-1, 1, 1)
    return made if gate is None else torch.where(gate > 0, made, slopes[0] * made)


def bent(t: Tensor, slope: float) -> Tensor:
    """Return t behind an activation."""
    return torch.where(t > 0, t, slope * t)


def mirrored(x: Tensor, padding: Pair) -> Tensor:
    """Return x with its reflection around it, taken by indices."""
    for axis, pad in zip((2, 3), padding, strict=True):
        last = x.shape[axis] - 1
        inside = torch.arange(-pad, last + pad + 1).abs()
        x = x.index_select(axis, last - (last - inside).abs())
    return x


def _gathered(case: Case, x: Tensor, weight: Tensor) -> Tensor:
    if case.reflect:
        return F.conv2d(mirrored(x, case.padding), weight, None, case.stride)
    return F.conv2d(x, weight, None, case.stride, case.padding)


def drawn_gate(case: Case, op: str) -> Tensor:
    """Return a gate that is open, closed and on the edge, each at a third of the places."""
    shape = case.y().shape if op == "values" else case.x().shape
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(5)).to(Case.dtype)


def leaves(case: Case, op: str, gated: bool, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Return what an op takes that has gradients, in float64, or beside weights of float32; and its gate."""
    weight = case.weight().to(Case.dtype).to(dtype if dtype == torch.float64 else F32)
    sides = {"values": case.x(), "data": case.y(), "weights": case.x()}
    first, second = sides[op].to(dtype), case.y().to(dtype) if op == "weights" else weight
    given = [first, second]
    if op == "values" or (op == "data" and not case.reflect):
        given.append(case.bias(weight.shape[0 if op == "values" else 1]).to(weight.dtype))
    takes_gate = gated and op != "weights" and not (op == "data" and case.reflect)
    gate = drawn_gate(case, op).to(dtype) if takes_gate else None
    return tuple(t.detach().requires_grad_() for t in given), gate


PLAIN: tuple[Case, Slopes, bool] = (Case(2, 20, (9, 8), 18, (3, 2), (2, 1), (1, 1)), (1.0, 1.0), False)
DRESSES: dict[str, tuple[Case, Slopes, bool]] = {
    "relu": (PLAIN[0], (0.0, 0.0), False),
    "leaky": (PLAIN[0], (0.2, 0.5), False),
    "one-side": (PLAIN[0], (1.0, 0.2), False),
    "gate": (PLAIN[0], (0.0, 1.0), True),
    "leaky-gate": (PLAIN[0], (0.2, 1.0), True),
    "reflect": (replace(PLAIN[0], reflect=True), (1.0, 1.0), False),
    "relu-reflect": (replace(PLAIN[0], reflect=True), (0.0, 0.2), False),
    "gate-reflect": (replace(PLAIN[0], reflect=True), (0.2, 0.0), True),
}
"""Sizes, slopes, whether there is a gate."""


# ----------------------------------------------------------------------------------------------------------------
# Values

CHANNELS = st.sampled_from([1, 2, 3, 4, 6, 8, 16, 17, 33, 64, 100])
CASES = st.builds(
    Case,
    n=st.integers(1, 4),
    wide=CHANNELS,
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    narrow=CHANNELS,
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)


@needs_kernel
@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=60)
@given(case=CASES, dtype=st.sampled_from([F32, BF16]), bias=st.booleans())
def test_one_rounding_of_the_exact_values(way: str, case: Case, dtype: torch.dtype, bias: bool) -> None:
    assume(min(case.places) > 0)
    with computing(way):
        assert_right(case, dtype, bias)


LAYERS = {
    "residual": Case(1, 64, (34, 34), 64, (3, 3)),
    "first": Case(1, 3, (134, 134), 16, (7, 7)),
    "patchgan": Case(2, 128, (16, 16), 256, (4, 4)),
    "down": Case(32, 64, (16, 16), 64, (4, 4), (2, 2), (1, 1)),
    "large": Case(1, 64, (256, 200), 8, (3, 3), padding=(1, 1)),
    "odd": Case(3, 256, (9, 9), 300, (5, 5), (2, 2), (2, 2)),
    "stride-beyond-kernel": Case(2, 20, (11, 12), 9, (2, 1), (3, 3)),
    "output-padding": Case(2, 33, (16, 17), 20, (3, 4), (2, 3), (1, 1)),
    "unseen-rim": Case(2, 8, (19, 19), 8, (2, 2), (3, 3)),
    "padding-beyond-kernel": Case(2, 5, (4, 3), 6, (2, 3), (2, 1), (4, 4)),
    "one-number": Case(1, 1, (1, 1), 1, (1, 1)),
    "one-place": Case(5, 40, (4, 4), 1, (4, 4)),
    "line": Case(2, 7, (1, 300), 5, (1, 9), (1, 2), (0, 4)),
    "column": Case(2, 7, (300, 1), 5, (9, 1), (2, 1), (4, 0)),
}


@needs_kernel
@pytest.mark.parametrize("name", LAYERS)
def test_layers(way: str, name: str) -> None:
    assert_right(LAYERS[name])


def assert_dressed_right(case: Case, op: str, slopes: Slopes, gated: bool, bias: bool, dtype: torch.dtype) -> None:
    """As `assert_right`, of activations, which round to bfloat16, gates and reflections.

    Summands behind an activation have one sign more often, so partial sums grow and lose more. The data gradient of a
    reflection is rounded before what the rim adds and after it.
    """
    given, gate = leaves(case, op, gated, Case.dtype)
    first, second, *more = (t.detach() for t in given)
    shift = more[0] if more and bias else None
    if op != "weights":
        second = second.to(torch.promote_types(dtype, Case.dtype))
    found = by_op(case, op, first, second, shift, slopes=slopes, gate=gate)
    if gate is None:
        first = bent(first.float(), slopes[0]).to(Case.dtype)
    if op == "weights":
        second = bent(second.float(), slopes[1]).to(Case.dtype)
    exact = [t.double() for t in (first, second, *([] if shift is None else [shift]))]
    if gate is None:
        truth = by_torch(case, op, *exact).detach()
    else:
        truth = by_torch(case, op, *exact, slopes=slopes, gate=gate.double()).detach()
    sizes = by_torch(case, op, *(t.abs() for t in exact)).detach()
    assert found.shape == truth.shape
    assert found.dtype == (F32 if op == "weights" else Case.dtype)
    allowed = 2**-18 * sizes
    if op != "weights":
        allowed += ROUNDING[Case.dtype] * truth.abs()
    if op == "data" and case.reflect:
        around = [side + 2 * pad for side, pad in zip(case.sides, case.padding, strict=True)]
        plain = replace(case, sides=(around[0], around[1]), padding=(0, 0), reflect=False)
        parts = by_torch(plain, op, *exact).detach().abs()
        x = torch.zeros(truth.shape, dtype=torch.float64, requires_grad=True)
        allowed += 2 * ROUNDING[Case.dtype] * torch.autograd.grad(mirrored(x, case.padding), x, parts)[0]
    excess = ((found.double() - truth).abs() - allowed).max().item()
    assert excess <= 0, f"{op}: {excess:.3g} too much of {truth.abs().max().item():.3g}"


@needs_kernel
@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=100)
@given(
    case=CASES,
    op=st.sampled_from(OPS),
    reflect=st.booleans(),
    slopes=st.tuples(*[st.sampled_from([0.0, 0.2, 1.0, 1.5, -0.5])] * 2),
    gated=st.booleans(),
    bias=st.booleans(),
    dtype=st.sampled_from([F32, BF16]),
)
def test_activations_gates_and_reflections(
    way: str, case: Case, op: str, reflect: bool, slopes: Slopes, gated: bool, bias: bool, dtype: torch.dtype
) -> None:
    case = replace(case, reflect=reflect)
    assume(min(case.places) > 0)
    assume(not reflect or all(pad < side for pad, side in zip(case.padding, case.sides, strict=True)))
    with computing(way):
        assert_dressed_right(case, op, slopes, gated, bias, dtype)


REFLECTED = {
    "residual": Case(2, 64, (32, 32), 64, (3, 3), padding=(1, 1)),
    "first": Case(1, 3, (40, 30), 16, (7, 7), padding=(3, 3)),
    "last": Case(1, 20, (30, 40), 3, (7, 7), padding=(3, 3)),
    "down": Case(3, 33, (12, 13), 20, (4, 4), (2, 2), (2, 1)),
    "all-but-one": Case(2, 5, (4, 3), 6, (2, 2), (1, 2), (3, 2)),
    "padding-beyond-kernel": Case(2, 5, (9, 9), 6, (2, 3), (2, 1), (4, 5)),
    "one-line": Case(1, 7, (1, 50), 5, (1, 3), padding=(0, 1)),
}


@needs_kernel
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", REFLECTED)
def test_layers_that_reflect(way: str, name: str, op: str) -> None:
    assert_dressed_right(replace(REFLECTED[name], reflect=True), op, (0.2, 0.0), True, True, F32)


@needs_kernel
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dress", ["relu", "leaky-gate", "relu-reflect"])
def test_the_same_bits_with_any_number_of_threads_however_dressed(way: str, dress: str, op: str) -> None:
    _, slopes, gated = DRESSES[dress]
    case = replace(SPLIT["bands-of-few"], reflect=DRESSES[dress][0].reflect)
    given, gate = leaves(case, op, gated, Case.dtype)
    results = []
    with torch.no_grad():
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(by_op(case, op, *given, slopes=slopes, gate=gate))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@needs_kernel
@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed"])
@pytest.mark.parametrize("op", ["values", "data"])
def test_a_gate_of_any_memory_order_and_one_that_is_no_number(way: str, op: str, layout: str) -> None:
    case = PLAIN[0]
    given, _ = leaves(case, op, False, Case.dtype)
    gate = drawn_gate(case, op)
    with torch.no_grad():
        found = by_op(case, op, *given, slopes=(0.2, 1.0), gate=lay_out(gate, layout))
        assert torch.equal(found, by_op(case, op, *given, slopes=(0.2, 1.0), gate=gate))
        opened = by_op(case, op, *given, slopes=(0.0, 1.0), gate=torch.full_like(gate, math.nan))
        assert torch.equal(opened, by_op(case, op, *given))


@needs_kernel
@pytest.mark.parametrize("op", OPS)
def test_a_slope_of_one_changes_nothing(way: str, op: str) -> None:
    case = PLAIN[0]
    given, gate = leaves(case, op, True, Case.dtype)
    with torch.no_grad():
        assert torch.equal(by_op(case, op, *given, gate=gate), by_op(case, op, *given))


# Enough products for three threads: bands of one picture, groups of pictures, cells of a wide weight.
SPLIT = {
    "bands": Case(1, 64, (50, 50), 64, (3, 3), padding=(1, 1)),
    "bands-of-few": Case(2, 33, (40, 41), 40, (4, 4), (2, 2), (1, 1)),
    "groups": Case(13, 32, (16, 16), 32, (3, 3)),
    "cells": Case(2, 128, (8, 8), 256, (4, 4)),
    "many-tasks-of-a-weight": Case(9, 100, (20, 20), 40, (3, 3), (2, 1)),
}


@needs_kernel
@pytest.mark.parametrize("name", SPLIT)
def test_the_same_bits_with_any_number_of_threads(way: str, name: str) -> None:
    case, results = SPLIT[name], []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(case.three(case.weight(), case.bias(case.narrow), case.bias(case.wide)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert_right(case)


@needs_kernel
@pytest.mark.parametrize("case", [*SPLIT.values(), LAYERS["first"], LAYERS["output-padding"]])
@pytest.mark.parametrize("form", ["dots", "tiles"])
def test_forms_agree(case: Case, form: str) -> None:
    weight, biases = case.weight(), (case.bias(case.narrow), case.bias(case.wide))
    with computing("portable"):
        portable = case.three(weight, *biases)
    with computing(form):
        vectors = case.three(weight, *biases)
    for a, b, sizes in zip(portable, vectors, case.exact(weight, *biases, F32), strict=True):
        away = (a.float() - b.float()).abs()
        # Sums on either side of a tie become neighbours in bfloat16; that is seldom.
        step = 0.0 if a.dtype == F32 else 2**-7
        assert bool((away <= step * b.float().abs() + 2**-20 * sizes).all())
        assert a.dtype == F32 or (away != 0).float().mean() < 0.01


@needs_kernel
@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed"])
def test_any_memory_order(way: str, layout: str) -> None:
    case = Case(3, 20, (9, 8), 18, (3, 2), (2, 1), (1, 1))
    x, y, weight, narrow_bias, wide_bias = (
        case.x(), case.y(), case.weight(), case.bias(case.narrow), case.bias(case.wide)
    )  # fmt: skip
    expected = case.three(weight, narrow_bias, wide_bias)
    x, y, weight = (lay_out(t.contiguous(), layout) for t in (x, y, weight))
    narrow_bias, wide_bias = (torch.stack((b, b * torch.nan), 1)[:, 0] for b in (narrow_bias, wide_bias))
    found = [
        convolution(x, weight, narrow_bias, *case.form),
        convolution_backward(y, weight, wide_bias, *case.form, case.sides),
        convolution_weights(x, y, *case.form, case.kernel),
    ]
    for mine, same in zip(found, expected, strict=True):
        assert torch.equal(mine, same)
        assert mine.stride() == same.stride()


@needs_kernel
def test_expanded_tensors(way: str) -> None:
    case = Case(3, 20, (9, 8), 18, (3, 2), (2, 1), (1, 1))
    x, y = case.x()[:1].expand(3, -1, -1, -1), torch.full((), 0.75, dtype=Case.dtype).expand(case.y().shape)
    weight, bias = case.weight()[:1].expand(18, -1, -1, -1), torch.tensor(0.5).expand(18)

    def three(*t: Tensor) -> list[Tensor]:
        x, y, weight, bias = t
        return [
            convolution(x, weight, bias, *case.form),
            convolution_backward(y, weight, None, *case.form, case.sides),
            convolution_weights(x, y, *case.form, case.kernel),
        ]

    pairs = zip(three(x, y, weight, bias), three(*(t.clone() for t in (x, y, weight, bias))), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# ----------------------------------------------------------------------------------------------------------------
# Numbers that are none

BAD = [math.nan, math.inf, -math.inf]
SPOILED = {
    "grey": Case(3, 1, (6, 6), 8, (3, 3)),
    "picture": Case(3, 3, (9, 9), 8, (7, 7)),
    "padded-picture": Case(3, 3, (6, 6), 8, (3, 3), padding=(1, 1)),
    "features": Case(3, 16, (6, 6), 8, (3, 3)),
    "down": Case(3, 16, (8, 8), 8, (4, 4), (2, 2), (1, 1)),
    "one-by-one": Case(3, 33, (6, 6), 17, (1, 1)),
    "stride-beyond-kernel": Case(3, 40, (7, 7), 33, (2, 2), (3, 3)),
    "whole-chunks": Case(3, 64, (6, 6), 32, (3, 3)),
}


def spoiled(picture: Tensor, bad: float, place: int) -> Tensor:
    """Return pictures of which the middle one has a bad number in each channel, at its first or its last place."""
    picture = picture.clone()
    picture[1, :, place, place] = bad
    return picture


def spoiled_places(case: Case, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return, for the values and the data gradient, which places are bad, and which of them see a bad number."""
    weight = case.weight()
    made = convolution(x, weight, None, *case.form), convolution_backward(y, weight, None, *case.form, case.sides)
    mark = (~x.isfinite()).double().requires_grad_()
    seen = F.conv2d(mark, torch.ones(weight.shape).double(), None, *case.form)
    (wide,) = torch.autograd.grad(seen, mark, (~y.isfinite()).double())
    return [((~t.isfinite()).any(1), (s > 0).any(1)) for t, s in zip(made, (seen, wide), strict=True)]


@pytest.mark.parametrize("transposed", [False, True])
def test_torchs_counter_counts_the_arithmetic(transposed: bool) -> None:
    """Twice 27 x 5 weights at 5 x 8 places of two samples: the layer, its data gradient and its weight gradient."""
    wide, narrow = torch.randn(2, 3, 9, 8), torch.randn(2, 5, 5, 8)
    x, weight = (narrow if transposed else wide).requires_grad_(), torch.randn(5, 3, 3, 3, requires_grad=True)
    form = ((2, 1), (1, 1))
    with FlopCounterMode(display=False) as own:
        if transposed:
            convolution_backward(x, weight, None, *form, (9, 8)).sum().backward()
        else:
            convolution(x, weight, None, *form).sum().backward()
    with FlopCounterMode(display=False) as theirs:
        (F.conv_transpose2d if transposed else F.conv2d)(x, weight, None, *form).sum().backward()
    once = 2 * (27 * 5) * (5 * 8) * 2
    assert own.get_total_flops() == 3 * once
    assert theirs.get_total_flops() == 3 * once


@needs_kernel
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_reaches_whoever_sees_it(way: str, bad: float, name: str, place: int) -> None:
    case = SPOILED[name]
    for found, seen in spoiled_places(case, spoiled(case.x(), bad, place), spoiled(case.y(), bad, place)):
        assert seen.any() or name == "stride-beyond-kernel"  # whose windows leave the last place out
        assert bool(found[seen].all())
        if name == "whole-chunks":
            assert torch.equal(found, seen)


@needs_kernel
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("bad", BAD)
def test_other_pictures_stay_clean(way: str, bad: float, name: str, place: int) -> None:
    case = SPOILED[name]
    for found, _ in spoiled_places(case, spoiled(case.x(), bad, place), spoiled(case.y(), bad, place)):
        assert not found[[0, 2]].any()


@needs_kernel
@pytest.mark.parametrize("name", ["padded-picture", "down"])
@pytest.mark.parametrize("op", ["values", "data"])
def test_a_bad_value_passes_activations_and_reflections_and_no_picture_of_others(way: str, op: str, name: str) -> None:
    case = replace(SPOILED[name], reflect=True)
    (first, weight, *_), _ = leaves(case, op, False, Case.dtype)
    first = spoiled(first.detach(), math.nan, 0)
    with torch.no_grad():
        made = by_op(case, op, first, weight, slopes=(0.0, 1.0))
    seen = by_torch(case, op, (~first.isfinite()).double(), torch.ones(weight.shape).double()) > 0
    bad = (~made.isfinite()).any(1)
    assert bool(bad[seen.any(1)].all())
    assert not bad[[0, 2]].any()


@needs_kernel
@pytest.mark.parametrize("channels", [1, 3, 8, 20])
def test_lines_far_from_a_bad_value_stay_clean(way: str, channels: int) -> None:
    """Products take 32 numbers, of which up to 31 are those of the places that follow, with weights of 0."""
    case = Case(1, channels, (20, 20), channels, (3, 3), padding=(1, 1))
    x, y = case.x(), case.y()
    for side in (x, y):
        side[0, :, 10, 10] = math.nan
    for found, seen in spoiled_places(case, x, y):
        assert bool(found[seen].all())
        assert not found[0, :7].any()  # 31 places are less than two lines
        assert not found[0, 12:].any()


@needs_kernel
@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_spoils_the_weights_of_its_channel_only(way: str, bad: float, name: str) -> None:
    case = SPOILED[name]
    x, y = case.x(), case.y()
    clean = convolution_weights(x, y, *case.form, case.kernel)
    for side, axis in ((0, 1), (1, 0)):
        both = [x.clone(), y.clone()]
        channel = both[side].shape[1] // 2
        both[side][1, channel, 0, 0] = bad
        found = convolution_weights(*both, *case.form, case.kernel)
        others = [c for c in range(found.shape[axis]) if c != channel]
        assert torch.equal(*(t.index_select(axis, torch.tensor(others).long()) for t in (found, clean)))
        seen = not case.padding[0] or side == 1  # otherwise some of the window's places never are over the corner
        assert (~found.select(axis, channel).isfinite()).any()
        assert bool((~found.select(axis, channel)[..., 0, 0].isfinite()).all()) or not seen


# ----------------------------------------------------------------------------------------------------------------
# Gradients


@pytest.fixture
def by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ops compute by their references, which take float64 too, under their own gradients."""
    references = {FORWARD: reference, BACKWARD: reference_backward, WEIGHTS: reference_weights}
    monkeypatch.setattr(registration, "below_autograd", lambda op, *given: references[op](*given))


DIFFERENTIATED = {
    "plain": Case(2, 2, (4, 3), 3, (2, 3), padding=(1, 1)),
    "stride": Case(1, 2, (5, 6), 2, (3, 2), (2, 3), (1, 0)),
    "stride-beyond-kernel": Case(2, 1, (6, 5), 2, (1, 2), (2, 3)),
}


@pytest.mark.usefixtures("by_reference")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_each_gradient_is_made_of_the_other_two(name: str, op: str) -> None:
    case = DIFFERENTIATED[name]
    x, y, weight, narrow_bias, wide_bias = (
        t.double().requires_grad_()
        for t in (case.x(), case.y(), case.weight(), case.bias(case.narrow), case.bias(case.wide))
    )

    def fn(*given: Tensor) -> Tensor:
        return by_op(case, op, *given)

    given = {"values": (x, weight, narrow_bias), "data": (y, weight, wide_bias), "weights": (x, y)}[op]
    torch.testing.assert_close(fn(*given), by_torch(case, op, *given), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(fn, given)
    assert torch.autograd.gradgradcheck(fn, given)


@pytest.mark.usefixtures("by_reference")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dress", DRESSES)
def test_gradients_through_activations_gates_and_reflections(dress: str, op: str) -> None:
    case, slopes, gated = DRESSES[dress]
    case = replace(Case(2, 2, (4, 3), 2, (2, 3), (1, 2), (1, 1)), reflect=case.reflect)
    given, gate = leaves(case, op, gated, torch.float64)

    def fn(*given: Tensor) -> Tensor:
        return by_op(case, op, *given, slopes=slopes, gate=gate)

    torch.testing.assert_close(fn(*given), by_torch(case, op, *given, slopes=slopes, gate=gate), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(fn, given)
    assert torch.autograd.gradgradcheck(fn, given)


@needs_kernel
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dress", ["plain", *DRESSES])
def test_first_and_second_order_by_the_kernel(way: str, dress: str, op: str) -> None:
    case, slopes, gated = DRESSES.get(dress, PLAIN)
    given, gate = leaves(case, op, gated, Case.dtype)

    def orders(call: Any, *given: Tensor, gate: Tensor | None) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in given]
        made = call(case, op, *leaves, slopes=slopes, gate=gate)
        scale = made.detach().double().std().item()
        first = torch.autograd.grad((made.double() / scale).sin().sum(), leaves, create_graph=True)
        penalty = sum((g.double().square().mean() for g in first), torch.zeros((), dtype=torch.float64))
        return [made, *first, *torch.autograd.grad(penalty, leaves)]

    found = orders(by_op, *given, gate=gate)
    exact = orders(by_torch, *(t.double() for t in given), gate=None if gate is None else gate.double())
    assert [t.dtype for t in found[1:]] == [t.dtype for t in given] * 2
    for mine, truth in zip(found, exact, strict=True):
        assert (mine.double() - truth).abs().max() <= 0.02 * truth.abs().max()


@needs_kernel
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize(("way", "dtype"), [("portable", F32), ("portable", BF16), ("baseline", F32)], indirect=["way"])
def test_opcheck(way: str, dtype: torch.dtype) -> None:
    case = Case(2, 5, (7, 6), 4, (3, 2), (2, 1), (1, 1))
    x, y = case.x().requires_grad_(), case.y().requires_grad_()
    weight = case.weight().to(dtype).requires_grad_()
    biases = [case.bias(channels).requires_grad_() for channels in (case.narrow, case.wide)]
    torch.library.opcheck(FORWARD, (x, weight, biases[0], *case.form, False, 0.2, None))
    torch.library.opcheck(FORWARD, (x, weight, None, *case.form, False, 0.0, y.detach().sin()))
    torch.library.opcheck(BACKWARD, (y, weight, biases[1], *case.form, list(case.sides), False, 1.0, None))
    torch.library.opcheck(WEIGHTS, (x, y, *case.form, list(case.kernel), True, 0.0, 0.2))


FAKED = [
    *DIFFERENTIATED.values(),
    Case(2, 1, (6, 5), 1, (2, 2)),
    Case(1, 3, (4, 4), 5, (4, 4)),
    Case(3, 4, (5, 5), 4, (1, 1)),
    Case(1, 1, (1, 1), 1, (1, 1)),
]


@needs_kernel
@pytest.mark.parametrize("op", OPS)
def test_a_fake_reflection_has_the_strides_of_the_real_one(op: str) -> None:
    case = Case(2, 1, (6, 5), 3, (3, 2), (2, 1), (2, 1), reflect=True)
    given, gate = leaves(case, op, True, Case.dtype)
    with torch.no_grad():
        real = by_op(case, op, *given, slopes=(0.0, 0.2), gate=gate)
    mode = FakeTensorMode()
    faked = [None if t is None else mode.from_tensor(t.detach()) for t in (*given, gate)]
    with mode, torch.no_grad():
        fake = by_op(case, op, *faked[:-1], slopes=(0.0, 0.2), gate=faked[-1])  # type: ignore[arg-type]
    assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


@pytest.mark.parametrize("case", FAKED, ids=str)
@pytest.mark.parametrize("dtype", [pytest.param(BF16, marks=needs_kernel), torch.float64])
def test_fake_kernels_make_what_the_real_ones_do(dtype: torch.dtype, case: Case) -> None:
    real = _three_by_reference(case) if dtype == torch.float64 else case.three(case.weight(), None, None)
    with FakeTensorMode():
        x = torch.empty(case.n, case.wide, *case.sides, dtype=dtype)
        y = torch.empty(case.n, case.narrow, *case.places, dtype=dtype)
        weight = torch.empty(case.narrow, case.wide, *case.kernel, dtype=torch.promote_types(dtype, F32))
        fake = [
            FORWARD(x, weight, None, *case.form, False, 1.0, None),
            BACKWARD(y, weight, None, *case.form, list(case.sides), False, 1.0, None),
            WEIGHTS(x, y, *case.form, list(case.kernel), False, 1.0, 1.0),
        ]
    for a, b in zip(fake, real, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        # The kernel's to the last; torch, by which the references go, leaves the stride of a side of one number open.
        counted = [k for k in range(4) if dtype == BF16 or a.shape[k] > 1]
        assert [a.stride(k) for k in counted] == [b.stride(k) for k in counted]


def _three_by_reference(case: Case) -> list[Tensor]:
    x, y, weight = case.x().double(), case.y().double(), case.weight().double()
    return [
        reference(x, weight, None, *case.form),
        reference_backward(y, weight, None, *case.form, case.sides),
        reference_weights(x, y, *case.form, case.kernel),
    ]


@settings(deadline=None, max_examples=30)
@given(case=CASES, bias=st.booleans())
def test_references_are_torchs(case: Case, bias: bool) -> None:
    case = replace(case, wide=min(case.wide, 3), narrow=min(case.narrow, 3))
    assume(min(case.places) > 0)
    weight = case.weight().bfloat16()
    biases = [case.bias(channels) if bias else None for channels in (case.narrow, case.wide)]
    x, y, w = case.x().double(), case.y().double(), weight.double()
    shifts = [None if b is None else b.double() for b in biases]
    found = [
        reference(x, w, shifts[0], *case.form),
        reference_backward(y, w, shifts[1], *case.form, case.sides),
        reference_weights(x, y, *case.form, case.kernel),
    ]
    for mine, truth in zip(found, case.exact(weight, *biases), strict=True):
        torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-11)


@settings(deadline=None, max_examples=40)
@given(
    case=CASES,
    op=st.sampled_from(OPS),
    reflect=st.booleans(),
    slopes=st.tuples(*[st.sampled_from([0.0, 0.2, 1.0])] * 2),
    gated=st.booleans(),
)
def test_references_of_activations_gates_and_reflections(
    case: Case, op: str, reflect: bool, slopes: Slopes, gated: bool
) -> None:
    case = replace(case, wide=min(case.wide, 3), narrow=min(case.narrow, 3), reflect=reflect)
    assume(min(case.places) > 0)
    assume(not reflect or all(pad < side for pad, side in zip(case.padding, case.sides, strict=True)))
    given, gate = leaves(case, op, gated, torch.float64)
    calls = {
        "values": lambda x, w, b=None: reference(x, w, b, *case.form, reflect, slopes[0], gate),
        "data": lambda y, w, b=None: reference_backward(y, w, b, *case.form, case.sides, reflect, slopes[0], gate),
        "weights": lambda x, y: reference_weights(x, y, *case.form, case.kernel, reflect, *slopes),
    }
    found, exact = calls[op](*given), by_torch(case, op, *given, slopes=slopes, gate=gate)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-11)


def test_the_ops_are_declared_where_no_kernels_are_loaded() -> None:
    command = "import torch, ganengine.ops; torch.ops.ganengine.convolution_weights"
    environment = {**os.environ, "GANENGINE_OPS": "reference"}
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------------------
# Wrong arguments

X, Y, W = (1, 2, 5, 5), (1, 3, 3, 3), (3, 2, 3, 3)
ONE, NONE = [1, 1], [0, 0]


def zeros(shape: Sequence[int], dtype: torch.dtype = BF16) -> Tensor:
    return torch.zeros(tuple(shape), dtype=dtype)


FAULTS: list[tuple[str, Any, tuple[Any, ...]]] = [
    (
        r"convolution: expected x of 4 dimensions, got \[2, 5, 5\]",
        convolution,
        (zeros(X[1:]), zeros(W), None, ONE, NONE),
    ),
    ("expected x to be float32 or bfloat16", convolution, (zeros(X, torch.float16), zeros(W), None, ONE, NONE)),
    (r"expected a weight of 4 dimensions, got \[2, 3, 3\]", convolution, (zeros(X), zeros(W[1:]), None, ONE, NONE)),
    ("expected a weight of float32, or of bf", convolution, (zeros(X), zeros(W, torch.float16), None, ONE, NONE)),
    ("expected a weight of float32, or of bf", convolution, (zeros(X, F32), zeros(W), None, ONE, NONE)),
    (r"expected bias \[3\], got \[2\]", convolution, (zeros(X), zeros(W), zeros([2], F32), ONE, NONE)),
    ("expected bias of another dtype", convolution, (zeros(X), zeros(W), zeros([3]), ONE, NONE)),
    ("expected x of 2 channels, got 4", convolution, (zeros((1, 4, 5, 5)), zeros(W), None, ONE, NONE)),
    ("expected stride and padding to be pairs", convolution, (zeros(X), zeros(W), None, [1], NONE)),
    ("expected stride and padding to be pairs", convolution, (zeros(X), zeros(W), None, ONE, [0] * 3)),
    ("expected a stride above 0", convolution, (zeros(X), zeros(W), None, [1, 0], NONE)),
    ("expected a stride above 0", convolution, (zeros(X), zeros(W), None, [-1, 1], NONE)),
    ("expected a padding of 0 or more", convolution, (zeros(X), zeros(W), None, ONE, [0, -1])),
    ("sides, channels and a kernel of at least 1", convolution, (zeros((0, *X[1:])), zeros(W), None, ONE, NONE)),
    ("sides, channels and a kernel of at least 1", convolution, (zeros((1, 2, 2, 5)), zeros(W), None, ONE, NONE)),
    ("sides, channels and a kernel of at least 1", convolution, (zeros(X), zeros((3, 2, 3, 0)), None, ONE, NONE)),
    ("sides, channels and a kernel of at least 1", convolution, (zeros(X), zeros((0, 2, 3, 3)), None, ONE, NONE)),
    (
        "convolution_backward: expected y of 4 dim",
        convolution_backward,
        (zeros(Y[1:]), zeros(W), None, ONE, NONE, [5, 5]),
    ),
    (
        "convolution_backward: expected y to be float32 or bf",
        convolution_backward,
        (zeros(Y, torch.float64), zeros(W), None, ONE, NONE, [5, 5]),
    ),
    (
        r"expected a weight of 4 dimensions, got \[3\]",
        convolution_backward,
        (zeros(Y), zeros([3]), None, ONE, NONE, [5, 5]),
    ),
    (r"expected bias \[2\], got \[3\]", convolution_backward, (zeros(Y), zeros(W), zeros([3], F32), ONE, NONE, [5, 5])),
    ("expected y of 3 channels, got 4", convolution_backward, (zeros((1, 4, 3, 3)), zeros(W), None, ONE, NONE, [5, 5])),
    ("expected a stride above 0", convolution_backward, (zeros(Y), zeros(W), None, [0, 1], NONE, [5, 5])),
    ("expected sides to be a pair", convolution_backward, (zeros(Y), zeros(W), None, ONE, NONE, [5])),
    (
        r"sides that give y its own, \[1, 3, 3, 3\], got 6",
        convolution_backward,
        (zeros(Y), zeros(W), None, ONE, NONE, [5, 6]),
    ),
    (
        r"sides that give y its own, \[1, 3, 3, 3\], got -5",
        convolution_backward,
        (zeros(Y), zeros(W), None, ONE, NONE, [-5, 5]),
    ),
    (
        "sides, channels and a kernel of at least 1",
        convolution_backward,
        (zeros((0, *Y[1:])), zeros(W), None, ONE, NONE, [5, 5]),
    ),
    ("convolution_weights: expected wide of 4 dim", convolution_weights, (zeros(X[1:]), zeros(Y), ONE, NONE, [3, 3])),
    ("expected wide to be float32 or b", convolution_weights, (zeros(X, torch.float16), zeros(Y), ONE, NONE, [3, 3])),
    ("expected narrow to be bfloat16 as", convolution_weights, (zeros(X), zeros(Y, F32), ONE, NONE, [3, 3])),
    ("expected narrow to be float32 as", convolution_weights, (zeros(X, F32), zeros(Y), ONE, NONE, [3, 3])),
    ("expected as many pictures on both sides", convolution_weights, (zeros((2, *X[1:])), zeros(Y), ONE, NONE, [3, 3])),
    ("expected a padding of 0 or more", convolution_weights, (zeros(X), zeros(Y), ONE, [-1, 0], [3, 3])),
    ("expected kernel to be a pair", convolution_weights, (zeros(X), zeros(Y), ONE, NONE, [3])),
    ("expected 4 places on the narrow side, got 3", convolution_weights, (zeros(X), zeros(Y), ONE, NONE, [3, 2])),
    (
        "sides, channels and a kernel of at least 1",
        convolution_weights,
        (zeros(X), zeros((1, 3, 6, 3)), ONE, NONE, [0, 3]),
    ),
    ("expected gate to be bfloat16 as", convolution, (zeros(X), zeros(W), None, ONE, NONE, False, 0.0, zeros(Y, F32))),
    (r"expected a gate \[1, 3, 3, 3\]", convolution, (zeros(X), zeros(W), None, ONE, NONE, False, 0.0, zeros(X))),
    (
        r"expected a gate \[1, 2, 5, 5\]",
        convolution_backward,
        (zeros(Y), zeros(W), None, ONE, NONE, [5, 5], False, 0.0, zeros(Y)),
    ),
    (
        "convolution: expected sides larger than the padding",
        convolution,
        (zeros(X), zeros(W), None, ONE, [5, 0], True),
    ),
    (
        "convolution_backward: expected sides larger",
        convolution_backward,
        (zeros((1, 3, 3, 13)), zeros(W), None, ONE, [0, 5], [5, 5], True),
    ),
    (
        "convolution_weights: expected sides larger",
        convolution_weights,
        (zeros(X), zeros((1, 3, 13, 3)), ONE, [5, 0], [3, 3], True),
    ),
    (
        "expected neither gate nor bias beside",
        convolution_backward,
        (zeros((1, 3, 5, 5)), zeros(W), zeros([2], F32), ONE, ONE, [5, 5], True),
    ),
    (
        "expected neither gate nor bias beside",
        convolution_backward,
        (zeros((1, 3, 5, 5)), zeros(W), None, ONE, ONE, [5, 5], True, 0.0, zeros(X)),
    ),
]


@needs_kernel
@pytest.mark.parametrize(
    ("message", "op", "arguments"), FAULTS, ids=[f"{n}-{m[:30]}" for n, (m, *_) in enumerate(FAULTS)]
)
def test_wrong_arguments_stop_before_memory_is_touched(message: str, op: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(RuntimeError, match=message):
        op(*arguments)


@pytest.mark.parametrize("beside", [(zeros([2], F32), 1.0, None), (None, 0.0, zeros(X))], ids=["bias", "gate"])
def test_the_reference_refuses_what_the_kernel_refuses(beside: tuple[Any, float, Any]) -> None:
    bias, slope, gate = beside
    with pytest.raises(RuntimeError, match="expected neither gate nor bias beside"):
        reference_backward(zeros((1, 3, 5, 5)), zeros(W), bias, ONE, ONE, [5, 5], True, slope, gate)


@needs_kernel
@pytest.mark.usefixtures("way")
def test_a_closed_gate_lets_nothing_through() -> None:
    x = torch.full((1, 32, 2, 2), -torch.inf, dtype=Case.dtype)  # a whole run: nothing of the neighbours is read
    one = torch.ones(1, 32, 1, 1)
    assert convolution(x, one, None, ONE, NONE, False, 0.0).tolist() == torch.zeros(1, 1, 2, 2).tolist()
    gate = torch.tensor([[[[-1.0, 0.0], [1.0, -2.0]]]], dtype=Case.dtype)
    passed = convolution(-x, one, None, ONE, NONE, False, 0.0, gate)
    assert passed.tolist() == [[[[0.0, 0.0], [torch.inf, 0.0]]]]


@needs_kernel
@pytest.mark.parametrize("isa", OF_FLOAT32)
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize(("wide", "narrow"), [(1, 32), (3, 48), (3, 20), (20, 3)])
def test_a_weight_gradient_in_float32_has_the_same_bits_behind_an_activation(
    wide: int, narrow: int, slope: float, isa: str
) -> None:
    """On either side, as if a layer of its own had stood in front."""
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(2, wide, 9, 9, generator=draw).contiguous(memory_format=torch.channels_last)
    y = torch.randn(2, narrow, 5, 5, generator=draw).contiguous(memory_format=torch.channels_last)
    form = ((2, 2), (1, 1), (3, 3), False)
    with computing(isa):
        behind = RAW.convolution_weights(x, y, *form, 1.0, slope)
        assert torch.equal(behind, RAW.convolution_weights(x, F.leaky_relu(y, slope), *form, 1.0, 1.0))
        behind = RAW.convolution_weights(x, y, *form, slope, 1.0)
        assert torch.equal(behind, RAW.convolution_weights(F.leaky_relu(x, slope), y, *form, 1.0, 1.0))
