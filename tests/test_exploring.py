"""What is drawn from a generator, and the numbers beside it, on generators whose answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganengine import exploring
from ganengine.variant import Part, Prior


def bump(z: Tensor, y: Tensor | None) -> Tensor:
    """A square whose place follows z[0] and whose brightness follows the class."""
    pictures = torch.full((len(z), 1, 8, 8), -1.0)
    for index, place in enumerate(z[:, 0].clamp(0, 5).round().int().tolist()):
        pictures[index, 0, 2:5, place : place + 3] = 1.0 if y is None else float((y[index] * torch.arange(3)).sum() / 2)
    return pictures


def test_a_class_grid_tells_what_is_listened_to() -> None:
    z = torch.tensor([[0.0], [3.0]])
    sheet = exploring.by_class(bump, z, 3)
    assert sheet.columns == 2
    assert torch.equal(sheet.pictures[:2], bump(z, torch.eye(3)[:1].repeat(2, 1)))
    assert sheet.numbers["within_class"] > 0.01
    assert sheet.numbers["between_classes"] > 0.01


def test_ablations() -> None:
    z = torch.tensor([[1.0], [4.0]])
    without_noise = exploring.ablated(bump, z, 3, "noise")
    assert without_noise.numbers["within_class"] == 0  # with z = 0 all columns are equal by definition
    assert without_noise.numbers["between_classes"] > 0
    without_label = exploring.ablated(bump, z, 3, "label")
    assert without_label.numbers["between_classes"] == 0
    assert without_label.numbers["within_class"] > 0


def test_a_generator_that_moves_is_told_from_one_that_fades() -> None:
    z = torch.tensor([[1.0], [4.0]])  # inside, where no edge is cut off
    moving = exploring.interpolated(bump, z, None, 3, "linear").numbers
    assert moving["edges_mid"] == pytest.approx(1.0)
    assert moving["edges_blend"] < 1.0

    ends = bump(z, None)

    def fading(z: Tensor, y: Tensor | None) -> Tensor:
        share = ((z[:, 0] - 1) / 3).reshape(-1, 1, 1, 1)
        return (1 - share) * ends[:1] + share * ends[1:]

    faded = exploring.interpolated(fading, z, None, 3, "linear").numbers
    assert faded["edges_mid"] == pytest.approx(faded["edges_blend"])


def test_a_generator_that_replays_is_caught() -> None:
    source = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.rand((40, 1, 6, 6), generator=source) * 2 - 1 for _ in range(3))
    copied = exploring.neighbours(train[:8] + 1e-3, train, held_out)
    assert copied.numbers["ratio"] < 0.1
    assert copied.columns == 1 + exploring.NEAREST
    assert torch.equal(copied.pictures[1], train[0])
    honest = exploring.neighbours(fresh, train, held_out)
    assert 0.8 < honest.numbers["ratio"] < 1.25


def test_distances_are_root_mean_squares_on_0_to_1() -> None:
    a, b = torch.full((1, 1, 4, 4), -1.0), torch.full((1, 1, 4, 4), 1.0)
    distances, places = exploring.nearest(a, b, 1)
    assert distances.item() == pytest.approx(1.0)
    assert places.item() == 0


def test_morphing_starts_and_ends_at_a_class() -> None:
    sheet = exploring.morphed(bump, torch.zeros(2, 1), (0, 2), 3, 5)
    ends = sheet.pictures.reshape(2, 5, 1, 8, 8)
    assert ends[0, 0, 0, 3, 1] == 0.0
    assert ends[0, -1, 0, 3, 1] == 1.0
    assert ends[0, 2, 0, 3, 1] == pytest.approx(0.5)


PARTS = Prior.of(Part("noise", 1), Part("category", 3, "categorical"), Part("codes", 2, "uniform"))


def listening(z: Tensor, y: Tensor | None) -> Tensor:
    """A picture of two pixels: the category, and noise plus the first code; the second code changes nothing."""
    parts = PARTS.split(z)
    category = parts["category"] @ torch.tensor([-1.0, 0.0, 1.0])
    moved = parts["noise"][:, 0] / 4 + parts["codes"][:, 0] / 4
    return torch.stack((category, moved), 1).reshape(-1, 1, 1, 2)


def test_a_sweep_of_a_category_has_a_row_for_each_value() -> None:
    z = torch.tensor([[0.0, 0, 1, 0, 0, 0], [1.0, 1, 0, 0, 0, 0]])
    (name, sheet), *others = exploring.swept(listening, z, None, PARTS, "category", 5).items()
    assert (name, sheet.columns, others) == ("category", 2, [])
    assert sheet.pictures[:, 0, 0, 0].tolist() == [-1, -1, 0, 0, 1, 1]
    assert sheet.pictures[:, 0, 0, 1].tolist() == [0, 0.25] * 3
    # over -1, 0, 1 a pixel deviates by sqrt(2/3), over 0 and 1/4 by 1/8; mean of two pixels, on half of the range
    assert sheet.numbers["of_part"] == pytest.approx((2 / 3) ** 0.5 / 4)
    assert sheet.numbers["of_rest"] == pytest.approx(1 / 8 / 4)


def test_a_sweep_of_numbers_has_a_sheet_for_each() -> None:
    z = torch.tensor([[0.0, 0, 1, 0, 9, 9], [1.0, 1, 0, 0, 9, 9]])
    sheets = exploring.swept(listening, z, None, PARTS, "codes", 5)
    assert list(sheets) == ["codes-1", "codes-2"]
    first = sheets["codes-1"]
    assert first.columns == 5
    assert first.pictures[:5, 0, 0, 1].tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    assert first.pictures[5:, 0, 0, 1].tolist() == [-0.25, 0, 0.25, 0.5, 0.75]
    assert first.numbers["of_part"] == pytest.approx(2**0.5 / 4 / 4)
    assert sheets["codes-2"].numbers["of_part"] == 0
    assert sheets["codes-2"].numbers["of_rest"] > 0


def test_a_sweep_keeps_the_class_of_each_latent() -> None:
    asked: list[Tensor] = []

    def draw(z: Tensor, y: Tensor | None) -> Tensor:
        assert y is not None
        asked.append(y.argmax(1))
        return torch.zeros(len(z), 2)

    z, y = torch.zeros(2, 6), torch.eye(2)
    sheets = exploring.swept(draw, z, y, PARTS, "noise", 3) | exploring.swept(draw, z, y, PARTS, "category", 3)
    assert [one.tolist() for one in asked] == [[0, 0, 0, 1, 1, 1], [0, 1] * 3]
    assert all(sheet.numbers == {} for sheet in sheets.values())  # points have no pixels
