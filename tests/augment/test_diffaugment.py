"""DiffAugment against its formulas, pixel by pixel in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.augment.diffaugment import DiffAugment, color, cutout, translation
from ganengine.config import RunOptions
from ganengine.errors import UserError

NUMBERS = st.floats(0.0, 1.0 - 2.0**-24, width=32)
CPU = torch.device("cpu")


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def row(**numbers: float) -> Tensor:
    """One sample's draws by name; those that are not named are in the middle."""
    names = ("brightness", "saturation", "contrast", "down", "right", "hole_row", "hole_column")
    return torch.tensor([[numbers.get(name, 0.5) for name in names]], dtype=torch.float64)


def test_in_the_middle_of_all_draws_color_and_translation_change_nothing() -> None:
    x = pictures(1, 3, 5, 7)
    torch.testing.assert_close(color(x, row()), x)
    assert torch.equal(translation(x, row()), x)


def test_brightness_is_added() -> None:
    x = pictures(1, 1, 2, 2)
    torch.testing.assert_close(color(x, row(brightness=0.75)), x + 0.25)


def test_saturation_stretches_each_pixel_about_its_mean_and_grey_has_none() -> None:
    x = torch.tensor([1.0, -0.5, 0.1], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    expected = [0.2 + 1.6 * 0.8, 0.2 + 1.6 * -0.7, 0.2 + 1.6 * -0.1]
    assert color(x, row(saturation=0.8))[0, :, 0, 0].tolist() == pytest.approx(expected)
    torch.testing.assert_close(color(x, row(saturation=0.0))[0, :, 1, 1], torch.full((3,), 0.2, dtype=torch.float64))
    grey = pictures(2, 1, 3, 3)
    torch.testing.assert_close(color(grey, row(saturation=0.0)), grey)


def test_contrast_stretches_a_picture_about_its_mean() -> None:
    x = pictures(1, 3, 4, 4)
    expected = x.mean() + 1.4 * (x - x.mean())
    torch.testing.assert_close(color(x, row(contrast=0.9)), expected)


def test_two_pictures_in_one_tensor_do_not_mix() -> None:
    x, draws = pictures(1, 6, 4, 4), row(brightness=0.1, saturation=0.9, contrast=0.2)
    apart = torch.cat((color(x[:, :3], draws), color(x[:, 3:], draws)), 1)
    torch.testing.assert_close(color(x, draws), apart)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 20), NUMBERS, NUMBERS)
def test_translation_is_by_whole_pixels_up_to_an_eighth_and_brings_in_zeros(
    height: int, width: int, down: float, right: float
) -> None:
    x = pictures(1, 2, height, width)
    found = translation(x, row(down=down, right=right))
    moves = []
    for side, u in ((height, down), (width, right)):
        most = int(side / 8 + 0.5)
        moves.append(int(u * (2 * most + 1)) - most)
        assert -most <= moves[-1] <= most
    expected = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            y, z = i - moves[0], j - moves[1]
            if 0 <= y < height and 0 <= z < width:
                expected[..., i, j] = x[..., y, z]
    assert torch.equal(found, expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 20), NUMBERS, NUMBERS)
def test_cutout_makes_a_hole_of_half_the_sides(height: int, width: int, u: float, v: float) -> None:
    x = pictures(1, 2, height, width)
    expected = x.clone()
    spans = []
    for side, number in ((height, u), (width, v)):
        size = int(side / 2 + 0.5)
        centre = int(number * (side + 1 - size % 2))
        spans.append(range(centre - size // 2, centre - size // 2 + size))
    for i in range(height):
        for j in range(width):
            if i in spans[0] and j in spans[1]:
                expected[..., i, j] = 0
    assert torch.equal(cutout(x, row(hole_row=u, hole_column=v)), expected)
    assert 0 in expected


def test_samples_have_draws_of_their_own() -> None:
    x = pictures(1, 3, 8, 8).expand(2, 3, 8, 8)
    draws = torch.cat((row(down=0.0), row(right=0.99, brightness=0.0)))
    augment = DiffAugment(RunOptions(), CPU)
    both = augment(x, draws)
    for n in range(2):
        assert torch.equal(both[n : n + 1], augment(x[n : n + 1], draws[n : n + 1]))
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize(
    ("policy", "parts"),
    [
        (None, (color, translation, cutout)),
        ("color", (color,)),
        ("cutout, translation", (translation, cutout)),
        ("none", ()),
    ],
)
def test_a_policy_chooses_groups_and_not_their_order(policy: str | None, parts: tuple) -> None:
    x, draws = pictures(1, 3, 9, 9), row(brightness=0.2, down=0.9, right=0.1, hole_row=0.3)
    expected = x
    for part in parts:
        expected = part(expected, draws)
    assert torch.equal(DiffAugment(RunOptions(augment_policy=policy), CPU)(x, draws), expected)


def test_a_wrong_policy_is_refused() -> None:
    options = RunOptions(augment="diffaugment", augment_policy="color,translaton")
    with pytest.raises(
        UserError, match=r"expected some of color,translation,cutout .* \"color,translaton\".*translation"
    ):
        DiffAugment(options, CPU)


def test_gradients_are_right_to_second_order() -> None:
    x = pictures(2, 3, 4, 3).requires_grad_()
    draws = torch.rand(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    augment = DiffAugment(RunOptions(), CPU)
    assert torch.autograd.gradcheck(lambda a: augment(a, draws), x)
    assert torch.autograd.gradgradcheck(lambda a: augment(a, draws), x)


def test_channels_last_and_plain_pictures_come_out_equal() -> None:
    x, draws = pictures(2, 6, 8, 8), torch.rand(2, 7, dtype=torch.float64)
    augment = DiffAugment(RunOptions(), CPU)
    other = augment(x.contiguous(memory_format=torch.channels_last), draws)
    np.testing.assert_allclose(other.numpy(), augment(x, draws).numpy(), atol=1e-12)
