"""Which precision a trained run is used in: the fast one where nobody sees a difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganengine.data.batch import Batch
from ganengine.hardware import Hardware
from ganengine.precision import PROBED, settle
from ganengine.sampling import Sampler
from ganengine.step import Step
from ganengine.variant import DataSpec, FieldSpec, Prior, Progress, View

CPU = torch.device("cpu")
SPEC = DataSpec(
    {
        "A": FieldSpec("image", (3, 16, 16)),
        "B": FieldSpec("image", (1, 16, 16)),
        "label": FieldSpec("label", (), num_classes=3),
        "captions": FieldSpec("ids", (2, 32)),
    },
    count=4,
)
SMOOTH, HARSH = 1.0, 500.0
"""Factors on what a network gives: 8 significant bits suffice for the first; of the second only the size is left."""


def sampler(precision: str = "bf16", seed: int = 0) -> Sampler:
    network = nn.Conv2d(3, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.randn(network.weight.shape, generator=torch.Generator().manual_seed(0)))
    return Sampler({"G": network}, {}, Hardware(CPU, 1, precision, True), seed, Progress(1, 4, 100, 0, 4))


def paint(step: Step, x: Tensor, factor: float) -> Tensor:
    painted: Tensor = (step.G(x) * factor).sin()
    return painted


def translation(factor: float) -> View:
    return View(lambda step, images: paint(step, images, factor), "A -> B", kind="translate", multiple=8, minimum=24)


def samples(factor: float, **options: Any) -> View:
    prior = Prior((3, 16, 16))
    return View(lambda step, z, y: paint(step, z, factor), "samples", kind="sample", prior=prior, **options)


def grid(factor: float) -> View:
    def make(step: Step, n: int) -> dict[str, Tensor]:
        x = step.batch["A"][:n]
        return {"input": x, "output": paint(step, x, factor), "truth": step.batch["B"][:n]}

    return View(make, "rows", kind="grid")


GIVEN = Batch(
    {"A": torch.linspace(-1, 1, 4 * 768).reshape(4, 3, 16, 16), "B": torch.zeros(4, 1, 16, 16)}, torch.arange(4)
)
VIEWS: dict[str, Callable[[float], View]] = {
    "translate": translation,
    "sample": samples,
    "of classes": lambda factor: samples(factor, label="label"),
    "of captions": lambda factor: samples(factor, text="captions"),
    "grid": grid,
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_fast_one_where_the_difference_is_less_than_a_level(name: str) -> None:
    used = sampler()
    told = settle(used, VIEWS[name](SMOOTH), SPEC, 16, GIVEN)
    assert used.hardware == sampler().hardware
    assert told.startswith("bf16: pictures differ from those in fp32 by 0.")
    assert 0 < float(told.split()[8]) < 1


@pytest.mark.parametrize("name", VIEWS)
def test_float32_where_it_is_more(name: str) -> None:
    used = sampler()
    told = settle(used, VIEWS[name](HARSH), SPEC, 16, GIVEN)
    assert used.hardware == sampler("fp32").hardware
    assert told.startswith("fp32: in bf16 pictures would differ by ")
    assert float(told.split()[7]) > 1


def test_float32_where_the_difference_is_no_number() -> None:
    used = sampler()
    view = View(lambda step, images: step.G(images) / 0 * 0, "nothing", kind="translate")
    assert settle(used, view, SPEC, 16).startswith("fp32: in bf16 pictures would differ by nan")
    assert used.hardware.precision == "fp32"


def test_what_is_no_picture_is_made_in_float32() -> None:
    points = View(lambda step, z, y: z[:, :2, 0, 0], "points", kind="sample", prior=Prior((3, 16, 16)))
    futures = View(lambda step, z: z, "paths", kind="forecast", prior=Prior((2,)))
    for view in (points, futures):
        used = sampler()
        assert settle(used, view, SPEC, 16, GIVEN) == ""
        assert used.hardware.precision == "fp32"


def test_float32_is_left_alone_and_nothing_is_computed() -> None:
    used = sampler("fp32")
    assert settle(used, View(lambda *_: 1 / 0, "never made", kind="translate"), SPEC, 16) == ""


def test_the_choice_follows_from_the_networks_alone() -> None:
    seen: list[Tensor] = []
    view = View(lambda step, x: seen.append(x) or step.G(x), "A -> B", kind="translate")
    for _ in range(2):
        torch.randn(3)  # the global generator is elsewhere each time
        settle(sampler(), view, SPEC, 20)
    assert all(x.shape == (PROBED, 3, 20, 20) and x.abs().max() <= 1 for x in seen)
    assert all(torch.equal(x, seen[0]) for x in seen)


def test_exact_translations_are_those_of_float32() -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    view = translation(SMOOTH)
    fast, plain = (sampler(name).translate(view, x, ["a", "b"]) for name in ("bf16", "fp32"))
    assert torch.equal(sampler("bf16").translate(view, x, ["a", "b"], exact=True), plain)
    assert not torch.equal(fast, plain)
