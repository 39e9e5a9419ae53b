"""PatchGAN loss: one number from maps of logits against one target, at one scale or several.

With s over the S maps, n over the N samples and i over the M_s logits of a sample in map s:

    loss_n = 1/S sum over s of 1/M_s sum over i of f(l_sni, t)         ("none")
    loss   = 1/N sum over n of loss_n                                  ("mean")

    mode     f(l, t)                                   f'(l, t)
    bce      log(1 + e^l) - t l                        sigmoid(l) - t
    ls       (l - t)^2                                 2 (l - t)
    hinge    max(0, 1 - t l)                           -t where t l < 1, else 0
    linear   -t l                                      -t

Forward only adds up f. Backward reads the maps again and writes f' grad_loss / (S M_s), or / (S M_s N): to make f' once
more costs less than to write it down and read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.errors import UserError
from ganengine.ops import dispatch
from ganengine.ops.checks import FLOATS, accumulation_dtype, check_choice, check_device, check_float, describe
from ganengine.ops.registration import LIBRARY, below_autograd, define, differentiate, form_of, traced, transformed

OP = "patchgan_loss"

Mode = Literal["bce", "ls", "hinge", "linear"]
Target = float | Tensor


class Formula(NamedTuple):
    """One mode: f and its derivative with respect to the logit, each of (logits, target)."""

    value: Callable[[Tensor, Target], Tensor]
    slope: Callable[[Tensor, Target], Tensor]
    signed: bool
    """Targets are +1 and -1, and smoothing has no meaning."""


def _bce(logits: Tensor, target: Target) -> Tensor:
    return (1 - target) * logits - F.logsigmoid(logits)  # log(1 + e^l) - t l without overflow


def _hinge_slope(logits: Tensor, target: Target) -> Tensor:
    return torch.where(target * logits < 1, -_filled(logits, target), 0.0)


def _filled(logits: Tensor, target: Target) -> Tensor:
    """Return the target in the shape of the logits, without memory for it."""
    whole = target if isinstance(target, Tensor) else logits.new_tensor(target)
    return whole.expand_as(logits)


MODES: Mapping[str, Formula] = MappingProxyType(
    {
        "bce": Formula(_bce, lambda logits, target: torch.sigmoid(logits) - target, signed=False),
        "ls": Formula(
            lambda logits, target: (logits - target).square(),
            lambda logits, target: 2 * (logits - target),
            signed=False,
        ),
        "hinge": Formula(lambda logits, target: F.relu(1 - target * logits), _hinge_slope, signed=True),
        "linear": Formula(
            lambda logits, target: -target * logits, lambda logits, target: -_filled(logits, target), signed=True
        ),
    }
)
FORMULAS = tuple(MODES.values())
NUMBERS: Mapping[str, int] = MappingProxyType({name: number for number, name in enumerate(MODES)})
"""The op takes a mode by its number: a string costs a kernel an allocation."""
REDUCTIONS = ("mean", "none")
FEW = 4096
"""Logits up to which the mean bce of one map on the CPU is softplus in PyTorch, as measured: 30 x 30 of 4 samples."""


def patchgan_loss(
    maps: Tensor | Sequence[Tensor],
    target: float | Sequence[float] | Tensor,
    mode: Mode = "bce",
    reduction: Literal["mean", "none"] = "mean",
    smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of maps of patch logits: mean over each map, mean over the maps, mean over the batch.

    f(l, t) by mode:  bce log(1 + e^l) - t l;  ls (l - t)^2;  hinge max(0, 1 - t l);  linear -t l

    Both sides of a discriminator in one call: `patchgan_loss([D(real), D(fake)], [1, 0])` is half the sum of the
    real and the fake loss; a batch that holds both takes a target per sample instead.

    Args:
        maps: [N, ...] logits (never probabilities), float32, bfloat16, float16 or float64, of any shape behind N; or
            several of one N, dtype and device: scales, or sides. Each counts the same, whatever its size.
        target: what the logits should mean: 1 real, 0 fake (bce, ls: any number that is a target there); +1 real, -1
            fake (hinge, linear: G's hinge loss is linear with +1, the Wasserstein terms are linear with +1 and -1).
            One number, one number per map, or a tensor [N] of a number per sample. A tensor gets no gradient.
        mode: "bce", "ls", "hinge" or "linear". There is no 1/2 in ls.
        reduction: "mean": 0-d; "none": [N], for weights per sample.
        smoothing: bce and ls: positive targets are lowered to (1 - smoothing) of themselves, others stay (one-sided, as
            smoothing the fake side would move the optimum); in [0, 1).

    Returns:
        0-d or [N], float32 (float64 for float64 maps), whatever autocast says. An empty batch or map gives NaN, as a
        mean of nothing does.

    Raises:
        UserError: dtypes, shapes, devices, targets or options do not fit.

    Gradients: any order, with respect to every map. Saved for backward: the maps.
    Determinism: the same bits each time.
    Paper: arXiv:1611.07004, section 3.2.2 (mean over patches); ls arXiv:1611.04076, eq. 2 without the 1/2; hinge
        arXiv:1705.02894, eq. 3 and 4; linear arXiv:1701.07875, algorithm 1; smoothing arXiv:1606.03498, section 3.4.
    """
    maps = [maps] if isinstance(maps, Tensor) else list(maps)
    if len(maps) == 1 and mode == "bce" and reduction == "mean" and not smoothing and _few(maps[0]):
        # PyTorch costs less than any op of ours here, the usual loss of a small G. What holds need not be checked.
        number = target[0] if isinstance(target, (list, tuple)) and len(target) == 1 else target
        if isinstance(number, (int, float)) and number in (0, 1):
            return F.softplus(-maps[0] if number else maps[0]).mean()
    _check_options(mode, reduction, smoothing)
    _check_maps(maps)
    numbers, samples = _targets(maps, target, mode, smoothing)
    arguments = (maps, numbers, samples, NUMBERS[mode], reduction == "mean")
    if dispatch.takes_op(OP, maps[0].device.type):
        loss: Tensor = form_of(FORWARD, _recorded)(*arguments)
        return loss
    return reference(*arguments)


