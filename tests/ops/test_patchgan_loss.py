from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from ganengine.errors import UserError
from ganengine.ops import patchgan_loss
from ganengine.ops.patchgan_loss import NUMBERS

from .cases import DTYPES, PATCH_CASES, PatchCase, assert_as_good_as_eager, eager_patchgan_loss, ops_mode

OP = torch.ops.ganengine.patchgan_loss.default
BACKWARD = torch.ops.ganengine.patchgan_loss_backward.default
case = pytest.mark.parametrize("case", PATCH_CASES, ids=lambda c: c.id)
MODES = ("bce", "ls", "hinge", "linear")


def run(function: Any, case: PatchCase, maps: list[Tensor]) -> list[Tensor]:
    """Return [loss, gradient of each map]; a loss per sample is weighted 1, 2, 3 ..."""
    loss = function(maps, case.targets(), case.mode, case.reduction, case.smoothing)
    weights = torch.arange(1.0, loss.numel() + 1).reshape(loss.shape).to(loss.dtype)
    return [loss.detach(), *torch.autograd.grad(loss, maps, weights)]


LN3 = math.log(3)
BY_HAND: list[tuple[str, float, list[float], list[float]]] = [
    # e^ln3 = 3: bce is ln 4 - t ln 3 with slope 3/4 - t; at 0 it is ln 2 with slope 1/2 - t.
    ("bce", 1.0, [math.log(4 / 3), math.log(2)], [-0.25, -0.5]),
    ("bce", 0.0, [math.log(4), math.log(2)], [0.75, 0.5]),
    ("ls", 1.0, [(LN3 - 1) ** 2, 1.0], [2 * (LN3 - 1), -2.0]),
    ("ls", 0.0, [LN3**2, 0.0], [2 * LN3, 0.0]),
    ("hinge", 1.0, [0.0, 1.0], [0.0, -1.0]),
    ("hinge", -1.0, [1 + LN3, 1.0], [1.0, 1.0]),
    ("linear", 1.0, [-LN3, 0.0], [-1.0, -1.0]),
    ("linear", -1.0, [LN3, 0.0], [1.0, 1.0]),
]


@pytest.mark.parametrize(("mode", "target", "values", "slopes"), BY_HAND)
def test_by_hand(mode: Any, target: float, values: list[float], slopes: list[float]) -> None:
    logits = torch.tensor([[LN3], [0.0]], dtype=torch.float64, requires_grad=True)
    per_sample = patchgan_loss(logits, target, mode, reduction="none")
    torch.testing.assert_close(per_sample, torch.tensor(values, dtype=torch.float64))
    loss = patchgan_loss(logits, target, mode)
    torch.testing.assert_close(loss, torch.tensor(sum(values) / 2, dtype=torch.float64))
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(grad, torch.tensor(slopes, dtype=torch.float64)[:, None] / 2)


def test_values_at_equilibrium() -> None:
    # D = 1/2 everywhere: the mean of the two sides is ln 2, the non-saturating G loss ln 2.
    zeros = torch.zeros(4, 1, 3, 3)
    assert patchgan_loss([zeros, zeros], [1, 0]).item() == pytest.approx(0.6931472)
    assert patchgan_loss(zeros, 1).item() == pytest.approx(0.6931472)
    assert patchgan_loss([zeros, zeros], [1, -1], "hinge").item() == pytest.approx(1.0)


def test_every_map_counts_the_same_whatever_its_size() -> None:
    maps = [torch.full((2, 1, 4, 4), 3.0), torch.full((2, 1, 1, 1), 1.0)]
    assert patchgan_loss(maps, 1, "linear").item() == pytest.approx(-(3.0 + 1.0) / 2)


def test_both_sides_in_one_call() -> None:
    draw = torch.Generator().manual_seed(0)
    real, fake = torch.randn(4, 1, 5, 5, generator=draw), torch.randn(4, 1, 5, 5, generator=draw)
    half_sum = (patchgan_loss(real, 1) + patchgan_loss(fake, 0)) / 2
    torch.testing.assert_close(patchgan_loss([real, fake], [1, 0]), half_sum)
    one_batch = patchgan_loss(torch.cat([real, fake]), torch.tensor([1.0] * 4 + [0.0] * 4))
    torch.testing.assert_close(one_batch, half_sum)


