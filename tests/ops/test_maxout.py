from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from ganengine.errors import UserError
from ganengine.nn import Maxout
from ganengine.nn.context import Context, draw_context, name_modules
from ganengine.ops import maxout
from ganengine.ops.counter import keep_mask

from .cases import DTYPES, MAXOUT_CASES, MaxoutCase, as_float64, assert_as_good_as_eager, eager_maxout, ops_mode

OP = torch.ops.ganengine.maxout.default
BACKWARD = torch.ops.ganengine.maxout_backward.default
case = pytest.mark.parametrize("case", MAXOUT_CASES, ids=lambda c: c.id)


def run(function: Any, arguments: dict[str, Any]) -> list[Tensor]:
    """Return [y, grad_h, grad_bias]."""
    y = function(**arguments)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(11)).to(y.dtype)
    leaves = [t for t in (arguments["h"], arguments["bias"]) if t is not None]
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def raw(arguments: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of the op itself."""
    a = arguments
    return (a["h"], a["bias"], a["pieces"], a["activation"] == "relu", a["dropout"], a["seed"] - 2**64, a["offset"])


def test_by_hand() -> None:
    # Two pieces of three units: (1, -2, 5) and (3, -1, 5), bias 0.5 on the first piece's first unit.
    h = torch.tensor([[1.0, -2.0, 5.0, 3.0, -1.0, 5.0]], requires_grad=True)
    bias = torch.tensor([0.5, 0, 0, 0, 0, 0], requires_grad=True)
    y = maxout(h, bias, 2)
    assert y.tolist() == [[3.0, -1.0, 5.0]]
    grads = torch.autograd.grad(y, (h, bias), torch.tensor([[1.0, 2.0, 4.0]]))
    assert grads[0].tolist() == [[0, 0, 4, 1, 2, 0]]  # the tie at 5 goes to the first piece
    assert grads[1].tolist() == [0, 0, 4, 1, 2, 0]
    y = maxout(h, bias, 2, activation="relu")
    assert y.tolist() == [[3.0, 0.0, 5.0]]
    assert torch.autograd.grad(y, h, torch.tensor([[1.0, 2.0, 4.0]]))[0].tolist() == [[0, 0, 4, 1, 0, 0]]


def test_winners_by_hand() -> None:
    h = torch.tensor([[1.0, -2.0, 5.0, 3.0, -1.0, 5.0]])
    assert OP(h, None, 2, False, 0.0, 0, 0)[1].tolist() == [[1, 1, 0]]
    assert OP(h, None, 2, True, 0.0, 0, 0)[1].tolist() == [[1, 255, 0]]


def test_dropout_by_hand() -> None:
    seed, p = 4, 0.5
    kept = keep_mask(seed, 10, (1, 8), p)[0].tolist()
    assert True in kept
    assert False in kept
    h = torch.arange(-4.0, 4.0)[None].requires_grad_()
    y = maxout(h, None, 4, dropout=p, seed=seed, offset=10)
    scaled = [2 * v if k else 0.0 for v, k in zip(h.detach()[0].tolist(), kept, strict=True)]
    assert y.tolist() == [[max(scaled[0::2]), max(scaled[1::2])]]
    expected = [0.0] * 8
    for unit in range(2):
        values = scaled[unit::2]
        winner = 2 * values.index(max(values)) + unit
        expected[winner] = 2.0 if kept[winner] else 0.0
    assert torch.autograd.grad(y.sum(), h)[0][0].tolist() == expected


@case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_good_as_eager(case: MaxoutCase, dtype: torch.dtype) -> None:
    ours = run(maxout, case.inputs(dtype))
    eager = run(eager_maxout, case.inputs(dtype))
    truth = run(eager_maxout, as_float64(case.inputs(dtype)))
    for name, o, e, t in zip(("y", "grad_h", "grad_bias"), ours, eager, truth, strict=False):
        assert_as_good_as_eager(name, o, e, t)
    assert ours[0].dtype == ours[1].dtype == dtype
    assert ours[0].shape == (case.n, case.units)


@case
def test_reference_mode_agrees(case: MaxoutCase) -> None:
    ours = run(maxout, case.inputs(torch.float64))
    with ops_mode("reference"):
        plain = run(maxout, case.inputs(torch.float64))
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_gradients_of_first_and_second_order(activation: Any, dropout: float) -> None:
    arguments = MaxoutCase("", 3, 3, 4, activation=activation, dropout=dropout).inputs(torch.float64)

    def function(h: Tensor, bias: Tensor) -> Tensor:
        return maxout(**{**arguments, "h": h, "bias": bias})

    leaves = (arguments["h"], arguments["bias"])
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_third_order_agrees_with_plain_autograd() -> None:
    def third(mode: str) -> tuple[Tensor, ...]:
        arguments = MaxoutCase("", 3, 3, 4, activation="relu", dropout=0.5).inputs(torch.float64)
        leaves = (arguments["h"], arguments["bias"])
        with ops_mode(mode):
            loss = maxout(**{**arguments, "h": leaves[0] ** 3}).pow(3).sum()
            for _ in range(2):
                grads = torch.autograd.grad(loss, leaves, create_graph=True)
                loss = torch.stack([g.square().sum() for g in grads]).sum()
            return torch.autograd.grad(loss, leaves)

    ours = third("auto")
    assert all(g.abs().max() > 0 for g in ours)
    torch.testing.assert_close(ours, third("reference"))


@case
def test_opcheck(case: MaxoutCase) -> None:
    arguments = case.inputs(torch.float32)
    quick = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(OP, raw(arguments), test_utils=quick)
    y, winner = OP(*raw(arguments))
    grad = torch.ones_like(y).requires_grad_()
    opcheck(BACKWARD, (grad, winner, case.pieces, case.dropout), test_utils=quick)
    opcheck(BACKWARD, (torch.ones(()).expand_as(y), winner, case.pieces, case.dropout), test_utils=quick)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
def test_opcheck_through_aot() -> None:
    arguments = MaxoutCase("", 4, 3, 5, activation="relu", dropout=0.5).inputs(torch.float32)
    opcheck(OP, raw(arguments), test_utils="test_aot_dispatch_dynamic")
    y, winner = OP(*raw(arguments))
    opcheck(BACKWARD, (torch.ones_like(y).requires_grad_(), winner, 3, 0.5), test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_compiles_in_one_graph_for_all_seeds(mode: str) -> None:
    with ops_mode(mode):
        torch.compiler.reset()
        compiled = torch.compile(maxout, fullgraph=True, backend="aot_eager")
        arguments = MaxoutCase("", 4, 3, 5, activation="relu", dropout=0.5).inputs(torch.float32)
        # The third and fourth must not compile again: seeds change at every step.
        for seed, stance in ((1, "default"), (2, "default"), (3, "fail_on_recompile"), (7, "fail_on_recompile")):
            arguments.update(seed=seed, offset=60 * seed)
            with torch.compiler.set_stance(stance):
                ours = run(compiled, arguments)
            torch.testing.assert_close(ours, run(maxout, arguments))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_what_a_penalty_does_not_reach_has_the_gradient_that_plain_autograd_gives_it(activation: Any) -> None:
    """Zeros behind a ReLU, none without one: an optimizer with momentum steps on zeros and passes over none."""
    found = []
    for mode in ("auto", "reference"):
        h, bias = torch.randn(5, 12, requires_grad=True), torch.randn(12, requires_grad=True)
        weight = torch.ones(4, requires_grad=True)
        with ops_mode(mode):
            y = maxout(h, bias, 3, activation=activation) @ weight
            (slope,) = torch.autograd.grad(y.sum(), h, create_graph=True)
            slope.square().sum().backward()
        found.append([None if leaf.grad is None else leaf.grad.count_nonzero().item() for leaf in (h, bias, weight)])
    assert found[0][:2] == found[1][:2] == ([None, None] if activation is None else [0, 0])
    assert found[0][2] > 0


def test_autocast_changes_nothing() -> None:
    arguments = MaxoutCase("", 4, 3, 5, activation="relu").inputs(torch.bfloat16)
    outside = run(maxout, arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run(maxout, arguments)
    assert [t.dtype for t in inside] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_a_sample_is_masked_alike_in_any_batch() -> None:
    h = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    whole = maxout(h, None, 3, dropout=0.5, seed=9)
    part = maxout(h[2:5], None, 3, dropout=0.5, seed=9, offset=2 * 12)
    assert torch.equal(part, whole[2:5])
    assert not torch.equal(maxout(h[2:5], None, 3, dropout=0.5, seed=9), whole[2:5])


def test_nan_wins_and_infinity_counts() -> None:
    h = torch.tensor([[math.inf, 1.0, -math.inf, 2.0, math.nan, -math.inf]])
    y = maxout(h, None, 3)
    assert y[0, 0].isnan()
    assert y[0, 1] == 2.0
    y = maxout(torch.tensor([[-math.inf, math.inf, -math.inf, 1.0]]), None, 2, activation="relu")
    assert y.tolist() == [[0.0, math.inf]]


def test_clipped_and_dropped_maxima_stop_infinite_gradients() -> None:
    h = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    y = maxout(h, None, 2, activation="relu")
    assert torch.autograd.grad(y, h, torch.tensor([[math.inf]]))[0].tolist() == [[0.0, 0.0]]


H = torch.zeros(2, 12)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"h": H.int()}, r"expected h to be float32, .* got int32 \[2, 12\]"),
    ({"h": H[0]}, r"expected h \[N, pieces \* units\] with pieces = 3, got float32 \[12\]"),
    ({"pieces": 5}, r"with pieces = 5, got float32 \[2, 12\]"),
    ({"pieces": 0}, "expected 1 to 255 pieces .* got 0"),
    ({"pieces": 256}, "expected 1 to 255 pieces .* got 256"),
    ({"bias": torch.zeros(4)}, r"expected bias \[12\], as h is float32 \[2, 12\]; got float32 \[4\]"),
    ({"bias": torch.zeros(12, device="meta")}, "expected bias on cpu, where h is"),
    ({"activation": "tanh"}, "expected activation to be one of None, relu, got 'tanh'"),
    ({"dropout": 1.0}, r"expected dropout in \[0, 1\), got 1.0"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        maxout(**{"h": H, "bias": None, "pieces": 3, **wrong})


# The module


def test_module_is_the_eager_layer() -> None:
    linear, module = torch.nn.Linear(7, 12), Maxout(7, 4, 3, activation="relu")
    module.load_state_dict(linear.state_dict())
    x = torch.randn(5, 7)
    torch.testing.assert_close(module(x), linear(x).relu().view(5, 3, 4).max(1).values)


def test_module_drops_in_training_only() -> None:
    module = Maxout(7, 64, 3, dropout=0.5)
    x = torch.randn(5, 7)
    assert not torch.equal(module(x), module(x))
    assert torch.equal(module.eval()(x), module(x))
    torch.testing.assert_close(module(x), eager_maxout(x @ module.weight.T, module.bias, 3))


def test_module_masks_by_seed_and_sample() -> None:
    module = Maxout(7, 64, 3, dropout=0.5)
    name_modules({"D": module})
    x = torch.randn(6, 7)
    with draw_context(Context(seed=3)):
        whole = module(x)
    with draw_context(Context(seed=3, first_sample=2)):
        torch.testing.assert_close(module(x[2:5]), whole[2:5])
    with draw_context(Context(seed=4)):
        assert not torch.equal(module(x), whole)


def test_module_refuses_wrong_sizes() -> None:
    with pytest.raises(UserError, match="expected 1 to 255 pieces, got 300"):
        Maxout(7, 4, 300)
    with pytest.raises(UserError, match=r"expected dropout in \[0, 1\), got 1"):
        Maxout(7, 4, 3, dropout=1)
