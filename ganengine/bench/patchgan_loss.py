"""PatchGAN loss (bce, mean): D's side, real and fake in one call, and G's, at one scale and at three."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.ops import patchgan_loss

OP = "patchgan_loss"
BATCHES = (1, 4, 16, 64, 256)
SCALES = (30, 14, 6)
SCALED_BATCHES = (16, 64, 256)
SIDES = {"D": (1.0, 0.0), "G": (1.0,)}
"""Targets of a side's maps: real, then fake."""


def cases() -> list[Case]:
    """Return all cases."""
    wanted = [(n, SCALES[:1]) for n in BATCHES] + [(n, SCALES) for n in SCALED_BATCHES]
    return [
        case(side, n, scales, dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for side in SIDES
        for n, scales in wanted
    ]  # fmt: skip


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case("D", 64, SCALES[:1], torch.float32)]


def case(side: str, n: int, scales: Sequence[int], dtype: torch.dtype) -> Case:
    """Return the case of a side's maps [n, 1, s, s], s over the scales; the case's shape is that of the first map."""
    name = "D: real, fake" if side == "D" else "G"
    if len(scales) > 1:
        name += f"; scales {' '.join(map(str, scales))}"
    shape = (n, 1, scales[0], scales[0])
    return Case(OP, name, shape, dtype, "contiguous", partial(_subject, side, n, tuple(scales), dtype))


def _subject(side: str, n: int, scales: Sequence[int], dtype: torch.dtype, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(2)
    targets = [target for target in SIDES[side] for _ in scales]
    maps = [(2 * torch.randn(n, 1, s, s, generator=draw)).to(device, dtype) for _ in SIDES[side] for s in scales]
    inputs = tuple(m.requires_grad_() for m in maps)
    plain = torch.cat([m.detach().flatten() for m in maps])
    # What an eager loss can keep from step to step, it keeps.
    wanted = [torch.full_like(m, t) for m, t in zip(maps, targets, strict=True)]
    whole = torch.cat([t.flatten() for t in wanted])
    weights = torch.cat([torch.full_like(m, 1 / (len(maps) * m.numel())).flatten() for m in maps])

    def per_map(*maps: Tensor) -> Tensor:
        return _mean([F.binary_cross_entropy_with_logits(m, t) for m, t in zip(maps, wanted, strict=True)])

    def softplus(*maps: Tensor) -> Tensor:
        return _mean([F.softplus(-m if t else m).mean() for m, t in zip(maps, targets, strict=True)])

    def joined(*maps: Tensor) -> Tensor:
        logits = torch.cat([m.flatten() for m in maps])
        if len(scales) == 1:  # maps of one size: the mean over all is the mean of the means
            return F.binary_cross_entropy_with_logits(logits, whole)
        return F.binary_cross_entropy_with_logits(logits, whole, weights, reduction="sum")

    def fused(*maps: Tensor) -> Tensor:
        return patchgan_loss(maps, targets)

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        wide = [m.detach().double().requires_grad_() for m in maps]
        loss = _mean([(F.softplus(m) - t * m).mean() for m, t in zip(wide, targets, strict=True)])
        return (loss.detach(), *torch.autograd.grad(loss, wide))

    # Forward reads the maps; backward reads them again and writes the gradients.
    floor = {FORWARD: Floor(plain.clone, 0.5), BOTH: Floor(plain.clone, 1.5)}
    eager = {"per map": per_map, "softplus": softplus}
    if len(maps) > 1:
        eager["joined"] = joined
    return Subject(inputs, torch.ones((), device=device), fused, eager, ("softplus",), truth, floor)


def _mean(losses: Sequence[Tensor]) -> Tensor:
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / len(losses) if len(losses) > 1 else total
