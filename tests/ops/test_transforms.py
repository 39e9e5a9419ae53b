"""torch.func's transforms see the formulas: grad, vmap and both at once agree with autograd through the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from ganengine import ops
from ganengine.ops import dispatch
from ganengine.ops.instance_norm import instance_norm

LABELS = torch.tensor([0, 2, 1, 2])


def _channels_last(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, *others: function(x.movedim(1, -1).contiguous().movedim(-1, 1), *others)


CASES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    **{
        f"patchgan_loss {mode}": (lambda a, b, mode=mode: ops.patchgan_loss([a, b], 1.0, mode), [(4, 1, 9, 9), (4, 1)])
        for mode in ("bce", "ls", "hinge", "linear")
    },
    "patchgan_loss none": (
        lambda a: ops.patchgan_loss(a, LABELS.double(), "ls", reduction="none"),
        [(4, 1, 9, 9)],
    ),
    "patchgan_loss op": (
        lambda a, b: torch.ops.ganengine.patchgan_loss([a, b], [1.0, 0.0], None, 0, True),
        [(4, 1, 9, 9), (4, 1, 5, 5)],
    ),
    "maxout": (lambda h, bias: ops.maxout(h, bias, 3), [(4, 12), (12,)]),
    "maxout dropout": (
        lambda h, bias: ops.maxout(h, bias, 3, activation="relu", dropout=0.5, seed=7),
        [(4, 12), (12,)],
    ),
    "maxout op": (lambda h, bias: torch.ops.ganengine.maxout(h, bias, 3, False, 0.0, 0, 0)[0], [(4, 12), (12,)]),
    "conditional_batch_norm": (
        lambda x, gamma, beta: ops.conditional_batch_norm(x, gamma, beta, LABELS, activation="relu"),
        [(4, 6, 5, 5), (3, 6), (3, 6)],
    ),
    "conditional_batch_norm channels_last": (
        _channels_last(lambda x, gamma, beta: ops.conditional_batch_norm(x, gamma, beta, LABELS)),
        [(4, 6, 5, 5), (3, 6), (3, 6)],
    ),
    "instance_norm": (_channels_last(instance_norm), [(4, 6, 5, 5), (6,), (6,)]),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Callable[..., Tensor], list[Tensor], list[Tensor], Any]:
    """Return a function, two sets of its inputs, and (values, gradients) of both by autograd and the reference."""
    function, shapes = CASES[request.param]
    draw = torch.Generator().manual_seed(5)
    stacks = [torch.randn((2, *shape), generator=draw, dtype=torch.float64) for shape in shapes]
    mode = dispatch.mode()
    if not request.param.endswith(" op"):  # which is called as it is, whatever the mode
        dispatch.set_mode("reference")
    try:
        expected = []
        for number in range(2):
            leaves = [stack[number].clone().requires_grad_() for stack in stacks]
            value = function(*leaves)
            expected.append((value.detach(), torch.autograd.grad(value.square().sum(), leaves)))
    finally:
        dispatch.set_mode(mode)
    return function, stacks, [stack[0] for stack in stacks], expected


def _gradients(function: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    return grad(lambda *given: function(*given).square().sum(), argnums=tuple(range(len(inputs))))


def test_grad(case: Any) -> None:
    function, _, inputs, expected = case
    torch.testing.assert_close(_gradients(function, inputs)(*inputs), expected[0][1])


def test_grad_of_grad(case: Any) -> None:
    function, _, inputs, _ = case

    def penalty(first: Tensor) -> Tensor:
        return _gradients(function, inputs)(first, *inputs[1:])[0].square().sum()

    leaf = inputs[0].clone().requires_grad_()
    (once,) = torch.autograd.grad(function(leaf, *inputs[1:]).square().sum(), leaf, create_graph=True)
    (twice,) = torch.autograd.grad(once.square().sum(), leaf)
    torch.testing.assert_close(grad(penalty)(inputs[0]), twice)


# An op that is called by itself torch runs sample by sample, or not at all where it takes a list of tensors.
@pytest.mark.parametrize("case", [name for name in CASES if not name.endswith(" op")], indirect=True)
def test_vmap(case: Any) -> None:
    function, stacks, _, expected = case
    torch.testing.assert_close(vmap(function)(*stacks), torch.stack([value for value, _ in expected]))


def test_vmap_of_grad(case: Any) -> None:
    function, stacks, inputs, expected = case
    found = vmap(_gradients(function, inputs))(*stacks)
    torch.testing.assert_close(found, tuple(map(torch.stack, zip(*(grads for _, grads in expected), strict=True))))


@pytest.mark.parametrize("name", ["maxout", "patchgan_loss bce"])
def test_compiled_transforms(name: str) -> None:
    """Inside of torch.compile the transform meets the op itself."""
    function, shapes = CASES[name]
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    gradients = _gradients(function, inputs)
    torch.testing.assert_close(torch.compile(gradients, backend="aot_eager")(*inputs), gradients(*inputs))
