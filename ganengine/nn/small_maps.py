"""Convolutions over small maps whose gradients are matrix products of unfolded patches, on the CPU.

The backend (oneDNN) is slow where there are few positions: with maps of 4 x 4 and a batch of 64 the weight gradient of
a layer of 512 to 256 channels takes 50 ms, the same arithmetic as one matrix product 12 to 20 (docs/results.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.ops.registration import traced

MOST_POSITIONS, MOST_ROWS, LEAST_RATIO = 256, 1024, 128
"""A matrix product wins where a sample has at most so many positions, a batch so many, and there are at least so many
weights for each position of the batch (measured with AMX and AVX-512, one thread)."""


def is_small(positions: int, batch: int, weights: int) -> bool:
    """Whether the weight gradient of such a convolution is faster as a matrix product."""
    rows = positions * batch
    return positions <= MOST_POSITIONS and rows <= MOST_ROWS and weights >= LEAST_RATIO * rows


class Conv2d(nn.Conv2d):
    """As nn.Conv2d; the same numbers but for rounding, faster gradients over small maps.

    Gradients: any order.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return what nn.Conv2d returns, channels-last where x is a grey picture too."""
        if self.in_channels == 1 and x.dim() == 4 and x.is_contiguous():
            x = x.view(len(x), *x.shape[2:], 1).permute(0, 3, 1, 2)  # strides that say so: ganengine.layout
        if _applies(self, x) and not isinstance(self.padding, str):
            k, s, p = self.kernel_size, self.stride, self.padding
            positions = [(x.shape[axis + 2] + 2 * p[axis] - k[axis]) // s[axis] + 1 for axis in (0, 1)]
            if is_small(positions[0] * positions[1], len(x), self.weight.numel()):
                return _convolved(x, self.weight, self.bias, (s, p, (0, 0)), transposed=False)  # type: ignore[arg-type]
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """As nn.ConvTranspose2d; the same numbers but for rounding, faster gradients over small maps.

    Gradients: any order.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return what nn.ConvTranspose2d returns."""
        if output_size is None and _applies(self, x) and not isinstance(self.padding, str):
            form = (self.stride, self.padding, self.output_padding)
            if is_small(x.shape[2] * x.shape[3], len(x), self.weight.numel()):
                return _convolved(x, self.weight, self.bias, form, transposed=True)  # type: ignore[arg-type]
        return super().forward(x, output_size)


# ----------------------------------------------------------------------------------------------------------------
# Two nodes for one convolution: what the batch gets and what the weights get. A phase that trains neither this network
# nor anything before it then leaves the matrix product out, as the backend's own convolution would.

_Pair = tuple[int, int]
_Form = tuple[_Pair, _Pair, _Pair]
"""Stride, padding, output padding."""


def _applies(module: Any, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and len(x) > 0
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and torch.is_grad_enabled()
        and not traced()
    )


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, form: _Form, *, transposed: bool) -> Tensor:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if x.dtype == torch.float64:
        dtype = torch.float64
    result: Tensor = _Values.apply(x, weight, bias, form, transposed, dtype)  # type: ignore[no-untyped-call]
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        # x in a list: an edge to it would have this node run for x's sake.
        given = (x.detach(), weight, bias, form, transposed, dtype, result.shape, [x])
        result = result + _Weights.apply(*given)  # type: ignore[no-untyped-call]
    return result


class _Values(torch.autograd.Function):
    """The convolution; its gradient is that of x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, form: _Form, transposed: bool, dtype: torch.dtype
    ) -> Tensor:
        stride, padding, beyond = form
        ctx.form, ctx.transposed, ctx.dtype = form, transposed, dtype
        ctx.save_for_backward(x, weight)
        with torch.autocast("cpu", enabled=False):
            ctx.cast = weight.to(dtype)
            shift = None if bias is None else bias.to(dtype)
            if not transposed:
                return F.conv2d(x.to(dtype), ctx.cast, shift, stride, padding)
            size = [
                (x.shape[axis + 2] - 1) * stride[axis] - 2 * padding[axis] + weight.shape[axis + 2] + beyond[axis]
                for axis in (0, 1)
            ]
            made = _folded(x.to(dtype), ctx.cast, stride, padding, (size[0], size[1]))
            return made if shift is None else made + shift.view(-1, 1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return (None,) * 6
        x, weight = ctx.saved_tensors
        stride, padding, _ = ctx.form
        with torch.autocast("cpu", enabled=False):
            if torch.is_grad_enabled():
                # The weight itself, so that what is differentiated again leads to it.
                cast = weight.to(ctx.dtype)
                found = _backward(grad, x.to(ctx.dtype), cast, ctx.form, ctx.transposed, (True, False))[0]
            elif ctx.transposed:
                found = F.conv2d(grad, ctx.cast, None, stride, padding)
            else:
                found = _folded(grad, ctx.cast, stride, padding, (x.shape[2], x.shape[3]))
        return found.to(x.dtype), None, None, None, None, None


class _Weights(torch.autograd.Function):
    """Zeros; its gradient is that of weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        form: _Form,
        transposed: bool,
        dtype: torch.dtype,
        shape: torch.Size,
        whole: list[Tensor],
    ) -> Tensor:
        ctx.form, ctx.transposed, ctx.dtype = form, transposed, dtype
        ctx.bias = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight)
        ctx.whole = whole[0] if whole[0].requires_grad else None
        return torch.zeros((), dtype=dtype).expand(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        found: Tensor | None = None
        with torch.autocast("cpu", enabled=False):
            if not ctx.needs_input_grad[1]:
                pass
            elif torch.is_grad_enabled():
                x = x if ctx.whole is None else ctx.whole
                found = _backward(grad, x.to(ctx.dtype), weight.to(ctx.dtype), ctx.form, ctx.transposed, (False, True))[
                    1
                ]
            else:
                found = _product(grad, x.to(ctx.dtype), weight, ctx.form, ctx.transposed)
            shift = grad.sum((0, 2, 3)).to(ctx.bias) if ctx.bias is not None and ctx.needs_input_grad[2] else None
        return None, None if found is None else found.to(weight.dtype), shift, None, None, None, None, None


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, form: _Form, transposed: bool, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return the backend's gradients of x and weight."""
    stride, padding, beyond = form
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), transposed, beyond, 1, (*wanted, False)
    )
    return gradients[0], gradients[1]


