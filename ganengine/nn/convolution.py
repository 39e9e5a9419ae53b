"""Convolutions on the CPU in the form that is fastest, the same numbers but for rounding.

Our own kernels (ganengine.ops.convolution). In bfloat16, where the machine has AMX: no casts of weights and their
gradients stand beside them, and the backend (oneDNN) takes two to four times as long over few pictures. Where it has
AVX512_BF16 instead, for small layers: both multiply as fast, and what stands beside counts. In float32, where it has
AVX2 alone: weight gradients and layers of one to four channels are faster, the others as fast, and an
activation in front or a reflection is no pass over memory.

Products of patches (ganengine.ops.im2col), where there are few positions and many weights: with 64 pictures of
256 x 8 x 8 and a layer of 5 x 5 to 512 channels the backend's weight gradient takes 166 ms, the same arithmetic as one
matrix product 12, the data gradient 47 and 9, the layer itself 23 and 14 (docs/results.md). A few dozen rows meet the
weight in products of our own (ganengine.ops.skinny_product): reading and writing it is then most of the work.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn.precision import computed_in
from ganengine.ops.checks import widened
from ganengine.ops.convolution import (
    activated,
    convolution,
    convolution_backward,
    convolution_bias,
    convolution_weights,
    few_kernels_pay,
    kernels_pay,
    reflected,
    small_kernels_pay,
)
from ganengine.ops.dispatch import compiled
from ganengine.ops.im2col import col2im, im2col
from ganengine.ops.registration import traced, wanted
from ganengine.ops.skinny_product import skinny_product, skinny_product_backward, skinny_product_weights

# A matrix product wins where there are at least so many weights for each position of the batch, and a sample has few
# positions (measured in one thread with AMX and AVX-512; benches/ has the bench).
VALUES_LEAST_RATIO = {torch.bfloat16: 192, torch.float16: 192, torch.float32: 2048, torch.float64: 2048}
VALUES_MOST_POSITIONS = 64
WEIGHTS_LEAST_RATIO = {torch.bfloat16: 192, torch.float16: 192, torch.float32: 1024, torch.float64: 1024}
WEIGHTS_FEW_POSITIONS = 16
"""With so few, the weight gradient of a narrow layer too."""

FULL_PRECISION_ROWS = 32
"""With so few places in the batch, products of patches are in float32, in which weights are kept: reading and writing
these is all that counts, and casts read and write them once more."""

SKINNY_ROWS = 32
"""So few meet a weight in float32 in a kernel of our own; with more a library's products are as fast."""

LEAST_PRODUCTS = {torch.bfloat16: 0, torch.float32: 1 << 22}
"""With fewer, what stands around our own kernels costs more than they save (0.1 ms of the backend's time)."""

SMALL_MOST_PRODUCTS = 1 << 27
SMALL_LEAST_WEIGHTS = 4096
SMALL_LEAST_ACROSS = 8
"""By products of pairs, which the backend has as well, our own kernels gain by what does not stand around them: layers
of so many products at most, but not those of few channels, or of lines that leave most of 16 places empty."""

FEW_CHANNELS = 4
FEW_LEAST_WINDOW = 2048
FEW_LEAST_PRODUCTS = 1 << 18
"""Where a side has so few channels the backend leaves most of its vectors empty, and our own kernels in float32 take
them along the other side's channels. In bfloat16 too, but for windows of fewer numbers: casts stand beside them. With
fewer products there are microseconds to gain."""