def test_smoothing_is_one_sided() -> None:
    logits = torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(patchgan_loss(logits, 1, smoothing=0.1), patchgan_loss(logits, 0.9))
    torch.testing.assert_close(patchgan_loss(logits, 0, smoothing=0.1), patchgan_loss(logits, 0))
    torch.testing.assert_close(patchgan_loss(logits, -1, "ls", smoothing=0.1), patchgan_loss(logits, -1, "ls"))
    samples = torch.tensor([1.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(
        patchgan_loss(logits, samples, smoothing=0.1), patchgan_loss(logits, torch.tensor([0.9, 0.0, 0.9, 0.0]))
    )


@case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_good_as_eager(case: PatchCase, dtype: torch.dtype) -> None:
    ours = run(patchgan_loss, case, case.maps(dtype))
    eager = run(eager_patchgan_loss, case, case.maps(dtype))
    wide = [m.detach().double().requires_grad_() for m in case.maps(dtype)]
    truth = run(eager_patchgan_loss, case, wide)
    for k, (o, e, t) in enumerate(zip(ours, eager, truth, strict=True)):
        assert_as_good_as_eager(f"grad of map {k - 1}" if k else "loss", o, e, t)
    assert ours[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert all(grad.dtype == dtype for grad in ours[1:])


@case
def test_reference_mode_agrees(case: PatchCase) -> None:
    ours = run(patchgan_loss, case, case.maps(torch.float64))
    with ops_mode("reference"):
        plain = run(patchgan_loss, case, case.maps(torch.float64))
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_of_first_and_second_order(mode: Any, reduction: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 1, 2, 2, generator=draw).double(), torch.randn(2, 1, generator=draw).double()]
    leaves = [m.requires_grad_() for m in maps]
    targets: Any = [1.0, -1.0] if mode in ("hinge", "linear") else [1.0, 0.0]

    def function(*maps: Tensor) -> Tensor:
        return patchgan_loss(maps, targets, mode, reduction)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("mode", MODES)
def test_third_order_agrees_with_plain_autograd(mode: Any) -> None:
    def third(ops: str) -> tuple[Tensor, ...]:
        maps = PatchCase("", mode, "samples", ((4, 1, 3, 3), (4, 1, 2, 2))).maps(torch.float64)
        target = PatchCase("", mode, "samples").targets()
        with ops_mode(ops):
            # Squared logits, so that linear has derivatives beyond the first too.
            loss = patchgan_loss([m.square() for m in maps], target, mode)
            for _ in range(2):
                grads = torch.autograd.grad(loss, maps, create_graph=True)
                loss = torch.stack([g.square().sum() for g in grads]).sum()
            return torch.autograd.grad(loss, maps)

    ours = third("auto")
    assert all(g.abs().max() > 0 for g in ours)
    torch.testing.assert_close(ours, third("reference"))


def test_r1_through_the_loss() -> None:
    # Penalty on the loss's own gradient: sum of (sigmoid(l) - 1)^2, whose derivative is 2 (s - 1) s (1 - s).
    logits = torch.tensor([[0.3], [-1.2]], dtype=torch.float64, requires_grad=True)
    loss = patchgan_loss(logits, 1, reduction="none").sum()
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), logits)
    s = torch.sigmoid(logits.detach())
    torch.testing.assert_close(second, 2 * (s - 1) * s * (1 - s))


@pytest.mark.parametrize("case", [c for c in PATCH_CASES if c.id != "hinge-one-sample"], ids=lambda c: c.id)
def test_opcheck(case: PatchCase) -> None:
    maps, target = case.maps(torch.float32), case.targets()
    samples = target if isinstance(target, Tensor) else None
    numbers = [] if samples is not None else target if isinstance(target, list) else [target] * len(maps)
    arguments = (maps, numbers, samples, NUMBERS[case.mode], case.reduction == "mean")
    quick = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(OP, arguments, test_utils=quick)
    grad = torch.ones_like(OP(*arguments), requires_grad=True)
    opcheck(BACKWARD, (grad, *arguments), test_utils=quick)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize("mode", MODES)
