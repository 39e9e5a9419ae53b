"""What to look at in a trained generator: samples by class, ways between latents, ablations, nearest neighbours.

Each function returns a `Sheet`: pictures in row order and the numbers that tell what the eye may miss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ganengine.latents import Way, between, class_grid, corners, number_grid, one_hot, over_captions, value_grid
from ganengine.metrics.pictures import edge_strength
from ganengine.variant import Prior

Draw = Callable[[Tensor, "Tensor | None"], Tensor]
"""(z [N, ...], weights of classes [N, K] or None) -> pictures [N, C, H, W] in [-1, 1]."""

NEAREST = 4
"""Neighbours shown beside a sample."""
SWEEP = (-2.0, 2.0)
"""Ends of a sweep through a number of a latent (arXiv:1606.03657, figure 2: beyond the prior, to see it go on)."""
CHUNK = 256
"""Pictures that distances are worked out for at once."""


@dataclass(frozen=True)
class Sheet:
    """Pictures in row order, how many stand in a row, and numbers by name."""

    pictures: Tensor
    columns: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def samples(draw: Draw, z: Tensor, y: Tensor | None) -> Sheet:
    """Return what latents stand for."""
    return Sheet(draw(z, y))


def by_class(draw: Draw, z: Tensor, classes: int) -> Sheet:
    """Return a row for each class over the same latents, and how far rows and columns spread.

    `within_class` is the mean standard deviation of a pixel over the latents of a class, `between_classes` that over
    the classes of a latent: one of them near 0 says that noise or label is not listened to.
    """
    pictures = draw(*class_grid(z, classes))
    return Sheet(pictures, len(z), spreads(_grid(pictures, len(z))))


def by_caption(draw: Draw, z: Tensor, ids: Tensor) -> Sheet:
    """Return a row for each caption over the same latents, and how far rows and columns spread (see `by_class`)."""
    pictures = draw(*over_captions(z, ids))
    spread = spreads(_grid(pictures, len(z)))
    numbers = {"within_caption": spread["within_class"], "between_captions": spread["between_classes"]}
    return Sheet(pictures, len(z), numbers)


def ablated(draw: Draw, z: Tensor, classes: int, what: str) -> Sheet:
    """Return the class grid without noise (z = 0: all columns are equal) or without label (y = 0: all rows are)."""
    latents, weights = class_grid(torch.zeros_like(z) if what == "noise" else z, classes)
    pictures = draw(latents, torch.zeros_like(weights) if what == "label" else weights)
    return Sheet(pictures, len(z), spreads(_grid(pictures, len(z))))


def spreads(grid: Tensor) -> dict[str, float]:
    """Return the two spreads of a class grid [K, M, ...], on [0, 1]; of one row or column the spread is 0."""
    return {
        "within_class": float(grid.std(1, correction=0).mean()) / 2,
        "between_classes": float(grid.std(0, correction=0).mean()) / 2,
    }


def swept(draw: Draw, z: Tensor, y: Tensor | None, prior: Prior, name: str, steps: int) -> dict[str, Sheet]:
    """Return what one named part of the latent does, the rest of it standing still.

    Of a categorical part, a sheet called `name`: a row for each value, the same latents in each. Of another, a sheet
    for each of its numbers, called `name`-1, `name`-2 ...: a row for each latent, in which the number goes from -2 to 2
    in `steps` pictures. `of_part` is the mean standard deviation of a pixel over what is swept, `of_rest` that over the
    latents, on [0, 1]: near 0 the part, or all but the part, is not listened to.

    Args:
        z: [M, L].
        y: weights of classes of the M latents, or None.
    """
    place = prior.span(name)
    if next(part.kind for part in prior.parts if part.name == name) == "categorical":
        values = place.stop - place.start
        made = draw(value_grid(z, prior, name), None if y is None else y.repeat(values, 1))
        return {name: Sheet(made, len(z), _swept(_grid(made, len(z)).transpose(0, 1)))}
    codes, sheets = torch.linspace(*SWEEP, steps), {}
    for number in range(place.stop - place.start):
        grid = number_grid(z, place.start + number, codes)
        made = draw(grid, None if y is None else y.repeat_interleave(steps, 0))
        sheets[f"{name}-{number + 1}"] = Sheet(made, steps, _swept(_grid(made, steps)))
    return sheets


def _swept(grid: Tensor) -> dict[str, float]:
    """Return both spreads of a grid [latents, swept, ...] of pictures; points have no pixels."""
    if grid.dim() != 5:
        return {}
    found = spreads(grid)
    return {"of_part": found["within_class"], "of_rest": found["between_classes"]}


def interpolated(draw: Draw, z: Tensor, y: Tensor | None, steps: int, way: Way, prior: Prior | None = None) -> Sheet:
    """Return a row of `steps` pictures from each latent to the next pair's other end, and whether ways cross-fade.

    Args:
        z: [2 R, ...]: R starts, then R ends.
        y: weights of classes of the R rows, or None.
        steps: pictures in a row.
        way: between the ends.
        prior: what z was drawn from, where it has parts.

    Returns:
        R rows. `edges_mid` is the mean edge strength of the middle pictures over that of the ends, `edges_blend` that
        of the ends' pixel mean over the same: a generator that merely cross-fades has both equal.
    """
    rows = len(z) // 2
    path = between(z[:rows], z[rows:], torch.linspace(0, 1, steps), way, prior).flatten(0, 1)
    pictures = draw(path, None if y is None else y.repeat_interleave(steps, 0))
    if pictures.dim() != 4:  # points have no edges
        return Sheet(pictures, steps)
    grid = _grid(pictures, steps)
    start, middle, stop = grid[:, 0], grid[:, steps // 2], grid[:, -1]
    start_edges, stop_edges, middle_edges, blend_edges = (
        float(edge_strength(shown).mean()) for shown in (start, stop, middle, (start + stop) / 2)
    )
    ends = (start_edges + stop_edges) / 2
    numbers = {"edges_mid": middle_edges / ends, "edges_blend": blend_edges / ends} if ends > 0 else {}
    return Sheet(pictures, steps, numbers)


def cornered(draw: Draw, z: Tensor, y: Tensor | None, side: int, way: Way, prior: Prior | None = None) -> Sheet:
    """Return a square of pictures between four corners z [4, ...]."""
    return Sheet(draw(corners(z, side, way, prior), None if y is None else y[:1].expand(side * side, -1)), side)


def morphed(draw: Draw, z: Tensor, labels: tuple[int, int], classes: int, steps: int) -> Sheet:
    """Return a row for each latent, from one class to another by mixing their weights."""
    start, stop = one_hot(torch.tensor(labels), classes)
    share = torch.linspace(0, 1, steps).unsqueeze(1)
    weights = (1 - share) * start + share * stop
    return Sheet(draw(z.repeat_interleave(steps, 0), weights.repeat(len(z), 1)), steps)


def neighbours(made: Tensor, train: Tensor, held_out: Tensor | None) -> Sheet:
    """Return each sample beside the training pictures nearest to it (L2 over pixels), and whether G has copied.

    `ratio` is the mean distance of a sample to its nearest training picture over that of a held-out picture to its own:
    near 1 G does not memorise, near 0 it copies. Without held-out pictures there is no ratio.
    """
    distances, places = nearest(made, train, min(NEAREST, len(train)))
    numbers = {"distance": float(distances[:, 0].mean())}
    if held_out is not None and len(held_out):
        numbers["distance_held_out"] = float(nearest(held_out, train, 1)[0].mean())
        if numbers["distance_held_out"] > 0:
            numbers["ratio"] = numbers["distance"] / numbers["distance_held_out"]
    shown = torch.cat((made.unsqueeze(1), train[places]), 1)
    return Sheet(shown.flatten(0, 1), shown.shape[1], numbers)


def nearest(pictures: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the L2 distances [N, count], per pixel on [0, 1], and places of the nearest pictures, nearest first."""
    flat = among.flatten(1)
    found = [torch.cdist(part.flatten(1), flat).topk(count, largest=False) for part in torch.split(pictures, CHUNK)]
    scale = 2 * flat.shape[1] ** 0.5
    return torch.cat([part.values for part in found]) / scale, torch.cat([part.indices for part in found])


def _grid(pictures: Tensor, columns: int) -> Tensor:
    return pictures.reshape(-1, columns, *pictures.shape[1:])