_Pair = tuple[int, int]
Way: TypeAlias = Literal["backend", "patches", "own", "float32"]
"""Own: by our kernels in the dtype of the data; float32: in that, whatever dtype data have."""
_Ways: TypeAlias = tuple[Way, Way]
_OWN = ("own", "float32")


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
    reflect: bool
    """What the padding holds: the reflection of the wide side, not 0."""
    places: _Pair
    wide: _Pair
    """Height and width of the wide side."""

    def values_pay(self, batch: int, weights: int, dtype: torch.dtype) -> bool:
        """Whether the layer and its data gradient are faster as matrix products."""
        positions = self.places[0] * self.places[1]
        return positions <= VALUES_MOST_POSITIONS and weights >= VALUES_LEAST_RATIO[dtype] * positions * batch

    def weights_pay(self, batch: int, weights: int, dtype: torch.dtype) -> bool:
        """Whether the weight gradient is."""
        positions = self.places[0] * self.places[1]
        few = positions <= WEIGHTS_FEW_POSITIONS and dtype in (torch.bfloat16, torch.float16)
        return few or weights >= WEIGHTS_LEAST_RATIO[dtype] * positions * batch

    def way(self, batch: int, weights: int, channels: int, dtype: torch.dtype) -> Way:
        """Return who is faster without patches: the backend, or our own kernels.

        Args:
            batch, weights: how many samples and weights there are.
            channels: of what the layer takes.
            dtype: of its data.
        """
        # In float32 a kernel of 1 x 1 is a product of matrices as they lie, where nothing is to be gained.
        plain = dtype == torch.float32 and self.kernel == (1, 1)
        products = weights * self.places[0] * self.places[1] * batch
        if kernels_pay(dtype):
            return "own" if not plain and products >= LEAST_PRODUCTS[dtype] else "backend"
        enough = not plain and products >= FEW_LEAST_PRODUCTS
        if enough and few_kernels_pay(dtype) and self._few(weights, channels, dtype):
            return "float32"
        some = weights >= SMALL_LEAST_WEIGHTS and self.places[1] >= SMALL_LEAST_ACROSS
        return "own" if some and products <= SMALL_MOST_PRODUCTS and small_kernels_pay(dtype) else "backend"

    def _few(self, weights: int, channels: int, dtype: torch.dtype) -> bool:
        made = weights // (self.kernel[0] * self.kernel[1] * channels)
        wide, narrow = (made, channels) if self.transposed else (channels, made)
        if dtype == torch.float32:  # a single wide channel has no place beside another in a vector
            return narrow <= FEW_CHANNELS or 1 < wide <= FEW_CHANNELS
        return narrow <= FEW_CHANNELS and weights >= FEW_LEAST_WINDOW * narrow


class Conv2d(nn.Conv2d):
    """As nn.Conv2d; the same numbers but for rounding, in the form that is fastest.

    Gradients: any order.
    """

    def forward(self, x: Tensor, slope: float = 1.0, reflect: _Pair | None = None) -> Tensor:
        """Return what nn.Conv2d returns, channels-last where x is a grey picture too.

        Args:
            x: [N, C, H, W].
            slope: of an activation in front of the convolution, below 0: 0 ReLU, 1 none.
            reflect: rows and columns of x's reflection that are put around it first, for a layer without padding.
        """
        grey = self.in_channels == 1 and isinstance(x, Tensor) and x.dim() == 4 and x.shape[1] == 1
        if grey and x.is_contiguous():
            x = x.view(x.shape[0], *x.shape[2:], 1).permute(0, 3, 1, 2)  # strides that say so: ganengine.layout
        if _applies(self, x) and not isinstance(self.padding, str):
            k, s, p = self.kernel_size, self.stride, reflect or self.padding
            form = gathering(k, s, p, x, reflect is not None)  # type: ignore[arg-type]
            ways = ways_of(x, self.in_channels * self.out_channels * k[0] * k[1], form, self.training)
            if ways is not None:
                return convolved(x, self.weight, self.bias, form, ways, slope)
        x = activated(x, slope)
        return super().forward(x if reflect is None else reflected(x, reflect))


