"""`ganengine export`: what a run can make, as a file for other programs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ganengine.commands.arguments import parse
from ganengine.commands.outputs import check_outputs, folder_made
from ganengine.config import check_ranges
from ganengine.errors import GanengineError, PluginError, UserError

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
    from ganengine.runfolder import RunFolder, write_whole

    found = registry()
    component = found.get("exporter", options.format)
    folder = RunFolder.open(options.run)
    form = _Form(options.format, found.entries["exporter"][options.format].origin.name, component.load())
    exporter = form.exporter
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
    model, file, apart = _written(form, model, trained, view, options, out)
    with folder_made(out.parent):
        write_whole(out, file)
    result = {"schema": 1, "file": str(out), "format": options.format, "largest_difference": apart, **model.about}
    if options.json:
        print(json.dumps(result))
    else:
        inputs = ", ".join(f"{x['name']} [{', '.join(map(str, x['shape']))}]" for x in model.about["inputs"])
        print(f"{out}: {options.format} of {inputs}; it makes what the run makes, at most {apart:.1e} apart")
    return 0


@dataclass(frozen=True)
class _Form:
    """A format, and who brings it."""

    name: str
    plugin: str
    exporter: Exporter

    def __post_init__(self) -> None:
        from ganengine.export.formats import Exporter

        if not isinstance(self.exporter, Exporter):
            kind = type(self.exporter).__name__
            raise PluginError(f"{self} is a {kind}; expected a ganengine.export.formats.Exporter.")
        suffix = self.exporter.suffix
        if not isinstance(suffix, str) or not re.fullmatch(r"(\.[\w-]+)+", suffix):
            raise PluginError(f'{self} has the suffix {suffix!r}; expected one like ".net".')

    def __str__(self) -> str:
        return f'The exporter "{self.name}" of plugin {self.plugin}'

    def write(self, model: Model) -> bytes:
        """Return the file, or raise what `_told` makes of an error."""
        with self._told("writing the networks"):
            file = self.exporter.write(model)
        if not isinstance(file, bytes):
            raise PluginError(f"{self}: its write returned a {type(file).__name__}; expected bytes.")
        return file

    def check(self, file: bytes, model: Model, checks: Sequence[tuple[Tensor, ...]]) -> float:
        """Return by how much what the file makes differs from what the run makes, at most.

        Raises:
            _NotExportedError: by too much.
        """
        with self._told("reading the file again"):
            call = self.exporter.read(file, model)
        with self._told("calling what the file holds"):
            found = [_apart(call, model, inputs) for inputs in checks]
        worst, share = max(found, key=lambda pair: pair[1])
        if not share <= MOST:
            raise _NotExportedError(
                f"--format {self.name}: expected a file that makes what the run makes; for other inputs than those it "
                f"was traced with it differs by {worst:.3g}. Nothing was written. A network may look at sizes or "
                "values in Python. Use another --format, as safetensors, which holds weights alone."
            )
        return worst

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (GanengineError, MemoryError):
            raise
        except Exception as error:  # each format fails in ways of its own
            told = " ".join(str(error).split())[:300]
            raise _NotExportedError(
                f"--format {self.name}: {doing} did not work: {type(error).__name__}: {told}. Nothing was written. "
                f"{self} may not take these networks: use another --format, as safetensors, which holds weights alone."
            ) from error


class _NotExportedError(UserError):
    """A format cannot hold a model, or what it holds makes something else."""


def _written(
    form: _Form, model: Model, trained: Trained, view: View, options: _Options, out: Path
) -> tuple[Model, bytes, float]:
    """Return a model as a file that was checked; where free sides are too much for a format, with the training's."""
    from ganengine.export.model import checks_of, fixed

    free = view.kind == "translate" and options.size is None
    try:
        file = form.write(model)
        return model, file, form.check(file, model, checks_of(trained, view, options.size, free=free))
    except _NotExportedError:
        if not free:
            raise
    model = fixed(model, trained, view)
    checks = checks_of(trained, view, None, free=False)
    file = form.write(model)
    apart = form.check(file, model, checks)
    sides = " x ".join(str(side) for side in checks[0][0].shape[2:])
    print(
        f"{options.format} cannot hold this network for pictures of any size: {out} takes {sides} pixels. Use --size "
        "for another side, or another --format.",
        file=sys.stderr,
    )
    return model, file, apart


def _apart(call: Any, model: Model, inputs: tuple[Tensor, ...]) -> tuple[float, float]:
    """Return the largest difference, and the same as a share of the largest value (or of 1)."""
    import torch

    with torch.no_grad():
        expected, found = model.module(*inputs), call(*inputs)
    if not isinstance(found, torch.Tensor):
        raise TypeError(f"expected a Tensor, got a {type(found).__name__}")
    if expected.shape != found.shape:
        raise ValueError(f"a result {list(found.shape)} in place of {list(expected.shape)}")
    worst = float((expected - found).abs().max())
    return worst, worst / max(1.0, float(expected.abs().max()))


def _check_name(out: Path, suffix: str) -> None:
    if not out.name.removesuffix(suffix) or not out.name.endswith(suffix) or os.path.isdir(out):
        what = "a folder" if os.path.isdir(out) else f'"{out.name}"'
        raise UserError(f"--out {out}: expected the name of a {suffix} file, got {what}.")
