"""The case table of the ops: what every test and bench of them runs over, and eager PyTorch to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine import ops
from ganengine.ops.counter import keep_mask

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ISAS = ("baseline", "avx2", "avx512")
"""As `set_isa` counts instruction sets."""


@contextmanager
def computing(isa: str) -> Iterator[None]:
    """Have the CPU kernels use an instruction set."""
    wanted = ISAS.index(isa)
    try:
        if torch.ops.ganengine.set_isa(wanted) != wanted:
            pytest.skip(f"this machine has no {isa}")
        yield
    finally:
        torch.ops.ganengine.set_isa(2)


def lay_out(x: Tensor, layout: str) -> Tensor:
    """Return the values of x in another memory layout."""
    if layout == "contiguous":
        return x
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)
    if layout == "strided":  # every other element of a larger tensor, from an odd start
        wide = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), torch.nan, dtype=x.dtype)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    raise ValueError(layout)


@dataclass(frozen=True)
class CbnCase:
    """One case of conditional batch norm."""

    id: str
    shape: tuple[int, ...]
    classes: int | None = 5
    """None: gamma and beta per sample."""
    activation: Any = None
    training: bool = True
    layout: str = "contiguous"
    grad_layout: str = "contiguous"
    """"stride0": the gradient of a sum."""
    label_dtype: torch.dtype = torch.int64
    offset: float = 0.0
    """Mean of x in standard deviations: where a variance by squared mean cancels."""

    def inputs(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return the arguments of the public function, leaves that require gradients."""
        draw = torch.Generator().manual_seed(7)
        n, c = self.shape[:2]
        rows = n if self.classes is None else self.classes
        x = (torch.randn(self.shape, generator=draw) + self.offset).to(dtype)
        tables = [torch.randn(rows, c, generator=draw) * 0.5 + shift for shift in (1.0, 0.0)]
        gamma, beta = (t.double() if dtype == torch.float64 else t for t in tables)
        labels = None
        if self.classes is not None:
            labels = torch.randint(self.classes, (n,), generator=draw).to(self.label_dtype)
        return {
            "x": lay_out(x, self.layout).detach().requires_grad_(),
            "gamma": gamma.requires_grad_(),
            "beta": beta.requires_grad_(),
            "labels": labels,
            "running_mean": torch.randn(c, generator=draw).to(gamma.dtype),
            "running_var": torch.rand(c, generator=draw).add(0.5).to(gamma.dtype),
            "training": self.training,
            "activation": self.activation,
        }

    def grad(self, dtype: torch.dtype) -> Tensor:
        """Return a gradient for the result."""
        if self.grad_layout == "stride0":
            return torch.full((), 0.75, dtype=dtype).expand(self.shape)
        return lay_out(torch.randn(self.shape, generator=torch.Generator().manual_seed(8)).to(dtype), self.grad_layout)


CBN_CASES = (
    CbnCase("nchw", (4, 3, 5, 6)),
    CbnCase("nchw-relu", (4, 3, 5, 6), activation="relu"),
    CbnCase("nchw-leaky", (4, 3, 5, 6), activation="leaky_relu"),
    CbnCase("per-sample", (4, 3, 5, 6), classes=None, activation="relu"),
    CbnCase("eval", (4, 3, 5, 6), training=False, activation="relu"),
    CbnCase("channels-last", (4, 3, 5, 6), layout="channels_last", activation="relu"),
    CbnCase("channels-last-grad-nchw", (4, 3, 5, 6), layout="channels_last"),
    CbnCase("nchw-grad-channels-last", (4, 3, 5, 6), grad_layout="channels_last"),
    CbnCase("channels-last-both", (4, 3, 5, 6), layout="channels_last", grad_layout="channels_last"),
    CbnCase("strided", (4, 3, 5, 6), layout="strided", grad_layout="strided"),
    CbnCase("transposed", (4, 3, 5, 6), layout="transposed"),
    CbnCase("stride0-grad", (4, 3, 5, 6), grad_layout="stride0", activation="relu"),
    CbnCase("stride0-grad-channels-last", (4, 3, 5, 6), layout="channels_last", grad_layout="stride0"),
    CbnCase("one-sample", (1, 3, 5, 6), classes=2),
    CbnCase("one-pixel", (6, 3, 1, 1)),
    CbnCase("one-channel", (3, 1, 4, 4), classes=1),
    CbnCase("int32-labels", (4, 3, 5, 6), label_dtype=torch.int32),
    CbnCase("matrix", (6, 4), classes=3),
    CbnCase("signal", (3, 4, 7), classes=3),
    CbnCase("volume", (2, 3, 2, 3, 4), classes=3, layout="channels_last"),
    CbnCase("odd", (3, 17, 7, 9), activation="relu"),
    CbnCase("far-mean", (8, 2, 8, 8), offset=100.0),
)
"""Cases that eager PyTorch can compute too. Empty batches and channels of one element have tests of their own."""


