"""Whether two ways of computing something computed the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest error that counts as rounding: twice what eager PyTorch shows in these cases (5e-6, batch norm over 65,536
positions channels-last, and 9e-3). Cases keep away from the points where rounding decides between two branches, so a
wrong formula is far above."""


def max_error(ours: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Return the largest |ours - truth| / max |truth| over pairs of tensors; infinite for NaN and unequal shapes."""
    errors = [0.0]
    for mine, true in zip(ours, truth, strict=True):
        if mine.shape != true.shape:
            return math.inf
        gap = (mine.double() - true).abs().max().item()
        if not math.isfinite(gap):
            return math.inf
        errors.append(gap / max(true.abs().max().item(), torch.finfo(torch.float64).tiny))
    return max(errors)
