"""The records that cross the boundary between the engine and its plugins.

This module imports no torch, so that listing, help and completion stay fast. A plugin hands over one `Variant`;
its builders (named as strings) return networks, losses, a `Schedule` and `View`s. docs/contract.md explains each
record with an example.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ganengine.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from ganengine.step import Step

API = 1
"""The number of the plugin contract. A plugin states the one it was written for as `GANENGINE_API`."""


# ----------------------------------------------------------------------------------------------------------------
# Where a run stands


@dataclass(frozen=True)
class Progress:
    """How far a run is. Ramps and gates read this and nothing else but the measured state."""

    step: int = 0
    """Rounds of the schedule that are done."""
    images: int = 0
    """Real images drawn so far, over all ranks and phases."""
    horizon: int = 1
    """Images that the run is planned for. Ramps span it; stopping earlier or later does not bend them."""
    stage: int = 0
    """Index of the stage under way."""
    stage_images: int = 0
    """Real images drawn since this stage began."""

    @property
    def fraction(self) -> float:
        """`images / horizon`, at most 1."""
        return min(1.0, self.images / max(1, self.horizon))


State: TypeAlias = Mapping[str, Any]
"""Measured state by name: 0-d tensors on the device inside a loss, floats of the step before in gates and ramps."""

Value: TypeAlias = "float | Callable[[Progress, State], Any]"
"""A number, or a pure function of (progress, state) that gives one: a ramp, a controlled weight."""


def value_at(value: Value, progress: Progress, state: State) -> Any:
    """Return the number that `value` stands for at this point of the run."""
    return value(progress, state) if callable(value) else value


# ----------------------------------------------------------------------------------------------------------------
# What is updated, how and when


@dataclass(frozen=True)
class Optimizer:
    """One optimizer and its state. Phases that name the same optimizer share its moments."""

    lr: Value
    """Learning rate; a ramp makes it a function of images shown."""
    name: str = "adam"
    """`adam`, `adamw`, `sgd`, `rmsprop`, or a name that a plugin adds."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the torch optimizer: betas, eps, momentum, weight_decay ..."""
    clip_norm: float | None = None
    """Largest 2-norm of a phase's whole gradient; larger ones are scaled down. None: no clipping."""


@dataclass(frozen=True)
class Phase:
    """One update: which parameters follow which loss, by which optimizer, how often."""

    name: str
    """Unique in its stage; the key of its losses in the log."""
    params: tuple[str, ...]
    """Parameter groups: a network ("G"), a part of one ("D.trunk"), several, or a tensor that is no weight ("z")."""
    loss: str
    """Key into what the variant's `losses` builder returned."""
    optimizer: str
    """Key into `Schedule.optimizers`."""
    weights: Mapping[str, Value] = field(default_factory=dict)
    """Weight of each term of the loss; a term that is not named has weight 1."""
    every: int = 1
    """Run at every n-th step only (lazy regularisation)."""
    gain: float | None = None
    """Factor on the whole loss. None means `every`, so that a lazy penalty keeps its strength per step."""
    repeats: int | Callable[[Progress, State], int] = 1
    """Updates in a row (n_critic), each on a batch of its own."""
    when: Callable[[Progress, State], bool] | None = None
    """Skip this phase where this returns False: an accuracy gate, a warm-up."""
    fresh_batch: bool = False
    """Draw a batch of its own instead of the one that the step's phases share."""
    second_order: bool = False
    """The loss differentiates gradients (R1, gradient penalty): compiled paths are left aside."""
    hold: tuple[str, ...] = ()
    """Networks whose own state (running statistics of batch norm, vectors of spectral norm) stands still meanwhile."""
    after: tuple[Callable[[Step], None], ...] = ()
    """What happens after the optimizer's step: clip weights, feed a pool, update a codebook."""


@dataclass(frozen=True)
class Group:
    """Phases that step simultaneously: all gradients at the old weights, then all steps."""

    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Due:
    """A phase that `Schedule.at` says is due, with its numbers worked out for this step."""

    phase: Phase
    repeats: int
    gain: float
    lr: float


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own phases and, where it grows, its own networks, size and batch."""

    phases: tuple[Phase | Group, ...]
    name: str = "main"
    images: int | None = None
    """Length in real images; None: until the run ends."""
    until: Callable[[Progress, State], bool] | None = None
    """A stop rule on measured state; the stage ends at the first of `images` and this."""
    size: int | None = None
    """Side of the training images in this stage; None: the run's `--size`."""
    batch: int | None = None
    """Batch of this stage; None: the run's `--batch`."""
    hand_over: Mapping[str, str] = field(default_factory=dict)
    """Prefixes of parameter names: new <- old ("G.skip" <- "G.to_rgb"). Equal names are taken over unasked, except of
    what a rule moves elsewhere; a tensor of another shape starts anew."""
    reset_optimizers: bool = False
    """Start every optimizer afresh instead of keeping the moments of parameters that stayed."""


