"""Convolutions on the CPU in the form that is fastest, the same numbers but for rounding.

Products of tiles (ganengine.ops.convolution), where the machine has AMX and computes in bfloat16: no casts of weights
and their gradients stand beside them, and the backend (oneDNN) takes two to four times as long over few pictures.

Products of patches (ganengine.ops.im2col), where there are few positions and many weights: with 64 pictures of
256 x 8 x 8 and a layer of 5 x 5 to 512 channels the backend's weight gradient takes 166 ms, the same arithmetic as one
matrix product 12, the data gradient 47 and 9, the layer itself 23 and 14 (docs/results.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn.precision import computed_in
from ganengine.ops.convolution import convolution, convolution_backward, convolution_weights, tiles_pay
from ganengine.ops.im2col import col2im, im2col
from ganengine.ops.registration import traced, wanted

# A matrix product wins where there are at least so many weights for each position of the batch, and a sample has few
# positions (measured in one thread with AMX and AVX-512; benches/ has the bench).
VALUES_LEAST_RATIO = {torch.bfloat16: 192, torch.float16: 192, torch.float32: 2048, torch.float64: 2048}
VALUES_MOST_POSITIONS = 64
WEIGHTS_LEAST_RATIO = {torch.bfloat16: 192, torch.float16: 192, torch.float32: 1024, torch.float64: 1024}
WEIGHTS_FEW_POSITIONS = 16
"""With so few, the weight gradient of a narrow layer too."""

_Pair = tuple[int, int]
Way: TypeAlias = Literal["backend", "patches", "tiles"]


@dataclass(frozen=True)
class Form:
    """One convolution, as its wide side (patches are cut from it) and its narrow side (a row for each place)."""

    kernel: _Pair
    stride: _Pair
    padding: _Pair
    beyond: _Pair
    """Output padding."""
    transposed: bool
    """From the narrow side to the wide one."""
    places: _Pair
    wide: _Pair
    """Height and width of the wide side."""

    def values_pay(self, batch: int, weights: int, dtype: torch.dtype) -> bool:
        """Whether the layer and its data gradient are faster as matrix products."""
        positions = self.places[0] * self.places[1]
        least = VALUES_LEAST_RATIO[dtype]
        return positions <= VALUES_MOST_POSITIONS and weights >= least * positions * batch

    def weights_pay(self, batch: int, weights: int, dtype: torch.dtype) -> bool:
        """Whether the weight gradient is."""
        positions = self.places[0] * self.places[1]
        few = positions <= WEIGHTS_FEW_POSITIONS and dtype in (torch.bfloat16, torch.float16)
        return few or weights >= WEIGHTS_LEAST_RATIO[dtype] * positions * batch


class Conv2d(nn.Conv2d):
    """As nn.Conv2d; the same numbers but for rounding, faster over small maps.

    Gradients: any order.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return what nn.Conv2d returns, channels-last where x is a grey picture too."""
        if self.in_channels == 1 and x.dim() == 4 and x.shape[1] == 1 and x.is_contiguous():
            x = x.view(len(x), *x.shape[2:], 1).permute(0, 3, 1, 2)  # strides that say so: ganengine.layout
        if _applies(self, x) and not isinstance(self.padding, str):
            k, s, p = self.kernel_size, self.stride, self.padding
            places = [(x.shape[axis + 2] + 2 * p[axis] - k[axis]) // s[axis] + 1 for axis in (0, 1)]
            form = Form(k, s, p, (0, 0), False, (places[0], places[1]), (x.shape[2], x.shape[3]))  # type: ignore[arg-type]
            y = _convolved(self, x, form)
            if y is not None:
                return y
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """As nn.ConvTranspose2d; the same numbers but for rounding, faster over small maps.

    Gradients: any order.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return what nn.ConvTranspose2d returns."""
        if output_size is None and _applies(self, x) and not isinstance(self.padding, str):
            k, s, p, beyond = self.kernel_size, self.stride, self.padding, self.output_padding
            wide = [(x.shape[axis + 2] - 1) * s[axis] - 2 * p[axis] + k[axis] + beyond[axis] for axis in (0, 1)]
            form = Form(k, s, p, beyond, True, (x.shape[2], x.shape[3]), (wide[0], wide[1]))  # type: ignore[arg-type]
            y = _convolved(self, x, form)
            if y is not None:
                return y
        return super().forward(x, output_size)


def _applies(module: Any, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.is_floating_point()
        and x.dim() == 4
        and len(x) > 0
        and x.shape[1] == module.in_channels
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not traced()
    )


def _convolved(module: Any, x: Tensor, form: Form) -> Tensor | None:
    """Return the convolution, or None where the backend is as fast."""
    dtype = computed_in(x)
    # Counted, not asked of the weight: a normalised one is made anew each time that it is looked at.
    weights = module.in_channels * module.out_channels * form.kernel[0] * form.kernel[1]
    given = (len(x), weights, dtype)
    if min(*form.places, *form.wide) <= 0:
        return None
    other: Way = "tiles" if dtype == torch.bfloat16 and tiles_pay() else "backend"
    values: Way = "patches" if form.values_pay(*given) else other
    gradient: Way = "patches" if form.weights_pay(*given) else other
    if values == "backend" and (gradient == "backend" or not torch.is_grad_enabled()):
        return None
    result: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
        x, module.weight, module.bias, form, dtype, values, gradient
    )
    return result


class _Convolution(torch.autograd.Function):
    """A convolution: the way of its values and data gradient, and that of its weight gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, form: Form, dtype: torch.dtype, values: Way, of: Way
    ) -> Tensor:
        ctx.form, ctx.dtype, ctx.ways = form, dtype, (values, of)
        ctx.bias = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight)
        with torch.autocast("cpu", enabled=False):
            x = x.to(dtype)
            if values == "tiles":
                return _tiled(x, weight, bias, form, form.transposed)
            ctx.cast = cast = weight.to(dtype)
            shift = None if bias is None else bias.to(dtype)
            if values == "backend":
                return _backend(x, cast, shift, form)
            made = _scattered(x, cast, form) if form.transposed else _gathered(x, cast, shift, form)
            if form.transposed and shift is not None:
                made.add_(shift.view(-1, 1, 1))
            # Not as a view: autograd lets nobody, as an activation in place, change a view that a function returns.
            return made.data

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        form, dtype, (to_x, to_weight, to_bias, *_) = ctx.form, ctx.dtype, wanted(ctx)
        found: list[Tensor | None] = [None, None]
        with torch.autocast("cpu", enabled=False):
            left = [to_x, to_weight]
            if not torch.is_grad_enabled():
                if to_x:
                    found[0] = _data_gradient(ctx, grad, weight)
                if to_weight:
                    found[1] = _weight_gradient(ctx, grad, x.to(dtype))
                left = [need and own is None for need, own in zip(left, found, strict=True)]
            if any(left):
                # Where it is to be differentiated again, from the weight itself, so that this leads to it.
                again = torch.is_grad_enabled() or ctx.ways[0] == "tiles"
                cast = weight.to(dtype) if again else ctx.cast
                rest = torch.ops.aten.convolution_backward(
                    grad, x.to(dtype), cast, None, form.stride, form.padding, (1, 1), form.transposed, form.beyond, 1,
                    (*left, False),
                )  # fmt: skip
                found = [own if own is not None else other for own, other in zip(found, rest[:2], strict=True)]
            shift = grad.sum((0, 2, 3)).to(ctx.bias) if to_bias and ctx.bias is not None else None
        return (
            None if found[0] is None else found[0].to(x.dtype),
            None if found[1] is None else found[1].to(weight.dtype),
            shift,
            *[None] * 4,
        )