def test_opcheck_through_aot(mode: str) -> None:
    maps = PatchCase("", mode, 1.0, ((4, 1, 3, 3), (4, 1, 2, 2))).maps(torch.float32)
    arguments = (maps, [1.0, -1.0], None, NUMBERS[mode], True)
    opcheck(OP, arguments, test_utils="test_aot_dispatch_dynamic")
    grad = torch.ones((), requires_grad=True)
    opcheck(BACKWARD, (grad, *arguments), test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_compiles_in_one_graph(mode: str) -> None:
    with ops_mode(mode):
        torch.compiler.reset()
        compiled = torch.compile(patchgan_loss, fullgraph=True, backend="aot_eager")
        for name in ("bce-both-sides", "bce-scales-samples"):
            case = next(c for c in PATCH_CASES if c.id == name)
            ours = run(compiled, case, case.maps(torch.float32))
            torch.testing.assert_close(ours, run(patchgan_loss, case, case.maps(torch.float32)))


def test_autocast_gives_float32_losses() -> None:
    case = PATCH_CASES[0]
    outside = run(patchgan_loss, case, case.maps(torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run(patchgan_loss, case, case.maps(torch.bfloat16))
    assert inside[0].dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_small_gradients_survive_float16() -> None:
    # 1 / 65536 is subnormal in float16: scaled in forward, the gradient would lose its digits before the loss scale.
    logits = torch.zeros(64, 1, 32, 32, dtype=torch.float16, requires_grad=True)
    (grad,) = torch.autograd.grad(patchgan_loss(logits, 0.3) * 65536.0, logits)
    torch.testing.assert_close(grad.float(), torch.full(grad.shape, 0.2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_bad_values_as_in_eager(mode: Any, bad: float) -> None:
    maps = [torch.tensor([[bad], [0.5]], requires_grad=True)]
    for target in (1.0, -1.0 if mode in ("hinge", "linear") else 0.0):
        ours = run(patchgan_loss, PatchCase("", mode, target, reduction="none"), maps)
        eager = run(eager_patchgan_loss, PatchCase("", mode, target, reduction="none"), maps)
        torch.testing.assert_close(ours[0], eager[0], equal_nan=True)
        if not math.isnan(bad):
            torch.testing.assert_close(ours[1], eager[1])


def test_far_logits_do_not_overflow() -> None:
    logits = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    loss = patchgan_loss(logits, 1, reduction="none")
    assert loss.tolist() == [1e4, 0.0]
    assert torch.autograd.grad(loss.sum(), logits)[0].flatten().tolist() == [-1.0, 0.0]


def test_empty() -> None:
    logits = torch.zeros(0, 1, 3, 3, requires_grad=True)
    assert patchgan_loss(logits, 1, reduction="none").shape == (0,)
    loss = patchgan_loss(logits, 1)
    assert loss.isnan()
    assert torch.autograd.grad(loss, logits)[0].shape == logits.shape


@pytest.mark.parametrize("target", [1.0, 0.0])
@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@ops_mode("auto")  # whatever GANENGINE_OPS says: "fused" leaves nothing to PyTorch
def test_few_logits_are_left_to_pytorch(target: float, layout: str) -> None:
    case = PatchCase("", "bce", target, ((4, 1, 30, 30),), layout)
    plain = patchgan_loss(case.maps(torch.float32), target)
    assert type(plain.grad_fn).__name__ == "MeanBackward0"
    (larger,) = PatchCase("", "bce", target, ((5, 1, 30, 30),)).maps(torch.float32)
    for loss in (
        patchgan_loss(larger, target),
        patchgan_loss(case.maps(torch.float32), target, reduction="none"),
        patchgan_loss(case.maps(torch.float32), target, "ls"),
        patchgan_loss(case.maps(torch.bfloat16), target),
        patchgan_loss(case.maps(torch.float32), target, smoothing=0.1) if target else None,
    ):
        assert loss is None or type(loss.grad_fn).__name__ == "_GradientBackward"
    with torch.no_grad():
        op = OP([m.detach() for m in case.maps(torch.float32)], [target], None, NUMBERS["bce"], True)
    torch.testing.assert_close(plain, op)


def test_gradient_only_where_it_is_asked_for() -> None:
    real, fake = torch.zeros(2, 1), torch.zeros(2, 1, requires_grad=True)
    patchgan_loss([real, fake], [1, 0]).backward()
    assert real.grad is None
    torch.testing.assert_close(fake.grad, torch.full((2, 1), 0.125))


M = torch.zeros(4, 1, 3, 3)
WRONG: list[tuple[tuple[Any, ...], str]] = [
    (([], 1), "expected one map of logits or several, got an empty list"),
    ((torch.zeros(()), 1), r"expected maps\[0\] \[N, \.\.\.\], got a single number"),
    ((M.int(), 1), r"expected maps\[0\] to be float32, .* got int32 \[4, 1, 3, 3\]"),
    (
        ([M, M[:2]], 1),
        r"expected maps of one batch and dtype, got maps\[0\] float32 \[4, 1, 3, 3\] and maps\[1\] float32 \[2,",
    ),
    (([M, M.double()], 1), r"and maps\[1\] float64"),
    (([M, M.to("meta")], 1), r"expected maps\[1\] on cpu, where maps\[0\] is"),
    ((M, [1, 0]), r"expected one target or one per map \(1\), got 2 targets"),
    ((M, torch.ones(3)), r"a tensor \[N\] = \[4\], got float32 \[3\]"),
    ((M, torch.ones(4, requires_grad=True)), "target gets no gradient, but it requires one"),
    ((M, 0, "hinge"), r"expected target \+1 \(real\) or -1 \(fake\) with hinge, got 0"),
    ((M, [0.9], "linear"), r"with linear, got 0.9"),
    ((M, -1), r"expected target 1 \(real\) or 0 \(fake\) with bce, got -1"),
    ((M, 1, "lsgan"), "expected mode to be one of bce, ls, hinge, linear, got 'lsgan'. Did you mean ls"),
    ((M, 1, "bce", "sum"), "expected reduction to be one of mean, none, got 'sum'"),
    ((M, 1, "bce", "mean", 1.0), r"expected smoothing in \[0, 1\), got 1.0"),
    ((M, 1, "hinge", "mean", 0.1), "smoothing is for bce and ls, got 0.1 with hinge"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs(wrong: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        patchgan_loss(*wrong)