@dataclass(frozen=True)
class Schedule:
    """The game: stages of phases, their optimizers, the measured state, and which networks are averaged."""

    stages: tuple[Stage, ...]
    optimizers: Mapping[str, Optimizer]
    state: Mapping[str, float] = field(default_factory=dict)
    """Start values of the measured state (BEGAN's k, a running accuracy)."""
    update: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    """(state, what the losses measured in this step) -> new state, in tensor operations on the device."""
    averaged: tuple[str, ...] = ("G",)
    """Networks of which an exponential moving average is kept and used for sampling."""
    critics: tuple[str, ...] = ("D",)
    """Networks that judge pictures, which the engine may augment. A name that is no network means nothing."""

    def at(self, progress: Progress, state: State) -> tuple[tuple[Due, ...], ...]:
        """Return the phases due at this step, in order; those in one inner tuple step simultaneously.

        A pure function: the same progress and state give the same answer.
        """
        rounds = []
        for entry in self.stages[progress.stage].phases:
            members = entry.phases if isinstance(entry, Group) else (entry,)
            due = tuple(d for d in (self._due(phase, progress, state) for phase in members) if d)
            if due:
                rounds.append(due)
        return tuple(rounds)

    def _due(self, phase: Phase, progress: Progress, state: State) -> Due | None:
        if progress.step % phase.every or (phase.when and not phase.when(progress, state)):
            return None
        repeats = int(value_at(phase.repeats, progress, state))
        if repeats < 1:
            return None
        gain = float(phase.every) if phase.gain is None else phase.gain
        lr = float(value_at(self.optimizers[phase.optimizer].lr, progress, state))
        return Due(phase, repeats, gain, lr)

    def phases(self, stage: int) -> Iterator[Phase]:
        """Iterate over all phases of a stage, groups unfolded."""
        for entry in self.stages[stage].phases:
            yield from entry.phases if isinstance(entry, Group) else (entry,)


# ----------------------------------------------------------------------------------------------------------------
# What comes in and what can be made of a trained run


@dataclass(frozen=True)
class FieldSpec:
    """Shape and meaning of one field of a batch, without the batch axis."""

    kind: Literal["image", "label", "vector", "ids", "points", "voxels", "weight"] = "image"
    shape: tuple[int, ...] = ()
    """(C, H, W) of an image in [-1, 1]; () of a label; sizes of what else there is."""
    num_classes: int | None = None
    ragged: bool = False
    """A sample has any number of rows of this shape (the people of a scene): [rows, *shape]. In a batch the rows of all
    samples stand behind one another; `Batch.starts` and `Batch.owner` tell whose they are."""
    scale: float = 1.0
    """What networks divide numbers by to bring them near 1: for points the typical way from one to the next."""


