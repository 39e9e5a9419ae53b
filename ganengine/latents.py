"""Paths and grids of latents: what to ask a generator for, to see what it has learned.

Every function returns (z, y) in row order, ready to be laid out in the stated number of columns. Latents are
[N, *shape], weights of classes [N, K].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Way = Literal["linear", "spherical"]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return weights [N, K] that ask for one class each; a label of -1 asks for none and gives a row of zeros."""
    weights = torch.zeros(len(labels), classes)
    known = labels >= 0
    weights[known] = torch.nn.functional.one_hot(labels[known], classes).float()
    return weights


def class_grid(z: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return a row for each class, with the same latents in each: same row, same label; same column, same z.

    Args:
        z: [M, ...], the columns.
        classes: K.

    Returns:
        z [K M, ...] and weights [K M, K].
    """
    labels = torch.arange(classes).repeat_interleave(len(z))
    return z.repeat((classes, *[1] * (z.dim() - 1))), one_hot(labels, classes)


def between(start: Tensor, stop: Tensor, shares: Tensor, way: Way = "spherical") -> Tensor:
    """Return the latents on the way from `start` to `stop` at `shares`.

        linear     (1 - t) a + t b
        spherical  sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b,   w the angle between a and b

    Spherical ways keep the length that a normal prior has almost surely (arXiv:1609.04468, section 2.1); where a and b
    are parallel they are the linear one.

    Args:
        start: [N, ...].
        stop: like start.
        shares: [M], in [0, 1].

    Returns:
        [N, M, ...]; each end is met exactly.
    """
    a, b = (end.reshape(len(end), 1, -1) for end in (start, stop))
    t = shares.reshape(1, -1, 1)
    path = (1 - t) * a + t * b
    if way == "spherical":
        cosine = (a * b).sum(-1, keepdim=True) / (a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))
        angle = cosine.clamp(-1, 1).acos()
        sine = angle.sin()
        round_ = ((1 - t) * angle).sin() / sine * a + (t * angle).sin() / sine * b
        path = torch.where(sine > 1e-6, round_, path)
    path = torch.where(t == 0, a, torch.where(t == 1, b, path))
    return path.reshape(len(start), len(shares), *start.shape[1:])


def corners(z: Tensor, side: int, way: Way = "spherical") -> Tensor:
    """Return a square of latents between four corners, row by row.

    Args:
        z: [4, ...]: top left, top right, bottom left, bottom right.
        side: latents along each edge.

    Returns:
        [side * side, ...].
    """
    shares = torch.linspace(0, 1, side)
    edges = between(z[[0, 1]], z[[2, 3]], shares, way)  # left and right edge, downwards
    return between(edges[0], edges[1], shares, way).flatten(0, 1)
