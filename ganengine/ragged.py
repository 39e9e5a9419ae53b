"""Rows of many samples in one tensor: which belong to which sample, and sums, maxima and pairs within each.

`starts` [N + 1], int64, says where each sample's rows begin, and where the last one's end: rows `starts[i]` to
`starts[i + 1]` are those of sample i.
"""

from __future__ import annotations

import torch
from torch import Tensor


def starts_of(counts: Tensor) -> Tensor:
    """Return where rows begin and end, [N + 1], given how many each sample has, [N]."""
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))


def owners(starts: Tensor, rows: int) -> Tensor:
    """Return which sample each row belongs to, [rows]."""
    samples = torch.arange(len(starts) - 1, device=starts.device)
    return samples.repeat_interleave(starts.diff(), output_size=rows)


def sums(values: Tensor, starts: Tensor) -> Tensor:
    """Return the sums over each sample's rows, [N, ...] for values [rows, ...]; 0 where it has none.

    Gradients: first order. Determinism: rows are added in their order.
    """
    return torch.segment_reduce(values, "sum", offsets=starts, initial=0)


def means(values: Tensor, starts: Tensor) -> Tensor:
    """Return the means over each sample's rows, [N, ...]; 0 where it has none. Gradients: first order."""
    counts = starts.diff().clamp(min=1).to(values.dtype)
    return sums(values, starts) / counts.view(-1, *[1] * (values.dim() - 1))


def maxima(values: Tensor, starts: Tensor) -> Tensor:
    """Return the largest over each sample's rows, [N, ...]; -inf where it has none. Gradients: first order."""
    return torch.segment_reduce(values, "max", offsets=starts)


def pairs(starts: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return all ordered pairs of rows of one sample, a row with itself included.

    Returns:
        first [M] and second [M], rows, in the order of `first`; and where the pairs of each row begin, [rows + 1].
    """
    owner = owners(starts, rows)
    counts = starts.diff()[owner]
    begins = starts_of(counts)
    total = int(begins[-1])  # sync: how many pairs there are decides on shapes
    first = torch.arange(rows, device=starts.device).repeat_interleave(counts, output_size=total)
    second = starts[owner[first]] + torch.arange(total, device=starts.device) - begins[first]
    return first, second, begins
