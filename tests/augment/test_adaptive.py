"""Adaptive augmentation: each transformation against one worked out otherwise, and the steering of p by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.augment.adaptive import AdaptiveAugment
from ganengine.augment.resample import resample
from ganengine.config import RunOptions
from ganengine.errors import UserError

CPU = torch.device("cpu")
NUMBERS = st.floats(0.01, 0.99)

# Columns of the draws: what is drawn, and which column decides whether it is done.
COLUMNS = {
    "mirror": (0, 1), "quarters": (2, 3), "pixels_right": (4, 6), "pixels_down": (5, 6),
    "scale": (7, 8), "before": (9, 10), "stretch": (11, 12), "after": (13, 14), "right": (15, 17), "down": (16, 17),
    "brightness": (18, 19), "contrast": (20, 21), "luma": (22, 23), "hue": (24, 25), "saturation": (26, 27),
}  # fmt: skip


def draws(**numbers: float) -> Tensor:
    """Draws of one sample in which just the named transformations take place (for 0 < p < 1)."""
    row = torch.full((1, 28), 1 - 2.0**-24, dtype=torch.float64)
    for name, number in numbers.items():
        column, gate = COLUMNS[name]
        row[0, column], row[0, gate] = number, 0.0
    if {"pixels_right", "pixels_down"} & set(numbers):
        row[0, 4], row[0, 5] = numbers.get("pixels_right", 0.5), numbers.get("pixels_down", 0.5)
    if {"right", "down"} & set(numbers):
        row[0, 15], row[0, 16] = numbers.get("right", 0.5), numbers.get("down", 0.5)
    return row


def augment(p: float = 0.5, **options: object) -> AdaptiveAugment:
    made = AdaptiveAugment(RunOptions(augment="ada", **options), CPU)  # type: ignore[arg-type]
    made.p = torch.tensor(p)
    return made


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def z(u: float) -> float:
    """The normal number of a draw."""
    return NormalDist().inv_cdf(u + 2.0**-25)


def close(a: Tensor, b: Tensor | np.ndarray) -> None:
    np.testing.assert_allclose(a.detach().numpy(), np.asarray(b), atol=1e-7)


# -- pixels ---------------------------------------------------------------------------------------------------------


def test_where_nothing_takes_place_pictures_stay() -> None:
    x = pictures(3, 3, 6, 8)
    close(augment(0.0)(x, torch.rand(3, 28, dtype=torch.float64)), x)
    close(augment(0.5)(x, draws().expand(3, 28)), x)


def test_pixels_are_mirrored_turned_and_moved() -> None:
    x = pictures(2, 3, 8, 8)
    close(augment()(x, draws(mirror=0.7).expand(2, 28)), x.flip(3))
    close(augment()(x, draws(mirror=0.3).expand(2, 28)), x)  # half of those that are chosen
    for quarters in range(4):
        turned = augment()(x, draws(quarters=(quarters + 0.5) / 4).expand(2, 28))
        close(turned, torch.rot90(x, -quarters, (2, 3)))
    # (2 u - 1) / 8 of 8 pixels: 1 at most; mirrored at the edge.
    moved = augment()(x, draws(pixels_right=0.9, pixels_down=0.1).expand(2, 28))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), "symmetric")
    close(moved, padded[:, :, 2:10, 0:8])


def test_mirroring_comes_before_turning() -> None:
    x = pictures(1, 1, 6, 6)
    close(augment()(x, draws(mirror=0.7, quarters=0.4)), torch.rot90(x.flip(3), -1, (2, 3)))


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 6), st.integers(2, 6), st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_resampling_is_bilinear_and_mirrors_at_the_edges(height: int, width: int, entries: list[float]) -> None:
    x = pictures(1, 1, height, width)
    matrix = torch.tensor([*entries, 0, 0, 1], dtype=torch.float64).view(1, 3, 3)

    def pixel(i: int, j: int) -> float:
        def inside(k: int, n: int) -> int:
            k %= 2 * n
            return min(k, 2 * n - 1 - k)

        return float(x[0, 0, inside(i, height), inside(j, width)])

    expected = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            place = np.array([j - (width - 1) / 2, i - (height - 1) / 2, 1.0])
            across, down = matrix[0].numpy()[:2] @ place + [(width - 1) / 2, (height - 1) / 2]
            left, top = math.floor(across), math.floor(down)
            a, b = across - left, down - top
            expected[i, j] = (1 - b) * ((1 - a) * pixel(top, left) + a * pixel(top, left + 1)) + b * (
                (1 - a) * pixel(top + 1, left) + a * pixel(top + 1, left + 1)
            )
    np.testing.assert_allclose(resample(x, matrix)[0, 0].numpy(), expected, atol=1e-9)


# -- geometry -------------------------------------------------------------------------------------------------------


def turn(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


@settings(deadline=None, max_examples=25)
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_geometry_undoes_the_product_of_its_transformations(
    scale: float, before: float, stretch: float, after: float, right: float, down: float
) -> None:
    x = pictures(1, 2, 6, 9)
    found = augment()(x, draws(scale=scale, before=before, stretch=stretch, after=after, right=right, down=down))
    s, t = 2 ** (0.2 * z(scale)), 2 ** (0.2 * z(stretch))
    shift = np.array([[1, 0, z(right) / 8 * 9], [0, 1, z(down) / 8 * 6], [0, 0, 1]])
    forward = (
        shift
        @ turn((2 * after - 1) * math.pi)
        @ np.diag([t, 1 / t, 1])
        @ turn((2 * before - 1) * math.pi)
        @ np.diag([s, s, 1])
    )
    close(found, resample(x, torch.from_numpy(np.linalg.inv(forward))[None]))


# -- color ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(NUMBERS, NUMBERS, st.sampled_from([0.2, 0.8]), NUMBERS, NUMBERS)
def test_color_is_the_product_of_matrices(
    brightness: float, contrast: float, luma: float, hue: float, saturation: float
) -> None:
    x = pictures(2, 6, 3, 4)
    numbers = {"brightness": brightness, "contrast": contrast, "luma": luma, "hue": hue, "saturation": saturation}
    found = augment()(x, draws(**numbers).expand(2, 28))
    grey = np.full((3, 3), 1 / 3)
    angle = (2 * hue - 1) * math.pi
    v = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    rotation = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * grey
    flip = np.eye(3) - 2 * grey * (luma >= 0.5)
    rich = grey + (np.eye(3) - grey) * 2 ** z(saturation)
    whole = rich @ rotation @ flip * 2 ** (0.5 * z(contrast))
    for picture in (slice(0, 3), slice(3, 6)):
        lit = x[:, picture].numpy() + 0.2 * z(brightness)
        close(found[:, picture], np.einsum("ij,njhw->nihw", whole, lit))
    one = augment()(x[:, :1], draws(**numbers).expand(2, 28))
    lit = x[:, :1].numpy() + 0.2 * z(brightness)
    close(one, lit * 2 ** (0.5 * z(contrast)) * (-1 if luma >= 0.5 else 1))


# -- all of it ------------------------------------------------------------------------------------------------------


def test_gradients_are_right_to_second_order() -> None:
    x = pictures(2, 3, 2, 3).requires_grad_()
    numbers = torch.rand(2, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    changed = augment(0.8)
    assert not torch.allclose(changed(x, numbers), x)
    assert torch.autograd.gradcheck(lambda a: changed(a, numbers), x)
    assert torch.autograd.gradgradcheck(lambda a: changed(a, numbers), x)


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_each_transformation_takes_place_as_often_as_p_says(p: float) -> None:
    x = torch.tensor([0.2, -0.3, 0.9]).view(1, 3, 1, 1).expand(4000, 3, 2, 2)
    numbers = torch.rand(4000, 28, generator=torch.Generator().manual_seed(4))
    changed = augment(p, augment_policy="color")(x, numbers)
    same = (changed - x).abs().amax((1, 2, 3)) < 1e-6
    # brightness, contrast, hue and saturation show whenever they take place, the luma in half of the cases
    assert float(same.double().mean()) == pytest.approx((1 - p) ** 4 * (1 - p / 2), abs=0.02)


def test_a_policy_leaves_groups_out() -> None:
    x = pictures(1, 3, 6, 6)
    numbers = draws(mirror=0.7, scale=0.9, brightness=0.9)
    close(augment(augment_policy="blit")(x, numbers), x.flip(3))
    close(augment(augment_policy="color")(x, numbers), x + 0.2 * z(0.9))
    with pytest.raises(UserError, match=r"expected some of blit,geometry,color .* got \"cutout\""):
        augment(augment_policy="cutout")


# -- p --------------------------------------------------------------------------------------------------------------


def test_p_moves_once_in_four_readings_by_their_images() -> None:
    made = AdaptiveAugment(RunOptions(augment="ada", ada_target=0.5, ada_images=1000), CPU)
    for signs, p, r in [
        (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.08, 0.75),
        (1.0, 0.08, 0.75), (1.0, 0.08, 0.75), (-1.0, 0.08, 0.75), (0.0, 0.0, 0.25),  # down by as much
        (-1.0, 0.0, 0.25), (-1.0, 0.0, 0.25), (-1.0, 0.0, 0.25), (-1.0, 0.0, -1.0),  # never below 0
    ]:  # fmt: skip
        made.adapt(torch.tensor(signs), 20)
        assert (float(made.p), float(made.r)) == (pytest.approx(p), pytest.approx(r))
    assert {name: float(value) for name, value in made.readings().items()} == {"ada_p": 0.0, "ada_r": -1.0}


def test_steps_without_a_reading_count_their_images_and_p_has_a_limit() -> None:
    made = AdaptiveAugment(RunOptions(augment="ada", ada_images=1000), CPU)
    for _ in range(4):
        made.adapt(None, 50)
        made.adapt(torch.tensor(1.0), 50)
    assert float(made.p) == pytest.approx(0.4)
    for _ in range(12):
        made.adapt(torch.tensor(1.0), 100)
    assert float(made.p) == pytest.approx(0.8)


def test_state_goes_on_where_it_was() -> None:
    one, other = (AdaptiveAugment(RunOptions(augment="ada", ada_images=1000), CPU) for _ in range(2))
    signs = [torch.tensor(s) for s in (1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.25, 1.0, 1.0)]
    for s in signs[:6]:
        one.adapt(s, 30)
    other.load_state_dict(one.state_dict())
    for made in (one, other):
        for s in signs[6:]:
            made.adapt(s, 30)
    assert repr(one.state_dict()) == repr(other.state_dict())
    assert float(one.p) > 0.2
