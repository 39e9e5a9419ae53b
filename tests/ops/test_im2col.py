"""Patches and their sums against torch's unfold and fold, and against each other: they are adjoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ganengine.ops import dispatch
from ganengine.ops.im2col import BACKWARD, FORWARD, col2im, im2col, reference, reference_backward

PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))
FORMS = st.fixed_dictionaries(
    {"kernel": PAIR, "stride": PAIR, "padding": st.tuples(st.integers(0, 2), st.integers(0, 2))}
)
SIDES = st.tuples(st.integers(1, 6), st.integers(1, 6))
CHANNELS = st.sampled_from([1, 3, 16, 37, 130])


def places_of(sides: tuple[int, int], form: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return how many places a convolution has."""
    found = [(sides[i] + 2 * form["padding"][i] - form["kernel"][i]) // form["stride"][i] + 1 for i in (0, 1)]
    return found[0], found[1]


def picture(n: int, sides: tuple[int, int], channels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(channels)
    return torch.randn(n, *sides, channels, generator=draw, dtype=torch.float64).to(dtype)


@settings(deadline=None, max_examples=60)
@given(form=FORMS, sides=SIDES, channels=CHANNELS)
def test_patches_are_torchs(form: dict[str, Any], sides: tuple[int, int], channels: int) -> None:
    places = places_of(sides, form)
    assume(min(places) > 0)
    x = picture(2, sides, channels)
    unfolded = F.unfold(x.permute(0, 3, 1, 2), form["kernel"], 1, form["padding"], form["stride"])
    expected = (
        unfolded.view(2, channels, -1, places[0] * places[1]).permute(0, 3, 2, 1).reshape(-1, unfolded[0, :, 0].numel())
    )
    assert torch.equal(im2col(x, **form, places=places), expected)
    assert torch.equal(reference(x, **form, places=places), expected)
    summed = F.fold(unfolded, sides, form["kernel"], 1, form["padding"], form["stride"]).permute(0, 2, 3, 1)
    for fold in (col2im, reference_backward):
        torch.testing.assert_close(fold(expected, x.shape, **form, places=places), summed, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(form=FORMS, sides=SIDES, places=SIDES)
def test_adjoint_wherever_the_places_lie(form: dict[str, Any], sides: tuple[int, int], places: tuple[int, int]) -> None:
    """Places beyond the picture see zeros: what output padding of a transposed convolution asks for."""
    x = picture(1, sides, 2)
    patches = im2col(x, **form, places=places)
    other = patches.sin() + 1
    torch.testing.assert_close((patches * other).sum(), (x * col2im(other, x.shape, **form, places=places)).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [1, 5, 16, 40, 256])
def test_sums_are_rounded_once(dtype: torch.dtype, channels: int) -> None:
    form: dict[str, Any] = {"kernel": (5, 5), "stride": (2, 2), "padding": (2, 2), "places": (3, 3)}
    patches = torch.randn(2 * 9, 25 * channels).to(dtype)
    exact = reference_backward(patches.double(), (2, 6, 6, channels), **form)
    found = col2im(patches, (2, 6, 6, channels), **form)
    assert found.dtype == dtype
    step = torch.finfo(dtype).eps
    assert bool(((found.double() - exact).abs() <= step * exact.abs() + 1e-5).all())


def test_gradients_of_any_order() -> None:
    form = ([2, 3], [2, 1], [1, 0], [2, 2])
    x = picture(2, (3, 4), 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: im2col(x, *form).sin(), (x,))
    assert torch.autograd.gradgradcheck(lambda x: im2col(x, *form).sin(), (x,))
    patches = im2col(x.detach(), *form).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda p: col2im(p, [2, 3, 4, 2], *form).sin(), (patches,))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
def test_opcheck() -> None:
    x = picture(2, (3, 4), 2).requires_grad_()
    form = ([2, 3], [2, 1], [1, 0], [2, 2])
    torch.library.opcheck(FORWARD, (x, *form))
    torch.library.opcheck(BACKWARD, (im2col(x.detach(), *form).requires_grad_(), [2, 3, 4, 2], *form))


@pytest.mark.skipif(not dispatch.compiled("im2col", "cpu"), reason="no compiled CPU kernels")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3, 3), [1, 1], [1, 1], [0, 0], [3, 3]), r"expected x \[N, H, W, C\]"),
        ((torch.zeros(1, 3, 3, 1), [1], [1, 1], [0, 0], [3, 3]), "to be pairs"),
        ((torch.zeros(1, 3, 3, 1), [0, 1], [1, 1], [0, 0], [3, 3]), "kernel and stride above 0"),
        ((torch.zeros(1, 3, 3, 1), [1, 1], [1, 1], [-1, 0], [3, 3]), "0 or more"),
    ],
)
def test_wrong_arguments_stop_before_memory_is_touched(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        FORWARD(*arguments)
    with pytest.raises(RuntimeError, match=r"im2col_backward: expected patches \[9, 4\]"):
        BACKWARD(torch.zeros(9, 5), [1, 3, 3, 4], [1, 1], [1, 1], [0, 0], [3, 3])