class ConvTranspose2d(nn.ConvTranspose2d):
    """As nn.ConvTranspose2d; the same numbers but for rounding, in the form that is fastest.

    Gradients: any order.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None, slope: float = 1.0) -> Tensor:
        """Return what nn.ConvTranspose2d returns.

        Args:
            x: [N, C, H, W].
            output_size: as in nn.ConvTranspose2d.
            slope: of an activation in front of the convolution, below 0: 0 ReLU, 1 none.
        """
        if output_size is None and _applies(self, x) and not isinstance(self.padding, str):
            k, s, p, beyond = self.kernel_size, self.stride, self.padding, self.output_padding
            form = scattering(k, s, p, beyond, x)  # type: ignore[arg-type]
            ways = ways_of(x, self.in_channels * self.out_channels * k[0] * k[1], form, self.training)
            if ways is not None:
                return convolved(x, self.weight, self.bias, form, ways, slope)
        return super().forward(activated(x, slope), output_size)


def preact_conv2d(conv: nn.Conv2d, x: Tensor, slope: float = 0.0) -> Tensor:
    """Return conv(act(x)), act(v) = v where v > 0, else slope v; in one pass over memory where the layer has that.

    Args:
        conv: a layer; it is called, so that its hooks are.
        x: [N, C, H, W]. It may be kept for the gradient, and must then not be changed in place.
        slope: 0 ReLU, 1 no activation.

    Gradients: any order.
    """
    made: Tensor = conv(x, slope=slope) if slope != 1 and takes_along(conv) else conv(activated(x, slope))
    return made


def takes_along(layer: nn.Module | None) -> bool:
    """Return whether a layer is a convolution that takes what stands in front of it along."""
    # Asked of the method: a parametrized layer has a class of its own, and so may a user's, with another forward.
    return layer is not None and type(layer).forward in (Conv2d.forward, ConvTranspose2d.forward)


def gathering(kernel: _Pair, stride: _Pair, padding: _Pair, x: Tensor, reflect: bool = False) -> Form:
    """Return the form of a convolution of x."""
    return _gathering(kernel, stride, padding, *x.shape[2:], reflect)


def scattering(kernel: _Pair, stride: _Pair, padding: _Pair, beyond: _Pair, x: Tensor) -> Form:
    """Return the form of a transposed convolution of x."""
    return _scattering(kernel, stride, padding, beyond, *x.shape[2:])


# Kept, as a network asks for the same ones in each pass.
@functools.lru_cache(maxsize=1 << 10)
def _gathering(kernel: _Pair, stride: _Pair, padding: _Pair, high: int, wide: int, reflect: bool) -> Form:
    down = (high + 2 * padding[0] - kernel[0]) // stride[0] + 1
    across = (wide + 2 * padding[1] - kernel[1]) // stride[1] + 1
    return Form(kernel, stride, padding, (0, 0), False, reflect, (down, across), (high, wide))


@functools.lru_cache(maxsize=1 << 10)
def _scattering(kernel: _Pair, stride: _Pair, padding: _Pair, beyond: _Pair, down: int, across: int) -> Form:
    high = (down - 1) * stride[0] - 2 * padding[0] + kernel[0] + beyond[0]
    wide = (across - 1) * stride[1] - 2 * padding[1] + kernel[1] + beyond[1]
    return Form(kernel, stride, padding, beyond, True, False, (down, across), (high, wide))


def _applies(module: Any, x: Tensor) -> bool:
    return (
        isinstance(x, Tensor)  # torch.fx traces with proxies, which have no answers to what follows
        and not traced()
        and x.device.type == "cpu"
        and x.is_floating_point()
        and x.dim() == 4
        and x.shape[1] == module.in_channels
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
    )


def ways_of(x: Tensor, weights: int, form: Form, training: bool) -> _Ways | None:
    """Return the ways of values (and data gradient) and of the weight gradient, or None for torch's own layer.

    Args:
        x: what the layer takes, on the CPU.
        weights: how many there are. Counted, not asked of the weight: a normalised one is made anew each time that it
            is looked at.
        form: of the convolution.
        training: whether the layer is in training. If not, a picture in float32 goes the same way whatever its batch
            mates: the batch has no say, and there are no products of patches, whose rounding follows their number. By
            our own kernels it gets the same bits; the backend, which small layers are left to, may round by the batch.
    """
    dtype, batch = computed_in(x), x.shape[0]
    if batch == 0 or min(*form.places, *form.wide) <= 0:
        return None
    alone = dtype == torch.float32 and not training
    other = form.way(1 if alone else batch, weights, x.shape[1], dtype)
    values: Way = "patches" if not alone and form.values_pay(batch, weights, dtype) else other
    gradient: Way = "patches" if form.weights_pay(batch, weights, dtype) else other
    if values == "backend" and (gradient == "backend" or not torch.is_grad_enabled()):
        return None
    return values, gradient


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, form: Form, ways: _Ways, slope: float = 1.0
) -> Tensor:  # fmt: skip
    """Return the convolution of act(x) in such ways.

    Args:
        x: [N, C, H, W], on the CPU.
        weight, bias: as torch has them for the layer.
        form: of the convolution.
        ways: as `ways_of` gave them.
        slope: of the activation below 0: 0 ReLU, 1 none.

    Gradients: any order.
    """
    if ways in (("own", "own"), ("float32", "float32")):
        return _by_kernels(x, computed_in(x), weight, bias, form, ways[0], form.transposed, slope)
    x = activated(x, slope)
    if form.reflect:
        x = reflected(x, form.padding)
        form = gathering(form.kernel, form.stride, (0, 0), x)
    made: Tensor = _Convolution.apply(x, weight, bias, form, computed_in(x), ways)  # type: ignore[no-untyped-call]
    return made


class _Convolution(torch.autograd.Function):
    """A convolution in given ways, not both our own kernels, whose ops have gradients themselves."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, form: Form, dtype: torch.dtype, ways: _Ways
    ) -> Tensor:
        ctx.form, ctx.dtype, ctx.ways = form, dtype, ways
        few = len(x) * form.places[0] * form.places[1] <= FULL_PRECISION_ROWS and dtype == torch.bfloat16
        ctx.inner = weight.dtype if few else dtype
        ctx.bias = None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight)
        x = x.to(dtype)
        if ways[0] in _OWN:
            return _by_kernels(x, dtype, weight, bias, form, ways[0], form.transposed)
        with torch.autocast("cpu", enabled=False):
            inner = dtype if ways[0] == "backend" else ctx.inner
            ctx.cast = cast = weight.to(inner)
            shift = None if bias is None else bias.to(inner)
            if ways[0] == "backend":
                return _backend(x, cast, shift, form)
            x = x.to(inner)
            made = _scattered(x, cast, form) if form.transposed else _gathered(x, cast, shift, form)
            if form.transposed and shift is not None:
                made.add_(shift.view(-1, 1, 1))
            # Not as a view: autograd lets nobody, as an activation in place, change a view that a function returns.
            return made.to(dtype).data

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias, *_ = wanted(ctx)
        found: list[Tensor | None] = [None, None]
        if not torch.is_grad_enabled():
            found[0] = _data_gradient(ctx, grad, weight) if to_x else None
            found[1] = _weight_gradient(ctx, grad, x) if to_weight else None
        left = [need and own is None for need, own in zip((to_x, to_weight), found, strict=True)]
        if any(left):
            rest = _by_backend(ctx, grad, x, weight, left)
            found = [own if own is not None else other for own, other in zip(found, rest, strict=True)]
        shift = convolution_bias(grad).to(ctx.bias) if to_bias and ctx.bias is not None else None
        return (
            None if found[0] is None else found[0].to(x.dtype),
            None if found[1] is None else found[1].to(weight.dtype),
            shift,
            *[None] * 3,
        )


