"""The do-nothing op, registered as the others are: what an op costs before it does any work."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ganengine.bench.case import BOTH, FORWARD, Case, Floor, Subject
from ganengine.ops.null import null

OP = "null"
BATCHES = (1, 4, 16, 64, 256)


def cases() -> list[Case]:
    """Return all cases: the maps of the PatchGAN loss."""
    return [case(n) for n in BATCHES]


def quick_cases() -> list[Case]:
    """Return the few for a glance."""
    return [case(64)]


def case(n: int) -> Case:
    """Return the case of one map [n, 1, 30, 30]."""
    return Case(OP, "copy", (n, 1, 30, 30), torch.float32, "contiguous", partial(_subject, n))


def _subject(n: int, device: torch.device) -> Subject:
    draw = torch.Generator().manual_seed(4)
    x, grad = (torch.randn(n, 1, 30, 30, generator=draw).to(device) for _ in range(2))
    plain = x.clone()

    def clone(x: Tensor) -> Tensor:
        return x.clone()

    def truth(_: Tensor) -> tuple[Tensor, ...]:
        return plain.double(), grad.double()

    floor = {FORWARD: Floor(plain.clone, 1.0), BOTH: Floor(plain.clone, 2.0)}
    return Subject((x.requires_grad_(),), grad, null, {"clone": clone}, ("clone",), truth, floor)