def _product(grad: Tensor, x: Tensor, weight: Tensor, form: _Form, transposed: bool) -> Tensor:
    """Return the weight's gradient: rows of one side times unfolded patches of the other."""
    stride, padding, _ = form
    whole, rows = (grad, x) if transposed else (x, grad)  # a transposed convolution is a convolution's gradient
    height, width = weight.shape[2:]
    single = rows.permute(0, 2, 3, 1).flatten(0, 2)
    patches = _patches(whole, (height, width), stride, padding, (rows.shape[2], rows.shape[3]))
    return (single.T @ patches).view(len(weight), height, width, -1).permute(0, 3, 1, 2)


def _patches(x: Tensor, kernel: _Pair, stride: _Pair, padding: _Pair, places: _Pair) -> Tensor:
    """Return what the kernel sees at each place: [N * places, kernel * C], channels last."""
    last = x.permute(0, 2, 3, 1)
    # As far as the last place reaches: a stride may leave the rest over, output padding may be beyond.
    reach = [stride[axis] * (places[axis] - 1) + kernel[axis] for axis in (0, 1)]
    after = [reach[axis] - padding[axis] - last.shape[axis + 1] for axis in (0, 1)]
    last = F.pad(last, (0, 0, padding[1], after[1], padding[0], after[0])).contiguous()
    n, down, across, channel = last.stride()
    seen = last.as_strided(
        (len(x), *places, *kernel, x.shape[1]), (n, stride[0] * down, stride[1] * across, down, across, channel)
    )
    return seen.reshape(len(x) * places[0] * places[1], -1)


def _folded(x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair, size: _Pair) -> Tensor:
    """Return the transposed convolution [N, C, *size] of x [N, I, H, W] with weight [I, C, h, w].

    One product gives what each position adds to its patch; patches are added up in float32 or wider, as sums of several
    roundings would show.
    """
    n, inputs, high, wide = x.shape
    _, outputs, *kernel = weight.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, inputs)
    patches = (rows @ weight.permute(0, 2, 3, 1).reshape(inputs, -1)).view(n, high, wide, *kernel, outputs)
    reach = [stride[axis] * ((high, wide)[axis] - 1) + 1 for axis in (0, 1)]
    whole = [max(size[axis] + padding[axis], reach[axis] + kernel[axis] - 1) for axis in (0, 1)]
    sums = x.new_zeros(n, *whole, outputs, dtype=torch.promote_types(x.dtype, torch.float32))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            sums[:, i : i + reach[0] : stride[0], j : j + reach[1] : stride[1]] += patches[:, :, :, i, j]
    top, left = padding
    made = sums[:, top : top + size[0], left : left + size[1]].to(x.dtype).contiguous()
    return made.permute(0, 3, 1, 2)