@dataclass(frozen=True)
class DataSpec:
    """What a data source gives: its fields and how many samples the training split has."""

    fields: Mapping[str, FieldSpec]
    count: int = 0

    def channels(self, name: str) -> int:
        """Return the channels of image field `name`."""
        return self.fields[name].shape[0]

    def classes(self, name: str | None) -> int:
        """Return how many classes label field `name` has; 0 for None, and where that is not known."""
        return self.fields[name].num_classes or 0 if name else 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, for JSON."""
        return {
            "count": self.count,
            "fields": {
                name: {
                    "kind": f.kind,
                    "shape": list(f.shape),
                    "num_classes": f.num_classes,
                    **({"ragged": True} if f.ragged else {}),
                    **({"scale": f.scale} if f.scale != 1 else {}),
                }
                for name, f in self.fields.items()
            },
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DataSpec:
        """Rebuild a spec from what `to_dict` gave."""
        fields = {
            str(name): FieldSpec(
                f["kind"],
                tuple(int(n) for n in f["shape"]),
                f["num_classes"],
                ragged=bool(f.get("ragged", False)),
                scale=float(f.get("scale", 1.0)),
            )
            for name, f in record["fields"].items()
        }
        return cls(fields, int(record["count"]))


@dataclass(frozen=True)
class Part:
    """A named stretch of a latent, which stands for something that can be asked for by itself."""

    name: str
    size: int
    """Its numbers; of a categorical part, its values."""
    kind: Literal["normal", "uniform", "categorical"] = "normal"
    """N(0, 1); uniform on [-1, 1]; categorical: one of `size` values, each as likely, as a 1 among zeros."""


@dataclass(frozen=True)
class Prior:
    """The distribution of a generator's latent.

    Raises:
        PluginError: parts that share a name, have no numbers, or do not fill the shape.
    """

    shape: tuple[int, ...]
    """Of one sample's latent."""
    kind: Literal["normal", "uniform"] = "normal"
    """N(0, 1), or uniform on [-1, 1]. Parts have kinds of their own."""
    parts: tuple[Part, ...] = ()
    """What the latent [N, sum of sizes] consists of, in order; none: it is one piece."""

    def __post_init__(self) -> None:
        names, sizes = [part.name for part in self.parts], [part.size for part in self.parts]
        if self.parts and (len(set(names)) < len(names) or min(sizes) < 1 or self.shape != (sum(sizes),)):
            raise PluginError(
                f"Prior: expected parts with names of their own that fill the shape {self.shape}, got "
                f"{', '.join(f'{part.name} of {part.size}' for part in self.parts)}. Use Prior.of(part, ...)."
            )

    @classmethod
    def of(cls, *parts: Part) -> Prior:
        """Return the prior of a latent that consists of named parts, in order."""
        return cls((sum(part.size for part in parts),), parts=parts)

    def span(self, name: str) -> slice:
        """Return where part `name` stands among a latent's numbers."""
        index = [part.name for part in self.parts].index(name)
        start = sum(part.size for part in self.parts[:index])
        return slice(start, start + self.parts[index].size)

    def split(self, z: Tensor) -> dict[str, Tensor]:
        """Return the parts of latents [N, *shape] by name."""
        return {part.name: z[:, self.span(part.name)] for part in self.parts}


@dataclass(frozen=True)
class View:
    """Something that a trained run can make, named by the variant.

    `make(step, n)` of a grid view returns named columns, each [N, C, H, W] in [-1, 1]: one column is laid out as a
    sheet, several as rows (input, output, truth). `make(step, images)` of a translate view returns images.
    `make(step, z, y)` of a sample view returns what a latent [N, *prior.shape] stands for: images [N, C, H, W], or
    points [N, 2]. y is None where the view has no label, else weights of the classes [N, K]: one-hot for a class, a
    mixture to morph between several, zeros for none. Class grids, interpolations and ablations follow from it. Where
    the view has a text, y are character codes of a caption each, [N, L] (`ganengine.data.text`).
    `make(step, z)` of a forecast view returns futures [rows, k, steps, 2] of the ragged field `source`, [rows, steps,
    2], for k latents of each sample, z [N, k, *prior.shape]. Fans of futures, their film and errors follow from it.
    """

    make: Callable[..., Any]
    summary: str
    kind: Literal["grid", "translate", "sample", "forecast"] = "grid"
    prior: Prior | None = None
    """Sample and forecast: what z is drawn from."""
    label: str | None = None
    """Sample only: the field of the data whose classes can be asked for."""
    text: str | None = None
    """Sample only: the field of the data whose captions can be asked for. Not beside `label`."""
    source: str = "A"
    """Translate: the field whose channels and range the input has. Forecast: the points that are known."""
    target: str = "B"
    """Translate and forecast: the field that the output is an example of; `eval` compares with it."""
    multiple: int = 1
    """Translate only: both sides must be multiples of this; the engine pads and crops."""
    minimum: int = 1
    """Translate only: the smallest side the networks take; smaller pictures are padded."""


# ----------------------------------------------------------------------------------------------------------------
# What a plugin registers