def eager_conditional_batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    *,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    activation: str | None,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """The same by torch's batch_norm: what one writes without the op."""
    normal = F.batch_norm(x, running_mean, running_var, None, None, training, momentum, eps)
    shape = (x.shape[0], x.shape[1], *[1] * (x.dim() - 2))
    scale, shift = (t if labels is None else t[labels.long()] for t in (gamma, beta))
    z = normal * scale.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)
    if activation is None:
        return z
    return F.relu(z) if activation == "relu" else F.leaky_relu(z, 0.2)


@dataclass(frozen=True)
class PatchCase:
    """One case of the PatchGAN loss."""

    id: str
    mode: Any
    target: Any
    """A number, a number per map, or "samples": alternating 1 and the other side, as a tensor."""
    shapes: tuple[tuple[int, ...], ...] = ((4, 1, 5, 6),)
    layout: str = "contiguous"
    reduction: Any = "mean"
    smoothing: float = 0.0
    mean: float = 0.0
    """Of the logits, whose deviation is 4."""

    def maps(self, dtype: torch.dtype) -> list[Tensor]:
        """Return leaves that require gradients, with some logits far from the mean."""
        draw = torch.Generator().manual_seed(9)
        drawn = [(torch.randn(s, generator=draw) * 4 + self.mean).to(dtype) for s in self.shapes]
        return [lay_out(m, self.layout).detach().requires_grad_() for m in drawn]

    def targets(self) -> Any:
        """Return the `target` argument."""
        if self.target != "samples":
            return self.target
        fake = -1.0 if self.mode in ("hinge", "linear") else 0.0
        return torch.tensor([1.0, fake] * self.shapes[0][0])[: self.shapes[0][0]]


_SCALES = ((4, 1, 6, 6), (4, 1, 3, 3), (4, 1, 1, 1))
PATCH_CASES = (
    *(PatchCase(f"{m}-real", m, 1.0) for m in ("bce", "ls", "hinge", "linear")),
    *(PatchCase(f"{m}-fake", m, 0.0) for m in ("bce", "ls")),
    *(PatchCase(f"{m}-fake", m, -1.0) for m in ("hinge", "linear")),
    *(PatchCase(f"{m}-samples", m, "samples", reduction="none") for m in ("bce", "ls", "hinge", "linear")),
    PatchCase("bce-scales", "bce", 1.0, _SCALES),
    PatchCase("bce-both-sides", "bce", [1.0, 0.0], ((4, 1, 5, 6), (4, 1, 5, 6))),
    PatchCase("hinge-scales-none", "hinge", 1.0, _SCALES, reduction="none"),
    PatchCase("bce-scales-samples", "bce", "samples", _SCALES),
    PatchCase("bce-smooth", "bce", [1.0, 0.0], ((4, 1, 5, 6), (4, 1, 5, 6)), smoothing=0.1),
    PatchCase("ls-coded", "ls", [1.0, -1.0], ((4, 1, 5, 6), (4, 1, 5, 6)), smoothing=0.1),
    PatchCase("bce-strided", "bce", 1.0, layout="strided"),
    PatchCase("ls-channels-last", "ls", 1.0, ((4, 3, 5, 6),), layout="channels_last"),
    PatchCase("linear-vector", "linear", 1.0, ((5,),)),
    PatchCase("bce-one", "bce", 1.0, ((1, 1),)),
    PatchCase("hinge-one-sample", "hinge", -1.0, ((1, 1, 30, 30),)),
    # Losses that are small numbers, and such beside large ones.
    PatchCase("bce-confident", "bce", [1.0, 0.0], ((4, 1, 30, 30), (4, 1, 5, 6)), mean=20.0),
    PatchCase("bce-confident-fake", "bce", 0.0, ((4, 1, 30, 30),), reduction="none", mean=-9.0),
    PatchCase("bce-confident-one", "bce", 1.0, ((4, 1),), reduction="none", mean=9.0),
)