def _few(logits: Tensor) -> bool:
    return (
        logits.numel() <= FEW
        and logits.dtype == torch.float32
        and logits.is_cpu
        and logits.dim() > 0
        and dispatch.mode() == "auto"
        and not traced()
    )


def reference(
    maps: Sequence[Tensor], targets: Sequence[float], samples: Tensor | None, mode: int, mean: bool
) -> Tensor:
    """Return the loss: the formula of this module's head in plain PyTorch.

    Args:
        maps: S tensors [N, ...].
        targets: a number per map; empty where `samples` holds them.
        samples: [N] in the dtype of the loss (float32; float64 for float64 maps), a target per sample; or None.
        mode: number of the mode, its place in `MODES`.
        mean: return the mean over the batch, 0-d, instead of [N].
    """
    per_map = [FORMULAS[mode].value(logits, target).mean(1) for logits, target in _with_targets(maps, targets, samples)]
    loss = torch.stack(per_map).mean(0)
    return loss.mean() if mean else loss


def reference_backward(
    grad_loss: Tensor,
    maps: Sequence[Tensor],
    targets: Sequence[float],
    samples: Tensor | None,
    mode: int,
    mean: bool,
) -> list[Tensor]:
    """Return the gradient of each map, contiguous: grad_loss f' / (S M_s), and / N for the mean.

    Args:
        grad_loss: 0-d or [N].
        maps, targets, samples, mode, mean: as in `reference`.
    """
    grad = grad_loss if mean else grad_loss.unsqueeze(1)
    grads = []
    for logits, (flat, target) in zip(maps, _with_targets(maps, targets, samples), strict=True):
        share = len(maps) * (flat.numel() if mean else flat.shape[1])
        wide = FORMULAS[mode].slope(flat, target) * (grad / max(share, 1))
        grads.append(wide.to(logits.dtype).reshape(logits.shape).contiguous())
    return grads


def _with_targets(
    maps: Sequence[Tensor], targets: Sequence[float], samples: Tensor | None
) -> list[tuple[Tensor, Target]]:
    """Pair each map, as [N, M] in the dtype of the loss, with its number or the samples' [N, 1]."""
    wide = [_wide(m) for m in maps]
    return list(zip(wide, targets if samples is None else [samples.unsqueeze(1)] * len(maps), strict=True))


def _wide(logits: Tensor) -> Tensor:
    """Return a map as [N, M] in the dtype of the loss."""
    return logits.to(accumulation_dtype(logits.dtype)).reshape(logits.shape[0], logits.shape[1:].numel())


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(maps: Sequence[Tensor], targets: Sequence[float], samples: Tensor | None, mode: int, mean: bool) -> Tensor:
    return maps[0].new_empty([] if mean else [maps[0].shape[0]], dtype=accumulation_dtype(maps[0].dtype))


def _fake_backward(grad_loss: Tensor, maps: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [m.new_empty(m.shape) for m in maps]


class _Gradient(torch.autograd.Function):
    """The loss below autograd, as a Function of as many tensors as there are maps."""

    @staticmethod
    def forward(ctx: Any, arguments: tuple[Any, ...], *maps: Tensor) -> Tensor:
        ctx.save_for_backward(arguments[1], *maps)
        ctx.arguments = arguments
        loss: Tensor = below_autograd(FORWARD, maps, *arguments)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        samples, *maps = ctx.saved_tensors
        targets, _, mode, mean = ctx.arguments
        arguments = (grad_loss, maps, targets, samples, mode, mean)
        return None, *(BACKWARD(*arguments) if torch.is_grad_enabled() else below_autograd(BACKWARD, *arguments))


def _recorded(maps: Sequence[Tensor], *arguments: Any) -> Tensor:
    loss: Tensor
    if torch.is_grad_enabled():
        for logits in maps:
            if logits.requires_grad:
                loss = _Gradient.apply(arguments, *maps)  # type: ignore[no-untyped-call]
                return loss
    loss = below_autograd(FORWARD, maps, *arguments)
    return loss


def _above_autograd(maps: Sequence[Tensor], *arguments: Any) -> Tensor:
    return reference(maps, *arguments) if transformed() else _recorded(maps, *arguments)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    grad_loss, maps, ctx.targets, samples, ctx.mode, ctx.mean = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad_loss, samples, *maps)