def _data_gradient(ctx: Any, grad: Tensor, weight: Tensor) -> Tensor | None:
    form = ctx.form
    if ctx.ways[0] == "tiles":
        return _tiled(grad, weight, None, form, not form.transposed)
    if ctx.ways[0] == "patches":
        return _gathered(grad, ctx.cast, None, form) if form.transposed else _scattered(grad, ctx.cast, form)
    return None


def _weight_gradient(ctx: Any, grad: Tensor, x: Tensor) -> Tensor | None:
    form = ctx.form
    wide, narrow = (grad, x) if form.transposed else (x, grad)
    if ctx.ways[1] == "tiles":
        return convolution_weights(wide, narrow, form.stride, form.padding, form.kernel)
    return _product(wide, narrow, form) if ctx.ways[1] == "patches" else None


def _tiled(x: Tensor, weight: Tensor, bias: Tensor | None, form: Form, to_wide: bool) -> Tensor:
    if to_wide:
        return convolution_backward(x, weight, bias, form.stride, form.padding, form.wide)
    return convolution(x, weight, bias, form.stride, form.padding)


def _backend(x: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    if form.transposed:
        return F.conv_transpose2d(x, weight, bias, form.stride, form.padding, form.beyond)
    return F.conv2d(x, weight, bias, form.stride, form.padding)


def _patches(wide: Tensor, form: Form) -> Tensor:
    return im2col(wide.permute(0, 2, 3, 1), form.kernel, form.stride, form.padding, form.places)


def _rows(narrow: Tensor) -> Tensor:
    """[N, C, H, W] as one row of channels for each place."""
    return narrow.permute(0, 2, 3, 1).reshape(-1, narrow.shape[1])


def _matrix(weight: Tensor) -> Tensor:
    """A row for each channel of the narrow side."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _gathered(wide: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    """Return the narrow side: what each place's patch makes."""
    made = F.linear(_patches(wide, form), _matrix(weight), bias)
    return made.view(len(wide), *form.places, -1).permute(0, 3, 1, 2)


def _scattered(narrow: Tensor, weight: Tensor, form: Form) -> Tensor:
    """Return the wide side: what each place adds to its patch, summed."""
    size = (len(narrow), *form.wide, weight.shape[1])
    patches = _rows(narrow) @ _matrix(weight)
    return col2im(patches, size, form.kernel, form.stride, form.padding, form.places).permute(0, 3, 1, 2)


def _product(wide: Tensor, narrow: Tensor, form: Form) -> Tensor:
    """Return the weight's gradient: rows of the narrow side times patches of the wide one."""
    # A copy of the rows, as the product with a transposed view takes twice as long.
    made = _rows(narrow).T.contiguous() @ _patches(wide, form)
    return made.view(narrow.shape[1], *form.kernel, -1).permute(0, 3, 1, 2)
