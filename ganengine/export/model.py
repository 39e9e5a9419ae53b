"""A view of a trained run as a module: tensors in, what the view makes out; nothing of a run is needed to call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ganengine import draws
from ganengine.data.batch import Batch
from ganengine.data.text import CODES
from ganengine.errors import PluginError, UserError
from ganengine.latents import from_prior
from ganengine.nn.context import Context, Statistics, draw_context
from ganengine.nn.padding import crop_like, pad_to_multiple
from ganengine.ops.checks import describe
from ganengine.ops.registration import traced
from ganengine.returned import fits
from ganengine.step import Step
from ganengine.trained import Trained
from ganengine.variant import View

KINDS = ("sample", "translate")
"""Kinds of views whose inputs are known without data."""
EXAMPLES, OTHERS = 3, 5
"""Samples that a module is traced with, and those that it is checked with."""
SINGLE = "export"
"""The name by which pictures are translated: each has the noise of a picture called so."""


class Making(nn.Module):
    """What a view makes, by averaged networks in eval mode, in float32 where its inputs are.

    Args:
        trained: the run.
        view: one of its views.
    """

    def __init__(self, trained: Trained, view: View) -> None:
        super().__init__()
        self.view, self.sampler = view, trained.sampler
        self.expected = _expected(trained, view)
        self.networks = nn.ModuleDict(
            {name: network for name, network in self.sampler.networks.items() if isinstance(network, nn.Module)}
        )
        self.eval()

    def keep(self, names: list[str]) -> None:
        """Let go of networks that the view does not use."""
        self.networks = nn.ModuleDict({name: self.networks[name] for name in names})

    def _check(self, **given: Tensor) -> None:
        """Raise a UserError for inputs that are none of what the view takes; nothing of this enters a graph."""
        if traced():
            return
        for name, x in given.items():
            shape, dtype, note = self.expected[name]
            if not isinstance(x, Tensor) or x.dtype != dtype or not x.numel() or not fits(x.shape, ("N", *shape)):
                wanted = f"{str(dtype).removeprefix('torch.')} [N, {', '.join(map(str, shape))}]"
                got = describe(x) if isinstance(x, Tensor) else f"a {type(x).__name__}"
                raise UserError(f"{name}: expected {wanted}, {note}; got {got}.")
        if len({len(x) for x in given.values()}) > 1:
            got = " and ".join(f"{name} of {len(x)}" for name, x in given.items())
            raise UserError(f"Expected as many rows in each input; got {got}.")

    def _make(self, statistics: Statistics, fields: Mapping[str, Tensor], *inputs: Tensor | None) -> Tensor:
        first = next(tensor for tensor in inputs if tensor is not None)
        seed = draws.key(self.sampler.seed, "view")
        # One seed for all samples: no place in the batch has noise of its own.
        noise = draws.key(self.sampler.seed, "translate", SINGLE)
        rows = first.shape[0]
        batch = Batch(fields, torch.arange(rows, device=first.device))
        step = Step(self.sampler.networks, batch, self.sampler.progress, seed, rows=(0, rows))
        with draw_context(Context(seed, sample_seeds=[noise], statistics=statistics)):
            made: Tensor = self.view.make(step, *inputs)
        return made


class Sampling(Making):
    """What latents stand for, as `ganengine sample` makes it: z [N, *prior.shape] -> pictures, or points."""

    def forward(self, z: Tensor) -> Tensor:
        """Return what the latents stand for."""
        self._check(z=z)
        return self._make("running", {}, z, None)


class ConditionalSampling(Making):
    """The same of a view that is told something: z, and y, weights of classes [N, K] or codes of captions [N, L]."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return what the latents stand for, of these classes or sentences."""
        self._check(z=z, y=y)
        return self._make("running", {}, z, y)


class Translating(Making):
    """Translated pictures, as `ganengine translate` makes them: images [N, C, H, W] in [-1, 1] -> the same, translated.

    A picture's result does not depend on its place in the batch, nor on others there; noise is that of one name.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the pictures, translated; they may have any size."""
        self._check(images=images)
        view = self.view
        padded = images if view.multiple == view.minimum == 1 else pad_to_multiple(images, view.multiple, view.minimum)
        return crop_like(self._make(self.sampler.statistics, {view.source: padded}, padded), images)


@dataclass(frozen=True)
class Model:
    """A module and what one has to know to write it down and to call it."""

    module: nn.Module
    """In eval mode, on the CPU; its forward takes `examples` and returns one tensor."""
    examples: tuple[Tensor, ...]
    """What to trace it with: 3 samples."""
    axes: Mapping[str, Mapping[int, str]]
    """The inputs in order, by name; of each the axes that are free, with their names."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """The run, the view, the inputs, in JSON's values."""


