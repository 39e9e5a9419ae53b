"""`ganengine eval`: measure a run, with the protocol written into the result.

What is measured follows from the view: translations are compared with the truth, picture by picture; samples are looked
at by a judge, all of them together; forecasts are compared with what came, and with walking straight on.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.config import Precision, check_ranges
from ganengine.errors import DataError, UserError
from ganengine.variant import Component, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from ganengine.judging import LabelledData
    from ganengine.metrics.judge import Judge, Verdict
    from ganengine.trained import Trained
    from ganengine.variant import View


USUAL = {
    "translate": ("l1", "psnr"),
    "sample": ("coverage", "class-accuracy", "fd-judge"),
    "forecast": ("ade", "fde", "ade-mean", "fde-mean", "spread"),
}
"""Metrics of each kind of view, where none are named."""
NEEDS = {
    "translate": "translations, beside their truth",
    "sample": "samples, by a judge",
    "forecast": "forecasts, beside what came",
}
"""What a metric of each kind is a figure of."""


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    data: tyro.conf.Positional[str] = ""
    """Data to measure on; nothing: what the run was trained on."""
    split: str = "test"
    """Split that translations and forecasts are measured on."""
    metrics: str | None = None
    """Names of metrics, comma-separated; None: l1,psnr; of samples coverage,fd-judge and, where
    a class is asked for, class-accuracy; of forecasts all."""
    samples: int = 2000
    """How many samples to make and judge."""
    futures: int = 20
    """How many futures of each scene to make."""
    step: int | None = None
    """Step of the checkpoint to measure; None: the newest. The last one of each stage is kept."""
    baseline: Literal["none", "untrained"] = "none"
    """untrained: the same figures of the networks before their first step beside those of samples; beside those of
    forecasts, where constant velocity stands unless this is asked for."""
    judge_least: float = 0.97
    """Share of held-out pictures that the judge must get right to be believed."""
    view: str | None = None
    """Which view of the variant; None: its first translation, else its first samples, else its first forecast."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm is used; running: the training's, as for samples always."""
    seed: int | None = None
    """Seed of the noise; None: the run's own."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    precision: Precision = "fp32"
    """In fp32 batch mates change a picture by rounding at most; bf16 and auto are faster and coarser."""
    json: bool = False
    """Print one JSON object."""


def evaluate(argv: Sequence[str]) -> int:
    """Measure a run and print the figures."""
    options = parse(_Options, argv, "ganengine eval", "Measure a run.")
    check_ranges(options)
    if options.samples < 2:
        raise UserError(f"--samples: expected at least 2, got {options.samples}.")
    if not 1 <= options.futures <= 1000:
        raise UserError(f"--futures: expected a number from 1 to 1000, got {options.futures}.")
    if not 0 <= options.judge_least <= 1:
        raise UserError(f"--judge-least: expected a share from 0 to 1, got {options.judge_least}.")
    from ganengine.plugins import registry

    names = None if options.metrics is None else [name.strip() for name in options.metrics.split(",") if name.strip()]
    if names is not None and not names:
        raise UserError("--metrics: expected names such as l1,psnr; got none.")
    for name in names or ():
        registry().get("metric", name)
    result = measure(options, names)
    if options.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def measure(options: _Options, names: Sequence[str] | None) -> dict[str, Any]:
    """Return the figures of the metrics called `names`, or of those that fit the view, with the protocol.

    Raises:
        UserError: a metric that does not fit the view.
    """
    from ganengine.runfolder import RunFolder
    from ganengine.session import check_data
    from ganengine.trained import Trained

    folder = RunFolder.open(options.run)
    trained = Trained(
        folder, device=options.device, seed=options.seed, statistics=options.stats, precision=options.precision,
        step=options.step,
    )  # fmt: skip
    view = _view(trained, options.view)
    metrics = _metrics(view, names)
    if not options.data:
        place = f" name its new place (`ganengine eval {shlex.quote(str(folder))} /new/place`),"
        check_data(folder, trained.settings.engine.data, instead=place)
    if trained.unbegun:
        stage = "" if trained.stage.name == "main" else f' in stage "{trained.stage.name}"'
        print(
            f"{folder}, step {trained.checkpoint.step}{stage}: the weights of {', '.join(trained.unbegun)} are still "
            "the initial ones; these are figures of an untrained network. "
            f"`ganengine resume {shlex.quote(str(folder))}` goes on.",
            file=sys.stderr,
        )
    averaged = any("_ema/" in name for name in trained.checkpoint.networks)
    about = {
        "schema": 1,
        "variant": trained.settings.variant.name,
        "run": str(folder),
        "step": trained.checkpoint.step,
        "images": trained.sampler.progress.images,
    }
    figures = MEASURED[view.kind](trained, view, options, metrics)
    return {**about, **figures, "weights": "averaged (EMA)" if averaged else "as trained"}


def _view(trained: Trained, name: str | None) -> View:
    """Return the view called `name`, or the first translation, or the first samples, or the first forecast."""
    kinds = {view.kind for view in trained.sampler.views.values()}
    first = next((kind for kind in MEASURED if kind in kinds), None)
    return trained.sampler.view(tuple(MEASURED) if name or first is None else first, name)


def _untrained(trained: Trained, options: _Options) -> Trained:
    """Return the run with its networks as they were before the first step."""
    return type(trained)(
        trained.folder, device=options.device, seed=options.seed, precision=options.precision, untrained=True,
        step=options.step,
    )  # fmt: skip


def _metrics(view: View, names: Sequence[str] | None) -> dict[str, Callable[..., Any]]:
    """Return the metrics called `names`, or the usual ones of such a view.

    Raises:
        UserError: one of them does not fit the view.
    """
    from ganengine.plugins import registry

    records = {name: _as_metric(entry.record) for name, entry in registry().entries["metric"].items()}
    if names is None:
        names = [name for name in USUAL[view.kind] if _fits(records[name], view)]
    unfit = [name for name in names if not _fits(records[name], view)]
    if unfit:
        odd = records[unfit[0]]
        needs = NEEDS[odd.view] + ", of a stated class" * odd.by_class
        made = NEEDS[view.kind].partition(",")[0] + " of no stated class" * (view.kind == "sample" and not view.label)
        fitting = ", ".join(name for name, record in records.items() if _fits(record, view))
        raise UserError(
            f"--metrics: {odd.name} is a figure of {needs}; the view of this run makes {made}. Use some of: {fitting}."
        )
    return {name: records[name].load() for name in names}


def _as_metric(record: Component) -> Metric:
    """Return the record of a metric; one that says nothing of views measures translations."""
    return record if isinstance(record, Metric) else Metric(record.name, record.summary, record.build)


def _fits(record: Metric, view: View) -> bool:
    return record.view == view.kind and (view.label is not None or not record.by_class)


# ----------------------------------------------------------------------------------------------------------------
# Translations


def _translations(
    trained: Trained, view: View, options: _Options, metrics: dict[str, Callable[..., Any]]
) -> dict[str, Any]:
    """Compare the translations of a split with the truth."""
    from ganengine.data.loader import Loader
    from ganengine.data.pictures import to_uint8
    from ganengine.metrics.pictures import average
    from ganengine.plugins import registry
    from ganengine.session import data_options, open_dataset

    if options.baseline != "none":
        raise UserError("--baseline: there is none beside translations; leave it out, or name a view of samples.")
    engine = trained.settings.engine
    # One bad picture would leave its place to the next: a figure is over all pictures or none.
    engine = replace(engine, data=options.data or engine.data, bad_images="fail")
    dataset, engine = open_dataset(trained.settings.variant, engine, registry())
    count = dataset.check_split(options.split)
    if not count:
        raise DataError(f'The split "{options.split}" of the data has no pictures; there is nothing to measure.')
    for name in (view.source, view.target):
        expected, got = trained.spec.channels(name), dataset.spec.channels(name)
        if expected != got:
            raise DataError(f"Pictures {name}: expected {expected} channel(s), as in training; got {got}.")
    import torch

    with Loader(dataset, data_options(engine)) as loader:
        batch = loader.fixed(options.split, count)
    labels = dataset.names(options.split)
    values: dict[str, list[torch.Tensor]] = {name: [] for name in metrics}
    for start in range(0, count, 8):
        part = batch.narrow(start, min(8, count - start))
        output = trained.sampler.translate(view, part[view.source], labels[start : start + part.size])
        pair = [torch.from_numpy(to_uint8(images)).movedim(-1, 1) / 255.0 for images in (output, part[view.target])]
        for name, metric in metrics.items():
            values[name].append(metric(*pair))
    aligned = dataset.aligned(options.split)
    if not aligned:
        print(
            f"{view.source} and {view.target} of split {options.split} do not show the same things: each output is "
            "compared with another picture than its truth. Give one name to pictures that belong together.",
            file=sys.stderr,
        )
    return {
        "split": options.split,
        "aligned": aligned,
        "metrics": {
            name: dict(zip(("value", "n"), average(torch.cat(found)), strict=True)) for name, found in values.items()
        },
        "protocol": (
            f"{view.source} -> {view.target}, {count} pictures of split {options.split} resized to "
            f"{engine.size} x {engine.size} ({engine.resize}){'' if aligned else ', not of the same things'}, output "
            f"and truth rounded to 8 bits on [0, 1], each metric averaged over pictures; statistics {options.stats}, "
            f"seed {trained.sampler.seed}, precision {trained.hardware.precision}"
        ),
    }


# ----------------------------------------------------------------------------------------------------------------
# Samples


def _samples(trained: Trained, view: View, options: _Options, metrics: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Let a judge look at samples, and at those of the untrained networks where that is asked for."""
    from ganengine.display import bar
    from ganengine.judging import judge_of, open_labelled
    from ganengine.metrics.judge import FEATURES
    from ganengine.plugins import registry

    variant = trained.settings.variant
    if trained.spec.fields["real"].kind != "image":
        raise UserError(
            f"{trained.folder}: a judge looks at pictures, this run makes points. Use `ganengine diagnose modes`."
        )
    engine = trained.settings.engine
    data = open_labelled(options.data or engine.data or variant.data or "", engine, registry(), variant.fields)
    judge = judge_of(
        data, least=options.judge_least, device=trained.hardware.device, progress=bar("training the judge")
    )  # fmt: skip
    real = judge.look(data.train(options.samples).pictures)
    few = min(len(real.classes), options.samples)
    if "fd-judge" in metrics and few <= FEATURES:
        print(
            f"fd-judge: expected more than {FEATURES} pictures of each kind, as many as the judge has features, got "
            f"{len(real.classes)} of training and {options.samples} samples; of so few the figure says little.",
            file=sys.stderr,
        )
    figures = _judged(judge, data, trained, view, options.samples, real, metrics)
    if options.baseline == "untrained":
        before = _untrained(trained, options)
        baseline = _judged(judge, data, before, view, options.samples, real, metrics)["metrics"]
        figures["baseline"] = {
            "weights": "untrained",
            "metrics": {
                name: {**found, "ratio": figures["metrics"][name]["value"] / found["value"] if found["value"] else None}
                for name, found in baseline.items()
            },
        }
    figures["judge"] = {"accuracy": judge.accuracy, "n": judge.held_out, "split": data.held_out_split}
    asked = "each class asked for in turn" if view.label else "no class asked for"
    if view.text:
        asked = f"a caption of each picture of split {data.held_out_split} in turn"
    figures["protocol"] = (
        f"{options.samples} pictures: {view.summary}, {asked}, rounded to 8 bits, seed {trained.sampler.seed}, "
        f"precision {trained.hardware.precision}, running statistics; judge of {data.argument} at {engine.size} x "
        f"{engine.size}, right on {judge.accuracy:.2%} of {judge.held_out} pictures of split {data.held_out_split} "
        f"that it was not trained on; fd-judge against {len(real.classes)} training pictures, not FID"
    )
    return figures


