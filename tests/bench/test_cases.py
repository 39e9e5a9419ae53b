"""The case table: what must be in it, and that every function of a case computes the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from ganengine.bench import (
    conditional_batch_norm,
    convolution,
    im2col,
    instance_norm,
    maxout,
    merged_kernels,
    null,
    patchgan_loss,
    skinny_product,
    spectral_norm,
)
from ganengine.bench.case import BOTH, FORWARD, PASSES, Case, passes, results
from ganengine.bench.cases import MODULES, cases
from ganengine.bench.equality import TOLERANCE, max_error
from ganengine.commands.bench import _Options
from ganengine.nn import convolution as layers
from ganengine.ops.dispatch import LAYERS, OPS

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
F32, BF16 = torch.float32, torch.bfloat16

SMALL = [
    *(conditional_batch_norm.case((4, 6, 5, 5), d, m) for d in (F32, BF16) for m in ("contiguous", "channels_last")),
    *(patchgan_loss.case(side, 2, scales, d) for side in "DG" for scales in ((6,), (6, 3, 1)) for d in (F32, BF16)),
    *(maxout.case(64, 7, 20, pieces, d) for pieces in (4, 5) for d in (F32, BF16)),
    *(instance_norm.case((n, 6, 8, 8), d) for n in (1, 3) for d in (F32, BF16)),
    *(im2col.case((1, 64, 4, 4, 48), d, m) for d in (F32, BF16) for m in ("contiguous", "channels_last")),
    *(
        convolution.case(replace(layer, shape=(2, layer.shape[1], 8, 8, 5)), d)
        for layer in convolution.LAYERS[1:]
        for d in (F32, BF16)
    ),
    *(spectral_norm.case(shape) for shape in ((6, 5, 3, 3), (20, 9))),
    *(merged_kernels.case((6, 5), repeats) for repeats in (False, True)),
    skinny_product.case((3, 10, 21)),
    null.case(2),
]


def test_every_op_is_there() -> None:
    assert set(MODULES) == {*OPS, *LAYERS, "null"}
    assert set(get_args(get_type_hints(_Options)["op"])[0].__args__) == set(MODULES)
    for op in (*OPS, *LAYERS):
        assert (ROOT / "benches" / "ops" / f"bench_{op}.py").is_file()
        assert f"`{op}`" in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_the_sizes_that_are_promised_are_there() -> None:
    found = {(c.op, c.shape, c.dtype, c.layout) for c in cases()}
    for shape in ((64, 256, 32, 32), (64, 512, 8, 8), (64, 64, 64, 64), (16, 1024, 4, 4)):
        for layout in ("contiguous", "channels_last"):
            assert {("conditional_batch_norm", shape, d, layout) for d in (F32, BF16)} <= found
    for n in (1, 4, 16, 64, 256):
        assert ("patchgan_loss", (n, 1, 30, 30), F32, "contiguous") in found
        assert ("null", (n, 1, 30, 30), F32, "contiguous") in found
    for n in (64, 256):
        for layer in ((784, 240, 5), (290, 240, 4), (10, 50, 5)):
            assert ("maxout", (n, *layer), F32, "contiguous") in found
    assert {(c.shape[0], c.layout) for c in cases(["instance_norm"])} == {(1, "channels_last"), (8, "channels_last")}
    for side in (8, 4):
        assert {d for op, shape, d, _ in found if op == "im2col" and shape[2:4] == (side, side)} == {F32, BF16}
    assert {(c.name, c.shape) for c in cases(["convolution"])} == {
        ("reflect, conv 3x3", (1, 64, 32, 32, 64)),
        ("reflect, conv 3x3", (2, 64, 32, 32, 64)),
        ("ReLU, conv 3x3", (64, 64, 16, 16, 64)),
        ("leaky ReLU, conv 4x4, stride 2", (8, 64, 64, 64, 128)),
        ("conv 3x3", (128, 1, 32, 32, 32)),
    }
    assert {(c.dtype, c.layout) for c in cases(["convolution"])} == {(d, "channels_last") for d in (F32, BF16)}
    assert {(c.name, c.shape, c.dtype, c.layout) for c in cases(["spectral_norm"])} == {
        *(("conv 3x3", (side, side, 3, 3), F32, "channels_last") for side in (64, 128, 512)),
        ("linear", (1024, 512), F32, "contiguous"),
    }
    assert {(c.name, c.shape, c.dtype, c.layout) for c in cases(["merged_kernels"])} == {
        (name, shape, F32, "channels_last")
        for name in ("means", "repeats")
        for shape in ((64, 64, 3, 3), (128, 64, 3, 3), (256, 256, 3, 3))
    }
    assert {(c.shape, c.dtype) for c in cases(["skinny_product"])} == {
        (shape, F32) for shape in ((1, 256, 4096), (4, 512, 4096), (16, 512, 4096), (32, 512, 2048))
    }
    names = {c.name for c in cases(["patchgan_loss"])}
    assert names == {"D: real, fake", "G", "D: real, fake; scales 30 14 6", "G; scales 30 14 6"}


def test_a_row_can_be_told_from_any_other() -> None:
    assert max(Counter(str(c) for c in cases()).values()) == 1


def test_quick_is_one_shape_per_op_out_of_the_table() -> None:
    quick = cases(quick=True)
    assert [c.op for c in quick] == list(MODULES)
    assert {str(c) for c in quick} <= {str(c) for c in cases()}


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_all_ways_compute_the_same(case: Case) -> None:
    subject = case.make(CPU)
    for function in (*subject.eager.values(), subject.fused):
        found = results(function, subject)
        assert max_error(found, subject.truth(found[0])) <= TOLERANCE[case.dtype]


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled": lambda y: y * 1.05,
    "without gradient of one sample": lambda y: torch.cat((y[:1].detach(), y[1:])) if y.dim() else y.detach() + 0 * y,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_wrong_way_is_seen(case: Case, wrong: str) -> None:
    subject = case.make(CPU)
    found = results(lambda *inputs: WRONG[wrong](subject.fused(*inputs)), subject)
    assert max_error(found, subject.truth(found[0])) > TOLERANCE[case.dtype]


def test_truths_of_the_losses_by_hand() -> None:
    subject = patchgan_loss.case("D", 1, (1,), F32).make(CPU)
    real, fake = (m.double() for m in subject.inputs)
    loss, slope_real, slope_fake = subject.truth(torch.empty(()))
    torch.testing.assert_close(2 * loss, ((-real).exp().log1p() + fake.exp().log1p()).sum().detach())
    torch.testing.assert_close(2 * slope_real, -torch.sigmoid(-real))
    torch.testing.assert_close(2 * slope_fake, torch.sigmoid(fake))


def test_every_way_of_maxout_drops_half_of_the_pieces() -> None:
    subject = maxout.case(64, 7, 20, 5, F32).make(CPU)
    x, weight, bias = subject.inputs
    best = 2 * (x @ weight.T + bias).relu().view(64, 5, 20).amax(1)
    for function in (*subject.eager.values(), subject.fused):
        undropped = (function(*subject.inputs) - best).abs() < 1e-3
        assert 0.42 < undropped.float().mean().item() < 0.58  # 1280 draws: 5 deviations and more


def test_eager_and_fused_move_their_own_running_statistics() -> None:
    subject = conditional_batch_norm.case((4, 6, 5, 5), F32, "contiguous").make(CPU)
    outputs = [subject.fused(*subject.inputs) for _ in range(2)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("case", [case for case in im2col.cases() if case.layout == "channels_last"], ids=str)
def test_something_of_every_convolution_is_a_product(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def convolved(x: Tensor, weight: Tensor, bias: Tensor, form: Any, ways: tuple[str, str], slope: float) -> Tensor:
        taken.extend(ways)
        return x

    monkeypatch.setattr(layers, "convolved", convolved)
    subject = case.make(CPU)
    subject.fused(*subject.inputs)
    assert "patches" in taken


@pytest.mark.parametrize("case", convolution.cases(), ids=str)
def test_every_convolution_is_our_own_and_takes_along_what_stands_in_front(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def convolved(x: Tensor, weight: Tensor, bias: Tensor, form: Any, ways: tuple[str, str], slope: float) -> Tensor:
        taken.append((ways, slope, form.reflect))
        return x

    monkeypatch.setattr(layers, "convolved", convolved)
    monkeypatch.setattr(layers, "kernels_pay", lambda _: True)
    subject = case.make(CPU)
    subject.fused(*subject.inputs)
    slope = {"ReLU": 0.0, "leaky ReLU": 0.2}.get(case.name.partition(",")[0], 1.0)
    assert taken == [(("own", "own"), slope, "reflect" in case.name)]
    assert all(t.stride(1) == 1 for t in (subject.inputs[0], subject.inputs[1], subject.grad))


def test_passes() -> None:
    subject = null.case(2).make(CPU)
    calls = passes(lambda x: 3 * x, subject)
    assert tuple(calls) == PASSES
    (y,), (grad,) = calls[FORWARD](), calls[BOTH]()
    assert torch.equal(y, 3 * subject.inputs[0])
    assert y.requires_grad
    assert torch.equal(grad, 3 * subject.grad)
    assert subject.inputs[0].grad is None


def test_the_gradient_has_the_results_dtype() -> None:
    subject = null.case(2).make(CPU)
    (grad,) = passes(lambda x: x.bfloat16(), subject)[BOTH]()
    assert torch.equal(grad, subject.grad.bfloat16().float())
