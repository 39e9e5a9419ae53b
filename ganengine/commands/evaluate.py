"""`ganengine eval`: measure a run on held-out data, with the protocol written into the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.config import Precision, check_ranges
from ganengine.errors import DataError, UserError


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    data: tyro.conf.Positional[str] = ""
    """Data to measure on; nothing: what the run was trained on."""
    split: str = "test"
    """Split to measure on."""
    metrics: str = "l1,psnr"
    """Names of metrics, comma-separated."""
    view: str | None = None
    """Which translation of the variant; None: its first."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm is used; running: the training's."""
    seed: int | None = None
    """Seed of the noise; None: the run's own."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    precision: Precision = "fp32"
    """fp32 gives a picture the same bits whatever its batch mates; bf16 and auto are faster and do not."""
    json: bool = False
    """Print one JSON object."""


def evaluate(argv: Sequence[str]) -> int:
    """Compare a run's translations with the truth and print the figures."""
    options = parse(_Options, argv, "ganengine eval", "Measure a run on held-out data.")
    check_ranges(options)
    from ganengine.plugins import registry

    names = [name.strip() for name in options.metrics.split(",") if name.strip()]
    if not names:
        raise UserError("--metrics: expected names such as l1,psnr; got none.")
    metrics = {name: registry().get("metric", name).load() for name in names}
    result = measure(options, metrics)
    if options.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def measure(options: _Options, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of `metrics` on a split, with the protocol."""
    from ganengine.data.loader import Loader
    from ganengine.data.pictures import to_uint8
    from ganengine.metrics.pictures import average
    from ganengine.plugins import registry
    from ganengine.runfolder import RunFolder
    from ganengine.session import data_options, open_dataset
    from ganengine.trained import Trained

    folder = RunFolder.open(options.run)
    trained = Trained(
        folder, device=options.device, seed=options.seed, statistics=options.stats, precision=options.precision
    )
    view = trained.sampler.view("translate", options.view)
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
    averaged = any("_ema/" in name for name in trained.checkpoint.networks)
    return {
        "schema": 1,
        "variant": trained.settings.variant.name,
        "run": str(folder),
        "step": trained.checkpoint.step,
        "images": trained.sampler.progress.images,
        "split": options.split,
        "metrics": {
            name: dict(zip(("value", "n"), average(torch.cat(found)), strict=True)) for name, found in values.items()
        },
        "weights": "averaged (EMA)" if averaged else "as trained",
        "protocol": (
            f"{view.source} -> {view.target}, {count} pictures of split {options.split} resized to "
            f"{engine.size} x {engine.size} ({engine.resize}), output and truth rounded to 8 bits on [0, 1], "
            f"each metric averaged over pictures; statistics {options.stats}, seed {trained.sampler.seed}, "
            f"precision {trained.hardware.precision}"
        ),
    }


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['run']}, step {result['step']}")
    for heading in ("metric", "value", "pictures"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, figure in result["metrics"].items():
        table.add_row(name, f"{figure['value']:.4f}", str(figure["n"]))
    console = Console()
    console.print(table)
    console.print(f"{result['protocol']}; weights {result['weights']}", highlight=False)
