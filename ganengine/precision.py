"""The precision that a trained run is used in: bfloat16 where nobody sees a difference, by a look at both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine import draws
from ganengine.data.batch import Batch
from ganengine.data.text import encode_all
from ganengine.latents import one_hot
from ganengine.sampling import Sampler
from ganengine.variant import DataSpec, View

PROBED = 4
"""Pictures that are made in both precisions."""
LEVELS = 1.0
"""Of 255: pictures that differ by less on average count as the same."""
GRAIN = 8
"""Side of the patches that a probe picture is made of, in pixels."""


def settle(sampler: Sampler, view: View, spec: DataSpec, side: int, given: Batch | None = None) -> str:
    """Keep the fast precision of a sampler where its pictures differ from those in float32 by less than a level of 255.

    The choice follows from the networks alone, not from time or from what will be translated: inputs are drawn from a
    fixed key. Of a view that starts from data it follows from its first samples. What is no picture (points, paths) is
    made in float32.

    Args:
        sampler: its `hardware` is changed.
        view: what is to be made.
        spec: of the run's data.
        side: of its pictures.
        given: for a grid view, a few samples of the data.

    Returns:
        what there is to tell of the choice; "" where there was none.
    """
    fast = sampler.hardware
    plain = replace(fast, precision="fp32")
    if fast.precision == "fp32":
        return ""
    made = []
    for hardware in (plain, fast) if view.kind != "forecast" else ():
        sampler.hardware = hardware
        made.append(_made(sampler, view, spec, side, given))
    sampler.hardware = plain
    if not made or any(column.dim() != 4 for column in made[0].values()):
        return ""
    # In the column that differs most: inputs and truths are the same in both.
    distance = max(_levels(made[0][name], made[1][name]) for name in made[0])
    if not distance < LEVELS:  # also where it is no number
        return f"fp32: in {fast.precision} pictures would differ by {distance:.2f} of 255 levels on average."
    sampler.hardware = fast
    return f"{fast.precision}: pictures differ from those in fp32 by {distance:.2f} of 255 levels on average."


def _levels(a: Tensor, b: Tensor) -> float:
    """Return by how many levels of 255 pictures in [-1, 1] differ on average."""
    return float((a.clamp(-1, 1) - b.clamp(-1, 1)).abs().mean()) * 127.5


def _made(sampler: Sampler, view: View, spec: DataSpec, side: int, given: Batch | None) -> Mapping[str, Tensor]:
    if view.kind == "grid":
        assert given is not None
        hardware = sampler.hardware
        return sampler.grid(view, given.to(hardware.device, channels_last=hardware.channels_last), given.size)
    if view.kind == "translate":
        side = max(-(-side // view.multiple) * view.multiple, view.minimum)
        return {"": sampler.translate(view, _soft(spec.channels(view.source), side), list(map(str, range(PROBED))))}
    return {"": sampler.sample(view, sampler.latents(view, PROBED, "precision"), some_asked(view, spec, PROBED))}


def some_asked(view: View, spec: DataSpec, count: int) -> Tensor | None:
    """Return what samples of a view may be asked for: classes in turn [count, K], or codes of a caption [count, L]."""
    if view.text is not None:
        return torch.from_numpy(encode_all(["a picture"] * count, count, spec.fields[view.text].shape[-1]))
    classes = spec.classes(view.label)
    return one_hot(torch.arange(count) % classes, classes) if classes else None


def _soft(channels: int, side: int) -> Tensor:
    """Return pictures [PROBED, channels, side, side] in [-1, 1] of soft patches: like noise no network would see."""
    coarse = (PROBED, channels, -(-side // GRAIN), -(-side // GRAIN))
    noise = torch.randn(coarse, generator=draws.generator(0, "precision"))
    return F.interpolate(noise, (side, side), mode="bicubic").tanh()