def _data_gradient(ctx: Any, grad: Tensor, weight: Tensor) -> Tensor | None:
    form = ctx.form
    if ctx.ways[0] in _OWN:
        return _by_kernels(grad, ctx.dtype, weight, None, form, ctx.ways[0], not form.transposed)
    if ctx.ways[0] == "patches":
        with torch.autocast("cpu", enabled=False):
            grad = grad.to(ctx.inner)
            return _gathered(grad, ctx.cast, None, form) if form.transposed else _scattered(grad, ctx.cast, form)
    return None


def _weight_gradient(ctx: Any, grad: Tensor, x: Tensor) -> Tensor | None:
    form, x = ctx.form, x.to(ctx.dtype)
    wide, narrow = (grad, x) if form.transposed else (x, grad)
    if ctx.ways[1] in _OWN:
        inner = _inside(ctx.ways[1], ctx.dtype)
        return convolution_weights(wide.to(inner), narrow.to(inner), form.stride, form.padding, form.kernel)
    if ctx.ways[1] == "patches":
        with torch.autocast("cpu", enabled=False):
            return _product(wide.to(ctx.inner), narrow.to(ctx.inner), form)
    return None


def _by_backend(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, left: list[bool]) -> tuple[Tensor | None, ...]:
    """Return gradients that can be differentiated again, and those that the backend makes as fast."""
    form = ctx.form
    # From the weight itself, so that a second derivative leads to it.
    again = torch.is_grad_enabled() or ctx.ways[0] in _OWN
    with torch.autocast("cpu", enabled=False):
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            grad, x.to(ctx.dtype), (weight if again else ctx.cast).to(ctx.dtype), None, form.stride, form.padding,
            (1, 1), form.transposed, form.beyond, 1, (*left, False),
        )  # fmt: skip
    return to_x, to_weight