def model_of(trained: Trained, name: str | None = None, side: int | None = None) -> Model:
    """Return one view of a run as a module, without the networks that it does not use.

    Args:
        trained: the run.
        name: of the view; None: its first that draws samples or translates.
        side: of pictures to translate; None: free.

    Raises:
        PluginError: the run has no such view.
    """
    if not any(view.kind in KINDS for view in trained.sampler.views.values()):
        raise PluginError(
            "Expected a sample or translate view, whose inputs are known without data; this variant has none. "
            "ganengine.trained.load_networks gives its networks."
        )
    view = trained.sampler.view(KINDS, name)
    name = next(key for key, known in trained.sampler.views.items() if known is view)
    module: Making
    if view.kind == "translate":
        module = Translating(trained, view)
        axes = {"images": {0: "batch"} if side else {0: "batch", 2: "height", 3: "width"}}
    else:
        told = view.label is not None or view.text is not None
        module = (ConditionalSampling if told else Sampling)(trained, view)
        axes = {key: {0: "batch"} for key in (("z", "y") if told else ("z",))}
    sides = (side, side) if side else None
    examples = inputs_of(trained, view, EXAMPLES, sides)
    module.keep(_used(module, examples))
    meta = trained.checkpoint.meta
    about = {
        "variant": trained.settings.variant.name,
        "view": name,
        "summary": view.summary,
        "step": trained.checkpoint.step,
        "images": meta["images"],
        "ganengine": meta["ganengine"],
        "inputs": _described(axes, examples),
        "networks": list(module.networks),
    }
    return Model(module, examples, axes, about)


def fixed(model: Model, trained: Trained, view: View) -> Model:
    """Return a model that takes pictures of the size that the run was trained with, and of no other."""
    axes = {name: {0: "batch"} for name in model.axes}
    examples = inputs_of(trained, view, EXAMPLES, _trained_sides(trained, view))
    about = {**model.about, "inputs": _described(axes, examples)}
    return replace(model, axes=axes, examples=examples, about=about)


def inputs_of(
    trained: Trained, view: View, count: int, sides: tuple[int, int] | None = None, name: str = "example"
) -> tuple[Tensor, ...]:
    """Draw what a view takes: latents by its prior, classes in turn, codes of letters, pictures of noise.

    Args:
        trained: the run.
        view: one that samples or translates.
        count: N.
        sides: of pictures; None: twice those of the training, one of them more, so that nothing inside has one pixel.
        name: another one gives other numbers.
    """
    source = draws.generator(trained.sampler.seed, "export", name)
    if view.kind == "translate":
        high, wide = _trained_sides(trained, view)
        channels = trained.spec.channels(view.source)
        return (torch.rand((count, channels, *(sides or (2 * high, 2 * wide + 1))), generator=source) * 2 - 1,)
    assert view.prior is not None
    z = from_prior(view.prior, count, source)
    if view.text is not None:
        length = trained.spec.fields[view.text].shape[-1]
        return z, torch.randint(1, CODES, (count, length), generator=source)
    if view.label is not None:
        classes = trained.spec.classes(view.label) or 1
        return z, torch.eye(classes)[torch.arange(count) % classes]
    return (z,)


def checks_of(trained: Trained, view: View, side: int | None, *, free: bool) -> list[tuple[Tensor, ...]]:
    """Draw what to check a module with: another number of samples, and where sides are free pictures of two sizes."""
    if view.kind != "translate":
        return [inputs_of(trained, view, OTHERS, name="check")]
    own = (side, side) if side else _trained_sides(trained, view)
    sizes = [own, (2 * own[0] + 7, 3 * own[1])] if free else [own]
    return [inputs_of(trained, view, count, size, "check") for count, size in zip((OTHERS, 2), sizes, strict=False)]


def _trained_sides(trained: Trained, view: View) -> tuple[int, int]:
    high, wide = trained.spec.fields[view.source].shape[-2:]
    return (trained.stage.size, trained.stage.size) if trained.stage.size else (high, wide)


def _expected(trained: Trained, view: View) -> dict[str, tuple[tuple[int | str, ...], torch.dtype, str]]:
    """Return the shape of one row of each input, its dtype, and what it is; a word stands for any size."""
    if view.kind == "translate":
        return {"images": ((trained.spec.channels(view.source), "H", "W"), torch.float32, "pictures on [-1, 1]")}
    assert view.prior is not None
    told: dict[str, tuple[tuple[int | str, ...], torch.dtype, str]] = {
        "z": (tuple(view.prior.shape), torch.float32, "latents")
    }
    if view.text is not None:
        told["y"] = ((trained.spec.fields[view.text].shape[-1],), torch.int64, "codes of captions")
    elif view.label is not None:
        note = "weights of classes (torch.nn.functional.one_hot(ids, K).float())"
        told["y"] = ((trained.spec.classes(view.label) or 1,), torch.float32, note)
    return told


@torch.no_grad()
def _used(module: Making, examples: tuple[Tensor, ...]) -> list[str]:
    """Return the names of the networks that a view calls."""
    called: set[str] = set()
    hooks = [
        network.register_forward_pre_hook(lambda _, __, name=name: called.add(name))
        for name, network in module.networks.items()
    ]
    try:
        module(*examples)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name in module.networks if name in called]


def _described(axes: Mapping[str, Mapping[int, str]], examples: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """Return name, shape (with the names of free axes) and dtype of each input."""
    return [
        {
            "name": name,
            "shape": [free.get(axis, size) for axis, size in enumerate(x.shape)],
            "dtype": str(x.dtype).removeprefix("torch."),
        }
        for (name, free), x in zip(axes.items(), examples, strict=True)
    ]