def eager_patchgan_loss(
    maps: Sequence[Tensor], target: Any, mode: str, reduction: str = "mean", smoothing: float = 0.0
) -> Tensor:
    """The same by torch's losses and a target tensor per map."""
    values: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "bce": lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        "ls": lambda x, t: F.mse_loss(x, t, reduction="none"),
        "hinge": lambda x, t: F.relu(1 - t * x),
        "linear": lambda x, t: -t * x,
    }
    total = torch.zeros((), dtype=maps[0].dtype)
    for k, m in enumerate(maps):
        t = target[k] if isinstance(target, list) else target
        t = torch.as_tensor(t, dtype=m.dtype)
        t = torch.where(t > 0, t * (1 - smoothing), t).reshape(-1, *[1] * (m.dim() - 1)).expand_as(m)
        total = total + values[mode](m, t).flatten(1).mean(1) if m.dim() > 1 else total + values[mode](m, t)
    total = total / len(maps)
    return total.mean() if reduction == "mean" else total


@dataclass(frozen=True)
class MaxoutCase:
    """One case of Maxout."""

    id: str
    n: int
    pieces: int
    units: int
    bias: bool = True
    activation: Any = None
    dropout: float = 0.0
    layout: str = "contiguous"
    offset: int = 0

    def inputs(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return the arguments of the public function, leaves that require gradients."""
        draw = torch.Generator().manual_seed(10)
        h = lay_out(torch.randn(self.n, self.pieces * self.units, generator=draw).to(dtype), self.layout)
        bias = torch.randn(self.pieces * self.units, generator=draw)
        bias = bias.double() if dtype == torch.float64 else bias
        return {
            "h": h.detach().requires_grad_(),
            "bias": bias.requires_grad_() if self.bias else None,
            "pieces": self.pieces,
            "activation": self.activation,
            "dropout": self.dropout,
            "seed": 2**63 + 11,
            "offset": self.offset,
        }


MAXOUT_CASES = (
    MaxoutCase("plain", 4, 5, 6),
    MaxoutCase("no-bias", 4, 5, 6, bias=False),
    MaxoutCase("relu", 4, 5, 6, activation="relu"),
    MaxoutCase("dropout", 4, 5, 6, dropout=0.5),
    MaxoutCase("relu-dropout", 8, 5, 7, activation="relu", dropout=0.5),
    MaxoutCase("relu-dropout-odd-offset", 3, 3, 5, activation="relu", dropout=0.25, offset=2**40 + 45),
    MaxoutCase("one-piece", 4, 1, 6, activation="relu"),
    MaxoutCase("one-unit", 4, 5, 1),
    MaxoutCase("one-sample", 1, 4, 6, dropout=0.5),
    MaxoutCase("most-pieces", 2, 255, 3),
    MaxoutCase("strided", 4, 5, 6, layout="strided"),
    MaxoutCase("transposed", 4, 5, 6, layout="transposed", activation="relu"),
    MaxoutCase("empty", 0, 5, 6, activation="relu", dropout=0.5),
)


def eager_maxout(
    h: Tensor,
    bias: Tensor | None,
    pieces: int,
    *,
    activation: str | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    offset: int = 0,
) -> Tensor:
    """The same by torch's max over a view, with the op's own mask."""
    a = h if bias is None else h + bias.to(h.dtype)
    a = F.relu(a) if activation == "relu" else a
    if dropout:
        a = a * keep_mask(seed, offset, h.shape, dropout) / (1 - dropout)
    return a.reshape(h.shape[0], pieces, -1).max(1).values if h.shape[0] else a[:, : h.shape[1] // pieces]


def as_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the same arguments with every floating tensor as a float64 leaf: the truth to compare with."""

    def widen(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.detach().double().requires_grad_(value.requires_grad)
        return value

    return {name: widen(value) for name, value in arguments.items()}


def assert_as_good_as_eager(name: str, ours: Tensor, eager: Tensor, truth: Tensor) -> None:
    """Hold the error against float64 to twice that of eager PyTorch in the same dtype, plus one ulp of the largest.

    In float64 eager is the truth itself; there the two may differ by 1e-12 of the largest value: rounding, of
    which the case with a mean of 100 deviations takes two digits.
    """
    if truth.numel() == 0:
        assert ours.shape == truth.shape
        return
    error = (ours.double() - truth).abs().max().item()
    allowed = 2 * (eager.double() - truth).abs().max().item()
    ulp = (1e-12 if ours.dtype == torch.float64 else torch.finfo(ours.dtype).eps) * truth.abs().max().item()
    assert error <= allowed + ulp, f"{name}: error {error:.3g}, eager's {allowed / 2:.3g}, ulp {ulp:.3g}"


@contextmanager
def ops_mode(mode: str) -> Iterator[None]:
    """Choose the implementation of the ops inside the block."""
    before = ops.mode()
    ops.set_mode(mode)
    try:
        yield
    finally:
        ops.set_mode(before)