def _judged(
    judge: Judge,
    data: LabelledData,
    trained: Trained,
    view: View,
    count: int,
    real: Verdict,
    metrics: dict[str, Callable[..., Any]],
) -> dict[str, Any]:
    from ganengine.judging import gather
    from ganengine.metrics.samples import class_accuracies, class_shares

    evidence = gather(judge, data, trained.sampler, view, trained.spec, count, real)
    figures: dict[str, Any] = {
        "metrics": {name: {"value": metric(evidence), "n": count} for name, metric in metrics.items()},
        "classes": {"names": data.names, "share": class_shares(evidence).tolist()},
    }
    if evidence.asked is not None:
        figures["classes"]["accuracy"] = class_accuracies(evidence).tolist()
    return figures


# ----------------------------------------------------------------------------------------------------------------
# Forecasts


def _forecasts(
    trained: Trained, view: View, options: _Options, metrics: dict[str, Callable[..., Any]]
) -> dict[str, Any]:
    """Compare futures with what came, beside walking straight on, or beside those of the untrained networks."""
    from ganengine.data.loader import Loader
    from ganengine.metrics.forecasts import straight_on
    from ganengine.plugins import registry
    from ganengine.session import data_options, open_dataset

    engine = trained.settings.engine
    engine = replace(engine, data=options.data or engine.data, bad_images="fail")
    dataset, engine = open_dataset(trained.settings.variant, engine, registry())
    count = dataset.check_split(options.split)
    if not count:
        raise DataError(f'The split "{options.split}" of the data has no scenes; there is nothing to measure.')
    for name in (view.source, view.target):
        expected, got = trained.spec.fields[name].shape, dataset.spec.fields[name].shape
        if expected != got:
            raise DataError(
                f"{name}: expected {expected[0]} steps, as in training; got {got[0]}. Give data of the same form."
            )
    with Loader(dataset, data_options(engine)) as loader:
        batch = loader.fixed(options.split, count).to("cpu")
    starts, truth = batch.starts(view.target), batch[view.target]
    names = dataset.names(options.split)

    def figures(futures: Tensor) -> dict[str, float]:
        return {name: metric(futures, truth, starts) for name, metric in metrics.items()}

    found = figures(trained.sampler.forecast(view, batch, names, options.futures))
    if options.baseline == "untrained":
        before = _untrained(trained, options)
        beside = figures(before.sampler.forecast(view, batch, names, options.futures))
    else:
        beside = figures(straight_on(batch[view.source], truth.shape[1]))
    return {
        "split": options.split,
        "metrics": {name: {"value": value, "n": len(truth)} for name, value in found.items()},
        "baseline": {
            "weights": "untrained" if options.baseline == "untrained" else "constant velocity",
            "metrics": {
                name: {"value": value, "n": len(truth), "ratio": found[name] / value if value else None}
                for name, value in beside.items()
            },
        },
        "protocol": (
            f"{view.source} -> {view.target}, {count} scenes of split {options.split} with {len(truth)} paths of "
            f"{truth.shape[1]} steps, {options.futures} futures of each scene, in the units of the data; ade: mean "
            "distance over the steps, fde: at the last one, both of the best future of each scene as a whole; seed "
            f"{trained.sampler.seed}, precision {trained.hardware.precision}"
        ),
    }


MEASURED = {"translate": _translations, "sample": _samples, "forecast": _forecasts}
"""Kinds of views that are measured, those that come first where no view is named."""


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    baseline = result.get("baseline")
    headings = ["metric", "value", *([baseline["weights"], "ratio"] if baseline else []), "n"]
    table = Table(title=f"{result['run']}, step {result['step']}")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, figure in result["metrics"].items():
        beside: list[str] = []
        if baseline:
            found = baseline["metrics"][name]
            ratio = found["ratio"]
            beside = [f"{found['value']:.4f}", "" if ratio is None else f"{ratio:.4f}"]
        table.add_row(name, f"{figure['value']:.4f}", *beside, str(figure["n"]))
    console = Console()
    console.print(table)
    if "classes" in result:
        classes = result["classes"]
        shown = Table("class", "share", *(["accuracy"] if "accuracy" in classes else []))
        for place, name in enumerate(classes["names"]):
            shown.add_row(name, *(f"{classes[key][place]:.3f}" for key in ("share", "accuracy") if key in classes))
        console.print(shown)
    console.print(f"{result['protocol']}; weights {result['weights']}", highlight=False)
