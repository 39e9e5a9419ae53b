"""Checks of what a trained run can make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ganengine.data.batch import Batch
from ganengine.latents import one_hot
from ganengine.sampling import Sampler
from ganengine.testing.subject import Subject, require
from ganengine.variant import View

COUNT = 2
"""Pictures that a view is asked for."""

SLACK = 1e-6
"""By so much may a value lie outside [-1, 1]: rounding of a resize or a blend."""

MATES = 1e-4
"""So different may a picture come out beside another one: sums of other shapes round in another order."""


def have_shape_and_range(subject: Subject) -> None:
    """Make every view twice and look at what comes."""
    with _sampler(subject) as (sampler, batch):
        for name, view in sampler.views.items():
            if view.kind == "grid":
                columns, again = (sampler.grid(view, batch, COUNT) for _ in range(2))
                _check_grid(name, columns)
                same = all(torch.equal(columns[key], again[key]) for key in columns)
            elif view.kind == "sample":
                same = _samples(subject, sampler, name, view)
            elif view.kind == "forecast":
                same = _forecasts(subject, sampler, name, view, batch)
            else:
                same = all(_translates(subject, sampler, name, view, shape) for shape in _shapes(subject, view))
            require(
                same,
                f'view "{name}" gives another result when it is made again. Draw with step.randn, and use ganengine.nn '
                "for dropout: PyTorch's global generator cannot be repeated.",
            )


def ignore_batch_mates(subject: Subject) -> None:
    """Translate a picture, or make a sample or a forecast, alone and beside another."""
    with _sampler(subject) as (sampler, batch):
        for name, view in sampler.views.items():
            if view.kind == "forecast":
                both = sampler.forecast(view, batch, ["a", "b"], COUNT)
                alone = sampler.forecast(view, batch.narrow(1, 1), ["b"], COUNT)
                apart = (
                    float((both[-len(alone) :] - alone).abs().max()) / subject.dataset.spec.fields[view.target].scale
                )
                require(
                    apart <= MATES,
                    f'view "{name}": a forecast differs by {apart:.3g} when another is made beside it. Let rows of one '
                    "sample meet only each other (Batch.owner, ganengine.ragged), and draw nothing but z.",
                )
                continue
            if view.kind == "sample":
                z, y = _asked(subject, sampler, view)
                both = sampler.sample(view, z, y)
                apart = float((both[:1] - sampler.sample(view, z[:1], None if y is None else y[:1])).abs().max())
                require(
                    apart <= MATES,
                    f'view "{name}": a sample differs by {apart:.3g} when another is made beside it. Use no statistics '
                    "over the batch in eval mode, and draw nothing but z.",
                )
                continue
            if view.kind != "translate":
                continue
            pictures = _pictures(subject, view, _shapes(subject, view)[0])
            together = sampler.translate(view, pictures, ["a", "b"])[:1]
            alone = sampler.translate(view, pictures[:1], ["a"])
            apart = float((together - alone).abs().max())
            require(
                apart <= MATES,
                f'view "{name}": a picture differs by {apart:.3g} when another is translated beside it. Use the norms '
                "and the dropout of ganengine.nn, and no statistics over the batch.",
            )


@contextmanager
def _sampler(subject: Subject) -> Iterator[tuple[Sampler, Batch]]:
    with subject.trainer() as trainer:
        yield trainer.sampler(), trainer.loader.fixed("train", COUNT)


def _check_grid(name: str, columns: Mapping[str, Tensor]) -> None:
    require(bool(columns), f'view "{name}": expected named columns, got none.')
    for key, images in columns.items():
        require(
            images.dim() == 4 and len(images) > 0 and images.shape[1] > 0,
            f'view "{name}", column "{key}": expected [N, C, H, W], got {list(images.shape)}.',
        )
        _check_range(f'view "{name}", column "{key}"', images)
    lengths = {key: len(images) for key, images in columns.items()}
    require(len(set(lengths.values())) == 1, f'view "{name}": expected columns of one length, got {lengths}.')


def _asked(subject: Subject, sampler: Sampler, view: View) -> tuple[Tensor, Tensor | None]:
    """Return latents and, where the view takes a label, weights of classes."""
    if view.text is not None:
        field = subject.dataset.spec.fields.get(view.text)
        if field is None or field.kind != "ids":
            raise AssertionError(f'its text "{view.text}" are no captions (ids) of the data.')
        rows = [subject.dataset.read("train", index, None)[view.text][0] for index in range(COUNT)]
        return sampler.latents(view, COUNT), torch.from_numpy(np.stack(rows))
    if view.label is None:
        return sampler.latents(view, COUNT), None
    field = subject.dataset.spec.fields.get(view.label)
    if field is None or field.kind != "label" or not field.num_classes:
        raise AssertionError(f'its label "{view.label}" is no label of the data with a number of classes.')
    return sampler.latents(view, COUNT), one_hot(torch.arange(COUNT) % field.num_classes, field.num_classes)


def _samples(subject: Subject, sampler: Sampler, name: str, view: View) -> bool:
    require(view.prior is not None, f'view "{name}": a sample view states a prior, from which z is drawn.')
    z, y = _asked(subject, sampler, view)
    made, again = (sampler.sample(view, z, y) for _ in range(2))
    require(
        made.dim() in (2, 4) and len(made) == COUNT,
        f'view "{name}": expected pictures [{COUNT}, C, H, W] or points [{COUNT}, 2], got {list(made.shape)}.',
    )
    if made.dim() == 4:
        _check_range(f'view "{name}"', made)
    if view.label is not None and y is not None:
        sampler.sample(view, z, torch.zeros_like(y))  # asking for no class is legal
    return torch.equal(made, again)


def _forecasts(subject: Subject, sampler: Sampler, name: str, view: View, batch: Batch) -> bool:
    require(view.prior is not None, f'view "{name}": a forecast view states a prior, from which z is drawn.')
    fields = subject.dataset.spec.fields
    for what, field in (("source", view.source), ("target", view.target)):
        require(
            field in fields
            and fields[field].ragged
            and fields[field].kind == "points"
            and len(fields[field].shape) == 2,
            f'view "{name}": its {what} "{field}" is no ragged field of points [steps, 2]; '
            f"there are {', '.join(fields)}.",
        )
    made, again = (sampler.forecast(view, batch, ["a", "b"], COUNT) for _ in range(2))
    expected = [len(batch[view.source]), COUNT, *fields[view.target].shape]
    require(
        list(made.shape) == expected and bool(made.isfinite().all()),
        f'view "{name}": expected finite futures {expected} (rows, k, steps, 2), got {list(made.shape)}.',
    )
    return torch.equal(made, again)


def _translates(subject: Subject, sampler: Sampler, name: str, view: View, shape: tuple[int, int]) -> bool:
    fields = subject.dataset.spec.fields
    for what, field in (("source", view.source), ("target", view.target)):
        require(
            field in fields and fields[field].kind == "image",
            f'view "{name}": its {what} "{field}" is no picture of the data; there are {", ".join(fields)}.',
        )
    pictures = _pictures(subject, view, shape)
    output, again = (sampler.translate(view, pictures, ["a", "b"]) for _ in range(2))
    channels = subject.dataset.spec.channels(view.target)
    require(
        output.dim() == 4 and output.shape[:2] == (COUNT, channels),
        f'view "{name}": expected [{COUNT}, {channels}, H, W] as of field "{view.target}", got {list(output.shape)}.',
    )
    _check_range(f'view "{name}"', output)
    return torch.equal(output, again)


def _check_range(what: str, images: Tensor) -> None:
    low, high = float(images.min()), float(images.max())
    require(
        math.isfinite(low) and math.isfinite(high) and low >= -1 - SLACK and high <= 1 + SLACK,
        f"{what}: expected pictures in [-1, 1], got values from {low:.4g} to {high:.4g}. Clamp or rescale them.",
    )


def _shapes(subject: Subject, view: View) -> list[tuple[int, int]]:
    """Return a square and an oblong that the view states it takes."""
    side = max(int(subject.settings.engine.size or 1), view.minimum)
    side = math.ceil(side / view.multiple) * view.multiple
    return [(side, side), (side, side + max(4, view.multiple))]


def _pictures(subject: Subject, view: View, shape: tuple[int, int]) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.rand((COUNT, subject.dataset.spec.channels(view.source), *shape), generator=source) * 2 - 1
