"""`ganengine export`: what a run can make, as a file for other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.outputs import check_outputs, folder_made
from ganengine.config import check_ranges
from ganengine.errors import GanengineError, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ganengine.export.formats import Exporter
    from ganengine.export.model import Model
    from ganengine.trained import Trained
    from ganengine.variant import View

MOST = 1e-3
"""Largest difference of what a file makes, as a share of the largest value: an eighth of a level of 255 in a picture.
Rounding in float32 stays a hundred times below; a graph that is wrong is far above."""


@dataclass(frozen=True)
class _Options:
    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    format: str = "pt2"
    """safetensors: averaged weights alone; torchscript; pt2: torch.export; onnx; or a plugin's."""
    view: str | None = None
    """Which view of the variant; None: its first that draws samples or translates."""
    step: int | None = None
    """Step of the checkpoint to export; None: the newest. The last one of each stage is kept."""
    out: Path | None = None
    """File to write; None: RUN/exported/VIEW with the format's suffix."""
    overwrite: bool = False
    """Replace a file that is there already."""
    size: int | None = None
    """Side of the pictures that a translation takes; None: any, where the format can."""
    stats: Literal["own", "running"] = "own"
    """own: each picture's own statistics where batch norm translates; running: the training's."""
    seed: int | None = None
    """Seed of noise inside the networks; None: the run's own."""
    threads: int | None = None
    """CPU threads; None: one per core."""
    json: bool = False
    """Print one JSON object."""


def export(argv: Sequence[str]) -> int:
    """Write one view of a run, check what was written, and say how far it is from what the run makes."""
    options = parse(_Options, argv, "ganengine export", "Write what a trained run can make as a file.")
    check_ranges(options)
    from ganengine.plugins import registry
    from ganengine.runfolder import RunFolder

    entry = registry().get("exporter", options.format)
    folder = RunFolder.open(options.run)
    exporter: Exporter = entry.load()
    if options.out is not None:
        _check_name(options.out, exporter.suffix)
        check_outputs([options.out], options.overwrite)
    from ganengine.export.model import model_of
    from ganengine.trained import Trained

    trained = Trained(
        folder,
        device="cpu",
        seed=options.seed,
        statistics=options.stats,
        threads=options.threads,
        precision="fp32",
        step=options.step,
        plain=True,
    )
    model = model_of(trained, options.view, options.size)
    view = trained.sampler.views[model.about["view"]]
    if options.size and view.kind != "translate":
        raise UserError(f"--size: expected a view that translates, {model.about['view']} draws samples. Leave it out.")
    out = options.out or folder.path / "exported" / (model.about["view"] + exporter.suffix)
    check_outputs([out], options.overwrite)
    with folder_made(out.parent):
        model, apart = _written(exporter, model, trained, view, options, out)
    result = {"schema": 1, "file": str(out), "format": options.format, "largest_difference": apart, **model.about}
    if options.json:
        print(json.dumps(result))
    else:
        inputs = ", ".join(f"{x['name']} [{', '.join(map(str, x['shape']))}]" for x in model.about["inputs"])
        print(f"{out}: {options.format} of {inputs}; it makes what the run makes, at most {apart:.1e} apart")
    return 0


def _written(
    exporter: Exporter, model: Model, trained: Trained, view: View, options: _Options, out: Path
) -> tuple[Model, float]:
    """Write and check a model; where free sides are too much for a format, with those of the training."""
    from ganengine.export.model import checks_of, fixed

    free = view.kind == "translate" and options.size is None
    try:
        return model, _write(exporter, model, checks_of(trained, view, options.size, free=free), out, options.format)
    except _NotExportedError:
        if not free:
            raise
    model = fixed(model, trained, view)
    checks = checks_of(trained, view, None, free=False)
    apart = _write(exporter, model, checks, out, options.format)
    sides = " x ".join(str(side) for side in checks[0][0].shape[2:])
    print(
        f"{options.format} cannot hold this network for pictures of any size: {out} takes {sides} pixels. Use --size "
        "for another side, or another --format.",
        file=sys.stderr,
    )
    return model, apart


class _NotExportedError(UserError):
    """A format cannot hold a model, or what it holds makes something else."""


def _write(exporter: Exporter, model: Model, checks: Sequence[tuple[Tensor, ...]], out: Path, name: str) -> float:
    """Write a file whole or not at all, after it was read again and compared; return the largest difference."""
    temporary = out.with_name(f".{out.stem}.{os.getpid()}.tmp{out.suffix}")
    try:
        try:
            exporter.write(model, temporary)
            call = exporter.read(temporary, model)
            found = [_apart(call, model, inputs) for inputs in checks]
        except (GanengineError, OSError, MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # each format fails in ways of its own
            told = " ".join(str(error).split())[:300]
            raise _NotExportedError(
                f"--format {name}: expected networks that can be exported; this did not work: "
                f"{type(error).__name__}: {told}. Use another --format, as safetensors, which holds weights alone."
            ) from error
        worst, share = max(found, key=lambda pair: pair[1])
        if not share <= MOST:
            raise _NotExportedError(
                f"--format {name}: expected a file that makes what the run makes; for other inputs than those it was "
                f"traced with it differs by {worst:.3g}. Nothing was written. A network may look at sizes or values in "
                "Python. Use another --format, as safetensors, which holds weights alone."
            )
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return worst


def _apart(call: Any, model: Model, inputs: tuple[Tensor, ...]) -> tuple[float, float]:
    """Return the largest difference, and the same as a share of the largest value (or of 1)."""
    import torch

    with torch.no_grad():
        expected, found = model.module(*inputs), call(*inputs)
    if expected.shape != found.shape:
        raise ValueError(f"a result {list(found.shape)} in place of {list(expected.shape)}")
    worst = float((expected - found).abs().max())
    return worst, worst / max(1.0, float(expected.abs().max()))


def _check_name(out: Path, suffix: str) -> None:
    if out.suffix != suffix or out.is_dir():
        what = "a folder" if out.is_dir() else f'"{out.name}"'
        raise UserError(f"--out {out}: expected the name of a {suffix} file, got {what}.")
