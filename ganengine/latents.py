"""Paths and grids of latents: what to ask a generator for, to see what it has learned.

Every function returns (z, y) in row order, ready to be laid out in the stated number of columns. Latents are
[N, *shape], weights of classes [N, K].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ganengine.variant import Prior

Way = Literal["linear", "spherical"]


def from_prior(prior: Prior, count: int, source: torch.Generator) -> Tensor:
    """Draw latents [count, *shape]; parts are drawn in order, a categorical one as a 1 among zeros."""
    if not prior.parts:
        return _drawn(prior.kind, (count, *prior.shape), source)
    return torch.cat([_drawn(part.kind, (count, part.size), source) for part in prior.parts], 1)


def _drawn(kind: str, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    if kind == "categorical":
        values = torch.randint(shape[1], shape[:1], generator=source, device=source.device)
        return torch.nn.functional.one_hot(values, shape[1]).float()
    if kind == "uniform":
        return torch.rand(shape, generator=source, device=source.device) * 2 - 1
    return torch.randn(shape, generator=source, device=source.device)


def scaled(z: Tensor, prior: Prior, factor: float) -> Tensor:
    """Return latents times `factor`; categorical parts stay a 1 among zeros."""
    made = factor * z
    for part in prior.parts:
        if part.kind == "categorical":
            made[:, prior.span(part.name)] = z[:, prior.span(part.name)]
    return made


def value_grid(z: Tensor, prior: Prior, name: str) -> Tensor:
    """Return a row for each value of a categorical part, with the same latents else: [M, ...] -> [values M, ...]."""
    place = prior.span(name)
    values = torch.eye(place.stop - place.start)
    grid = z.repeat(len(values), 1)
    grid[:, place] = values.repeat_interleave(len(z), 0)
    return grid


def number_grid(z: Tensor, index: int, values: Tensor) -> Tensor:
    """Return a row for each latent, in which its number at `index` goes through `values` [K]: [M, L] -> [M K, L]."""
    grid = z.repeat_interleave(len(values), 0)
    grid[:, index] = values.repeat(len(z))
    return grid


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


def over_captions(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row for each caption, with the same latents in each.

    Args:
        z: [M, ...], the columns.
        ids: [R, L], codes of a caption each.

    Returns:
        z [R M, ...] and codes [R M, L].
    """
    return z.repeat((len(ids), *[1] * (z.dim() - 1))), ids.repeat_interleave(len(z), 0)


def between(start: Tensor, stop: Tensor, shares: Tensor, way: Way = "spherical", prior: Prior | None = None) -> Tensor:
    """Return the latents on the way from `start` to `stop` at `shares`; parts of a prior go each by itself.

        linear     (1 - t) a + t b
        spherical  sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b,   w the angle between a and b

    Spherical ways keep the length that a normal prior has almost surely (arXiv:1609.04468, section 2.1); where a and b
    are parallel they are the linear one. A categorical part jumps half-way: no G has seen anything in between.

    Args:
        start: [N, ...].
        stop: like start.
        shares: [M], in [0, 1].
        prior: what the latents were drawn from; None: they are one piece.

    Returns:
        [N, M, ...]; each end is met exactly.
    """
    if prior is None or not prior.parts:
        return _between(start, stop, shares, way)
    starts, stops = prior.split(start), prior.split(stop)
    return torch.cat(
        [
            _between(starts[part.name], stops[part.name], (shares >= 0.5).float(), "linear")
            if part.kind == "categorical"
            else _between(starts[part.name], stops[part.name], shares, way)
            for part in prior.parts
        ],
        -1,
    )


def _between(start: Tensor, stop: Tensor, shares: Tensor, way: Way) -> Tensor:
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


def corners(z: Tensor, side: int, way: Way = "spherical", prior: Prior | None = None) -> Tensor:
    """Return a square of latents between four corners, row by row.

    Args:
        z: [4, ...]: top left, top right, bottom left, bottom right.
        side: latents along each edge.
        way: from corner to corner.
        prior: as in `between`.

    Returns:
        [side * side, ...].
    """
    shares = torch.linspace(0, 1, side)
    edges = between(z[[0, 1]], z[[2, 3]], shares, way, prior)  # left and right edge, downwards
    return between(edges[0], edges[1], shares, way, prior).flatten(0, 1)