def _gradient_backward(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    grad_loss, samples, *maps = ctx.saved_tensors

    def formula(grad_loss: Tensor, *maps: Tensor) -> list[Tensor]:
        return reference_backward(grad_loss, maps, ctx.targets, samples, ctx.mode, ctx.mean)

    needs_loss, needs_maps, *_ = ctx.needs_input_grad
    found = differentiate(formula, (grad_loss, *maps), (needs_loss, *needs_maps), grads)
    of_targets: list[None] | None = None if ctx.targets else []  # torch takes an empty list for one of tensors
    return found[0], found[1:], of_targets, None, None, None


FORWARD = define(
    f"{OP}(Tensor[] maps, float[] targets, Tensor? samples, int mode, bool mean) -> Tensor",
    reference=reference,
    fake=_fake,
)
BACKWARD = define(
    f"{OP}_backward(Tensor grad_loss, Tensor[] maps, float[] targets, Tensor? samples, int mode, bool mean)"
    " -> Tensor[] grad_maps",
    reference=reference_backward,
    fake=_fake_backward,
)
LIBRARY.impl(OP, _above_autograd, "Autograd")  # type: ignore[no-untyped-call]
torch.library.register_autograd(BACKWARD, _gradient_backward, setup_context=_save_backward, lib=LIBRARY)


# ----------------------------------------------------------------------------------------------------------------
# Checks


def _check_options(mode: str, reduction: str, smoothing: float) -> None:
    if mode not in MODES:
        check_choice(OP, "mode", mode, MODES)
    if reduction not in REDUCTIONS:
        check_choice(OP, "reduction", reduction, REDUCTIONS)
    if not 0 <= smoothing < 1:
        raise UserError(f"{OP}: expected smoothing in [0, 1), got {smoothing}.")
    if smoothing and MODES[mode].signed:
        raise UserError(f"{OP}: smoothing is for bce and ls, got {smoothing} with {mode}. Leave it at 0.")


def _check_maps(maps: Sequence[Tensor]) -> None:
    if not maps:
        raise UserError(f"{OP}: expected one map of logits or several, got an empty list.")
    first = maps[0]
    for k, m in enumerate(maps):
        if m.dtype not in FLOATS:
            check_float(OP, f"maps[{k}]", m)
        if m.dim() == 0:
            raise UserError(f"{OP}: expected maps[{k}] [N, ...], got a single number.")
        if m is first:
            continue
        if m.size(0) != first.size(0) or m.dtype != first.dtype:
            raise UserError(
                f"{OP}: expected maps of one batch and dtype, got maps[0] {describe(first)} and maps[{k}] "
                f"{describe(m)}. Call the loss once for each."
            )
        if m.device != first.device:
            check_device(OP, f"maps[{k}]", m, "maps[0]", first.device)


def _targets(
    maps: Sequence[Tensor], target: float | Sequence[float] | Tensor, mode: str, smoothing: float
) -> tuple[list[float], Tensor | None]:
    """Return the target as (a number per map, None) or (none, a tensor [N]), smoothed."""
    first = maps[0]
    if isinstance(target, Tensor):
        check_device(OP, "target", target, "maps", first.device)
        if target.shape != first.shape[:1]:
            raise UserError(
                f"{OP}: expected target to be a number, a number per map or a tensor [N] = [{first.shape[0]}], "
                f"got {describe(target)}."
            )
        if target.requires_grad:
            raise UserError(f"{OP}: target gets no gradient, but it requires one. Pass target.detach().")
        samples = target.to(accumulation_dtype(first.dtype))
        return [], samples - smoothing * samples.clamp_min(0) if smoothing else samples
    numbers = [float(target)] * len(maps) if isinstance(target, (int, float)) else [float(t) for t in target]
    if len(numbers) != len(maps):
        raise UserError(f"{OP}: expected one target or one per map ({len(maps)}), got {len(numbers)} targets.")
    for t in numbers:
        if t == 1.0:  # right in every mode
            continue
        if MODES[mode].signed and t != -1.0:
            raise UserError(f"{OP}: expected target +1 (real) or -1 (fake) with {mode}, got {t:g}.")
        if mode == "bce" and not t >= 0:
            raise UserError(f"{OP}: expected target 1 (real) or 0 (fake) with bce, got {t:g}.")
    return [t - smoothing * max(t, 0.0) for t in numbers] if smoothing else numbers, None