@dataclass(frozen=True)
class Variant:
    """One system, complete: what `ganengine run NAME` needs to know. Builders are "module:function" strings."""

    name: str
    """Kebab case, unique among all installed plugins."""
    summary: str
    config: type
    """Frozen dataclass; each field has a default and a docstring, which becomes its help."""
    networks: str
    """(config, data_spec, stage) -> {name: Module or Parameter}."""
    losses: str
    """(config) -> {name: fn}; fn(step) -> {term: Tensor}, [N] per sample or 0-d for the batch."""
    schedule: str
    """(config) -> Schedule."""
    views: str
    """(config) -> {name: View}."""
    fields: tuple[str, ...] = ("real",)
    """Fields of a batch that it needs; a data source that lacks one is refused before training."""
    aligned: bool = True
    """Whether these must show the same thing, as A and B of a pair do. False: each is drawn by itself; unpaired
    pictures are taken, and pairs are shuffled against each other."""
    family: Literal["explicit tractable", "explicit approximate", "implicit", "optimisation"] = "implicit"
    paper: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the engine's options for this variant, by option name."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Named sets of options, engine's and variant's alike."""
    smallest: Mapping[str, Any] = field(default_factory=dict)
    """Options of the smallest form that builds and trains, for the conformance kit."""
    data: str | None = None
    """Name of the data source used when none is given."""
    baseline: str | None = None
    """The same game as a plain loop, for benches."""
    importer: str | None = None
    """({file: what it holds}) -> Imported: recognises weights that were trained elsewhere."""
    equilibrium: str | None = None
    """(config) -> {"loss": {term: value}, "d": {reading: value}}, named as in the log: where they stand while D cannot
    tell real from fake. Reports draw these lines; the module imports without torch."""

    BUILDERS = ("networks", "losses", "schedule", "views")
    OPTIONAL = ("baseline", "importer", "equilibrium")

    def builder(self, what: str) -> Callable[..., Any]:
        """Import and return the builder `what`, one of `BUILDERS` or `OPTIONAL`."""
        found: Callable[..., Any] = load_object(getattr(self, what), f"variant {self.name}: {what}")
        return found


@dataclass(frozen=True)
class Imported:
    """Networks that were trained elsewhere, as a variant's importer recognised them in the files it was given."""

    summary: str
    """What they are, in a few words for the user."""
    options: Mapping[str, Any]
    """Options that describe them, the engine's and the variant's; the user's own go over these."""
    networks: Mapping[str, Tensor]
    """"G/down.0.weight" -> tensor: all of each network that is there; one that is not starts anew."""
    data: Callable[[Any, int], DataSpec]
    """(config, size) -> the data that such networks take."""


@dataclass(frozen=True)
class DataSource:
    """A kind of data that plugins add by name: a folder layout that is recognised, or data that is drawn."""

    name: str
    summary: str
    fields: tuple[str, ...]
    build: str
    """(argument, options: DataOptions) -> ganengine.data.Dataset; `argument` is a folder, or what follows `NAME:`."""
    recognise: str | None = None
    """(path) -> bool: does this source read that folder or file? None: chosen by name only."""
    optional: tuple[str, ...] = ()
    """Fields that it gives where the data has them, as labels beside pictures."""
    aligned: bool = True
    """Whether the fields of a sample show the same thing. False: each is drawn by itself."""


@dataclass(frozen=True)
class Component:
    """Anything else that variants use by name: a loss, a penalty, a network, a metric, a command ..."""

    name: str
    summary: str
    build: str
    """"module:object" that is imported when it is first used."""

    def load(self) -> Any:
        """Import and return the object."""
        return load_object(self.build, self.name)


@dataclass(frozen=True)
class Metric(Component):
    """Something that `ganengine eval` measures of one kind of view."""

    view: Literal["translate", "sample", "forecast"] = "translate"
    """translate: fn(output, target) -> [N], each picture against its truth. sample: fn(evidence) -> a number for all
    samples, by what a judge says of them (ganengine.metrics.samples.Evidence). forecast: fn(futures, truth, starts) ->
    a number for all samples (ganengine.metrics.forecasts)."""
    by_class: bool = False
    """Sample only: it needs samples of a stated class."""


def load_object(reference: str, who: str) -> Any:
    """Import what "module:attribute" names.

    Raises:
        PluginError: the reference has another form, the module does not import, or the attribute is missing.
    """
    module, _, attribute = reference.partition(":")
    if not module or not attribute:
        raise PluginError(f'{who}: expected "module:attribute", got "{reference}".')
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise PluginError(f'{who}: module "{module}" has no "{attribute}". Add it, or correct the record.') from error
    except ImportError as error:
        raise PluginError(f'{who}: "{module}" cannot be imported ({error}).') from error