def _inside(way: Way, dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if way == "float32" else dtype


def _by_kernels(
    x: Tensor, dtype: torch.dtype, weight: Tensor, bias: Tensor | None, form: Form, way: Way, to_wide: bool,
    slope: float = 1.0,
) -> Tensor:  # fmt: skip
    inner = _inside(way, dtype)
    x = x.to(inner)
    # As they are kept, but for those kept in 16 bits: bfloat16 beside bfloat16 is all that the op takes of them.
    weight = weight if weight.dtype == torch.float32 else weight.to(inner)
    bias = None if bias is None else widened(bias, torch.float32)
    if to_wide:
        made = convolution_backward(x, weight, bias, form.stride, form.padding, form.wide, form.reflect, slope)
    else:
        made = convolution(x, weight, bias, form.stride, form.padding, form.reflect, slope)
    return made.to(dtype)


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


def _skinny(rows: Tensor) -> bool:
    return len(rows) <= SKINNY_ROWS and rows.dtype == torch.float32 and compiled("skinny_product", "cpu")


def _gathered(wide: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    """Return the narrow side: what each place's patch makes."""
    patches, matrix = _patches(wide, form), _matrix(weight)
    if _skinny(patches):
        made = skinny_product(patches, matrix)
        made = made if bias is None else made.add_(bias)
    else:
        made = F.linear(patches, matrix, bias)
    return made.view(len(wide), *form.places, -1).permute(0, 3, 1, 2)


def _scattered(narrow: Tensor, weight: Tensor, form: Form) -> Tensor:
    """Return the wide side: what each place adds to its patch, summed."""
    size = (len(narrow), *form.wide, weight.shape[1])
    rows, matrix = _rows(narrow), _matrix(weight)
    patches = skinny_product_backward(rows, matrix) if _skinny(rows) else rows @ matrix
    return col2im(patches, size, form.kernel, form.stride, form.padding, form.places).permute(0, 3, 1, 2)


def _product(wide: Tensor, narrow: Tensor, form: Form) -> Tensor:
    """Return the weight's gradient: rows of the narrow side times patches of the wide one."""
    rows, patches = _rows(narrow), _patches(wide, form)
    # A copy of the rows, as the product with a transposed view takes twice as long.
    made = skinny_product_weights(patches, rows) if _skinny(rows) else rows.T.contiguous() @ patches
    return made.view(narrow.shape[1], *form.kernel, -1).permute(0, 3, 1, 2)
