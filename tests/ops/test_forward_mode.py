"""Forward-mode differentiation: J v agrees with what reverse mode says of it, <u, J v> = <J^T u, v>."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from ganengine import nn as engine
from ganengine import ops
from ganengine.nn.convolution import Conv2d, ConvTranspose2d


class _Up(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv2d(32, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return engine.up_conv2d(self.conv, x)


UP = _Up()
LABELS = torch.tensor([0, 2, 1, 2])


def _conv(layer: torch.nn.Module) -> Callable[..., Tensor]:
    return lambda x, weight: torch.func.functional_call(layer, {"weight": weight}, (x,))


# A layer's sizes are those that our own kernels are taken for, where the processor has them.
CASES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "convolution": (_conv(Conv2d(32, 64, 3, padding=1, bias=False)), [(4, 32, 16, 16), (64, 32, 3, 3)]),
    "convolution_transposed": (
        _conv(ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False)),
        [(4, 64, 16, 16), (64, 32, 4, 4)],
    ),
    "convolution_op": (
        lambda x, weight: ops.convolution(x, weight, None, (1, 1), (1, 1), slope=0.2),
        [(4, 8, 6, 6), (5, 8, 3, 3)],
    ),
    "convolution_bias": (lambda y: ops.convolution_bias(y), [(4, 6, 5, 5)]),
    "up_conv2d": (
        lambda x, weight: torch.func.functional_call(UP, {"conv.weight": weight}, (x,)),
        [(4, 32, 8, 8), (32, 32, 3, 3)],
    ),
    "instance_norm": (lambda x: engine.InstanceNorm2d(6)(x), [(4, 6, 8, 8)]),
    "conditional_batch_norm": (
        lambda x, gamma, beta: ops.conditional_batch_norm(x, gamma, beta, LABELS, activation="relu"),
        [(4, 6, 5, 5), (3, 6), (3, 6)],
    ),
    "maxout": (lambda h, bias: ops.maxout(h, bias, 3), [(4, 12), (12,)]),
    "patchgan_loss": (lambda a, b: ops.patchgan_loss([a, b], 1.0), [(4, 1, 9, 9), (4, 1, 5, 5)]),
    "patchgan_loss_op": (
        lambda a, b: torch.ops.ganengine.patchgan_loss([a, b], [1.0, 0.0], None, 0, True),
        [(4, 1, 9, 9), (4, 1, 5, 5)],
    ),
    "patchgan_loss_few": (lambda a: ops.patchgan_loss(a, 1.0), [(4, 1)]),
    "im2col": (lambda x: ops.im2col(x, (3, 3), (1, 1), (1, 1), (8, 8)), [(4, 8, 8, 6)]),
    "merged_kernels": (lambda weight: ops.merged_kernels(weight, False), [(8, 6, 3, 3)]),
    "skinny_product": (lambda rows, weight: ops.skinny_product(rows, weight), [(4, 8), (5, 8)]),
    "skinny_product_backward": (lambda grad, weight: ops.skinny_product_backward(grad, weight), [(4, 8), (8, 5)]),
    "skinny_product_weights": (lambda rows, grad: ops.skinny_product_weights(rows, grad), [(4, 8), (4, 5)]),
    "over_sigma": (lambda weight: ops.over_sigma(weight, torch.ones(8), torch.ones(6)), [(8, 6)]),
    "over_next_sigma": (lambda weight: ops.over_next_sigma(weight, torch.ones(8))[0], [(8, 6)]),
}


# torch's own, at the first dual tensor: a DeprecationWarning in 2.13, a FutureWarning in 2.14.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", CASES)
def test_a_tangent_agrees_with_the_gradient(name: str) -> None:
    function, shapes = CASES[name]
    draw = torch.Generator().manual_seed(3)
    inputs = [torch.randn(shape, generator=draw) for shape in shapes]
    tangents = [torch.randn(shape, generator=draw) for shape in shapes]
    with forward_ad.dual_level():
        made = function(*[forward_ad.make_dual(x, v) for x, v in zip(inputs, tangents, strict=True)])
        value, tangent = forward_ad.unpack_dual(made)
    leaves = [x.requires_grad_() for x in inputs]
    again = function(*leaves)
    torch.testing.assert_close(value, again.detach(), rtol=1e-4, atol=1e-4)
    along = torch.randn(again.shape, generator=draw)
    grads = torch.autograd.grad(again, leaves, along)
    expected = sum((g.double() * v.double()).sum() for g, v in zip(grads, tangents, strict=True))
    found = (along.double() * tangent.double()).sum()
    scale = along.double().norm() * tangent.double().norm()
    assert scale > 0
    assert abs(found - expected) <= 1e-5 * scale
