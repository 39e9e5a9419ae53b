"""Put together what a run needs: data, hardware, trainer; for a new run, a resumed one, or one that is only used."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ganengine import __version__, checkpoint, ops, ranks
from ganengine.allocator import keep_freed_memory
from ganengine.checkpoint import load_tensors
from ganengine.config import Budget, RunOptions, Settings, check_ranges
from ganengine.data.dataset import Dataset
from ganengine.data.files import some
from ganengine.data.loader import Loader
from ganengine.data.options import DataOptions
from ganengine.data.sources import open_data
from ganengine.display import Display
from ganengine.errors import CheckpointError, DataError, UserError, printable
from ganengine.hardware import Hardware, choose, cores
from ganengine.plugins import Registry, registry, stated
from ganengine.runfolder import RunFolder
from ganengine.trainer import Trainer
from ganengine.variant import Variant

FREE = (
    "data", "bad-images", "device", "threads", "precision", "init-from", "tick-every", "checkpoint-every",
    "keep-checkpoints", "preview", "max-steps", "max-images", "max-minutes",
)  # fmt: skip
"""Options that may change in the middle of a run: they bend no number of it, or something else warns of them."""


class Session:
    """A trainer with its data, open until the `with` block ends."""

    def __init__(self, settings: Settings, hardware: Hardware, display: Display | None = None) -> None:
        self.hardware = hardware
        self.display = display or Display(quiet=not ranks.first())
        set_ops_mode(settings.engine)
        self.dataset, options = open_dataset(settings.variant, settings.engine, registry())
        settings = dataclasses.replace(settings, engine=options)
        self.settings = settings
        self.dataset.check_batch(options.batch)
        for note in self.dataset.notes:
            self.display.note(printable(note))
        # In the memory format of the networks, so that a step has nothing to copy.
        self.loader = Loader(
            self.dataset, data_options(options), channels_last=hardware.channels_last, on_bad=self._tell_bad
        )
        try:
            self.trainer = Trainer(settings, self.dataset, self.loader, hardware, registry(), self.display)
        except BaseException:
            self.loader.close()
            raise

    @classmethod
    def new(cls, settings: Settings, display: Display | None = None) -> Session:
        """Make a session at step 0.

        Raises:
            UserError: a device, data or option that does not fit; nothing is on disk then.
        """
        origin = settings.engine.init_from
        if origin is not None:
            RunFolder.open(origin)  # before the data is looked at, which may take long
        session = cls(settings, choose(settings.engine), display)
        if origin is not None:
            session._init_from(origin)
        return session

    @classmethod
    def resumed(cls, settings: Settings, folder: RunFolder, display: Display | None = None) -> Session:
        """Make a session that stands where the newest whole checkpoint of `folder` was written.

        Raises:
            CheckpointError: there is none, or it does not fit.
            DataError: the data is gone, or is not usable any more.
        """
        check_data(folder, settings.engine.data)
        saved, faults = checkpoint.newest(folder.checkpoints, folder.identity)
        # The same threads and precision, or sums would round otherwise. Of other ranks each has other threads at hand.
        threads = settings.engine.threads
        if threads is None and saved.ranks == ranks.world():
            threads = int(saved.meta["threads"])
        engine = dataclasses.replace(settings.engine, threads=threads, precision=saved.meta["precision"])
        session = cls(dataclasses.replace(settings, engine=engine), choose(engine), display)
        try:
            for fault in faults:
                session.display.note(f"Passed over a checkpoint: {fault}")
            try:
                session.trainer.load(saved)
            except CheckpointError as error:
                changed = session._changed(saved)
                if not changed:
                    raise
                raise CheckpointError(f"{error} Options have changed since ({changed}): put them back.") from error
            for warning in session._promises(saved):
                session.display.note(warning)
        except BaseException:
            session.loader.close()
            raise
        session.display.note(f"Going on at step {saved.step}, {session.trainer.position.images} images.")
        return session

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loader.close()

    def begin(self, folder: RunFolder) -> None:
        """Write what describes a new run."""
        folder.write_config(self.settings)
        folder.write_environment(self.hardware, self.notes())

    def notes(self) -> dict[str, Any]:
        """Return the automatic choices and counts that a reader of the run wants to know."""
        networks = self.trainer.players.networks
        return {
            "ranks": ranks.world(),
            "messages": ranks.messages(),
            "plugin": [str(path.absolute()) for path in registry().added],
            "ops": ops.mode(),
            "blocks": {name: count for name, count in self.trainer.players.blocks.items() if count},
            "optimizers": {
                name: f"{type(optimizer).__name__}{' (fused)' if optimizer.defaults.get('fused') else ''}"
                for name, optimizer in self.trainer.players.optimizers.items()
            },
            "parameters": {
                name: sum(p.numel() for p in net.parameters()) if isinstance(net, torch.nn.Module) else net.numel()
                for name, net in networks.items()
            },
            "data": self.dataset.spec.to_dict(),
            "splits": dict(self.dataset.splits),
            "horizon": self.trainer.horizon,
            "stages": [
                {"name": stage.name, "images": stage.images, "size": stage.size, "batch": stage.batch}
                for stage in self.trainer.schedule.stages
            ],
        }

    def greeting(self, folder: RunFolder) -> str:
        """Return what a run is about to do and with what: every automatic choice in two lines."""
        hardware, notes = self.hardware, self.notes()
        shapes = ", ".join(
            f"{name} {'x'.join(['*'] * field.ragged + [*map(str, field.shape)])}" if field.shape else name
            for name, field in self.dataset.spec.fields.items()
        )
        sizes = ", ".join(
            f"{name} {f'{count / 1e6:.2f} M' if count >= 1e5 else count}" for name, count in notes["parameters"].items()
        )
        names = [stage["name"] for stage in notes["stages"]]
        at = self.trainer.position.stage
        sizes += f' in stage "{names[at]}" of {", ".join(names)}' if len(names) > 1 else ""
        batch = self.trainer.schedule.stages[at].batch or self.settings.engine.batch
        again = sum(notes["blocks"].values())
        kept = f", activations of {again} blocks computed again" if again else ""
        several = f"{notes['ranks']} ranks (messages by {notes['messages']}), each on " if notes["messages"] else ""
        layout = "channels-last" if hardware.channels_last else "contiguous"
        return (
            f"{self.settings.variant.name} in {folder}: {self.dataset.spec.count} training samples ({shapes}); "
            f"parameters {sizes}\n{several}{hardware.device}, {hardware.threads} thread(s), "
            f"{hardware.precision}, {layout}, ops {notes['ops']}{self._without_kernels()}, batch {batch}, "
            f"horizon {self.trainer.horizon} images, {keep_freed_memory()}{kept}{self._parts(batch)}"
        )

    def _without_kernels(self) -> str:
        """Return that there are no compiled kernels where the mode would take them, else ""."""
        device = self.hardware.device.type
        missing = ops.mode() == "auto" and not any(
            kernel.compiled for kernel in ops.kernels() if kernel.device == device
        )
        return " (no compiled kernels: slower; `ganengine doctor` says why)" if missing else ""

    def _parts(self, batch: int) -> str:
        """Return what parts of a batch change, else ""."""
        parts, mixing = self.settings.engine.accumulate, self.trainer.players.mixing()
        if parts == 1 or not mixing:
            return ""
        return (
            f"\n--accumulate {parts}: batch statistics in {', '.join(mixing)} are those of {batch // parts} samples, "
            f"not of {batch}, so results differ from those of whole batches"
        )

    def nothing_left(self, budget: Budget) -> str:
        """Return why there is nothing to train under `budget`, or ""."""
        return self.trainer.why_stop(budget)

    def further(self) -> str:
        """Return what `ganengine resume` needs to go on beyond a goal that is reached, in the next stage if need be."""
        images, left = self.trainer.position.images, self.trainer.left_of_stage()
        return f" --max-images {max(1, 2 * images, 0 if left is None else 2 * (images + left[1]))}"

    def farewell(self, folder: RunFolder, reason: str) -> str:
        """Return what to tell at the end of a run: why it ended, its picture, and what to do next."""
        pictures = sorted(folder.samples.glob("*.png"))
        lines = [f"Stopped: {reason}. Everything is in {folder}."]
        name, left = shlex.quote(str(folder)) + stated(), self.trainer.left_of_stage()
        if left is not None:
            lines.append(f"  stage            {left[0]} ends after another {left[1]} images; {left[2]} is next")
        # An interrupted run has its goal still before it.
        further = "" if self.trainer.interrupt.number else self.further()
        if pictures:
            lines.append(f"  picture          {pictures[-1]}")
        lines.append(f"  go on            ganengine resume {name}{further}")
        lines.append(f"  draw pictures    ganengine sample {name}")
        kinds = {view.kind for view in self.trainer.views.values()}
        split = "test" if "test" in self.dataset.splits else next(iter(self.dataset.splits))
        if "translate" in kinds:
            lines.append(f"  use it           ganengine translate {name} IN OUT")
            lines.append(f"  measure it       ganengine eval {name} --split {split} --metrics l1,psnr")
        elif "forecast" in kinds:
            lines.append(f"  measure it       ganengine eval {name} --split {split}")
        elif "sample" in kinds and self._is_labelled():
            lines.append(f"  measure it       ganengine eval {name} --baseline untrained")
        return "\n".join(lines)

    def _is_labelled(self) -> bool:
        """Whether a judge of pictures can be trained on this data."""
        fields = self.dataset.spec.fields
        pictures = "real" in fields and fields["real"].kind == "image"
        return pictures and "label" in fields and self.dataset.spec.classes("label") > 1

    def _tell_bad(self, path: str, reason: str) -> None:
        self.display.note(f"Left out {printable(path)}: {reason}")

    def _init_from(self, path: Path) -> None:
        source = RunFolder.open(path)
        saved, faults = checkpoint.newest(source.checkpoints, source.identity)
        for fault in faults:
            self.display.note(f"Passed over a checkpoint: {fault}")
        named = saved.meta.get("variant")
        if named != self.settings.variant.name:
            raise UserError(
                f'--init-from {path}: expected a run of "{self.settings.variant.name}", got one of "{named}".'
            )
        tensors = self.trainer.players.tensors()
        fitting = {n: t for n, t in tensors.items() if n in saved.networks and saved.networks[n].shape == t.shape}
        if not fitting:
            raise UserError(f"--init-from {path}: none of its tensors fits these networks. Use the same options.")
        load_tensors(fitting, dataclasses.replace(saved, networks={n: saved.networks[n] for n in fitting}))
        if not any(name.partition("/")[0].endswith("_ema") for name in fitting):
            self.trainer.players.start_averages()  # a run without averages gives the networks to begin them at
        rest = [name for name in tensors if name not in fitting]
        others = f" Begun anew, as they are not there or have another shape: {some(rest)}." if rest else ""
        self.display.note(f"Took {len(fitting)} of {len(tensors)} tensors over from {path}, step {saved.step}.{others}")

    def _changed(self, saved: checkpoint.Checkpoint) -> str:
        """Return which options are not those that a checkpoint was written with, and what they were."""
        then, now = saved.meta.get("options") or {}, self.settings.to_dict()
        return ", ".join(
            f"{name} was {then[name]}, is {now[name]}"
            for name in now
            if name in then and name not in FREE and then[name] != now[name]
        )

    def _promises(self, saved: checkpoint.Checkpoint) -> list[str]:
        """Return why going on may not be bit for bit what an unbroken run would have been."""
        told = []
        changed = self._changed(saved)
        if changed:
            told.append(
                f"Options have changed since the checkpoint ({changed}): going on with the new ones, but "
                "not as an unbroken run would have."
            )
        if saved.meta["ganengine"] != __version__:
            told.append(
                f"The checkpoint was written by ganengine {saved.meta['ganengine']}, this is {__version__}: bits may "
                "differ."
            )
        if saved.meta["fingerprint"] != self.dataset.fingerprint:
            told.append("The data has changed since the checkpoint: going on, but not as an unbroken run would have.")
        with_torch, torch_now = saved.meta["versions"].get("torch"), torch.__version__
        if with_torch not in (torch_now, torch_now.partition("+")[0]):
            told.append(f"The checkpoint was written with torch {with_torch}, this is {torch_now}: bits may differ.")
        if saved.ranks != ranks.world():
            told.append(
                f"The checkpoint was written by {saved.ranks} rank(s), this is {ranks.world()}: the same numbers, but "
                "for rounding."
            )
        elif saved.meta["threads"] != self.hardware.threads:
            told.append(
                f"The checkpoint was written by {saved.meta['threads']} thread(s), this is {self.hardware.threads}: "
                "the same numbers, but for rounding."
            )
        elif self.hardware.threads > cores():
            told.append(
                f"The run has {self.hardware.threads} threads, but there are {cores()} core(s): a step can take "
                f'several times as long. With "threads: {cores()}" in config.yaml it does not, but it rounds otherwise.'
            )
        if saved.meta["device"] != self.hardware.device.type:
            told.append(f"The checkpoint was written on {saved.meta['device']}, this is {self.hardware.device.type}.")
        return told


def set_ops_mode(options: RunOptions) -> None:
    """Choose the implementation of the ops: what was asked for, else what GANENGINE_OPS says, else `auto`."""
    ops.set_mode(options.ops if options.ops != "auto" else ops.stated_mode())


def data_options(options: RunOptions) -> DataOptions:
    """Return what the data layer needs to know of the engine's options."""
    shared = {f.name for f in dataclasses.fields(DataOptions)} & {f.name for f in dataclasses.fields(RunOptions)}
    chosen = {name: getattr(options, name) for name in shared}
    return DataOptions(**{name: value for name, value in chosen.items() if name != "size" or value is not None})


def check_data(folder: RunFolder, data: str, *, instead: str = "") -> None:
    """Check that the data of a run is where it was when the run was made.

    Args:
        folder: the run.
        data: what its options say.
        instead: what else than the usual can be done, as words of a list.

    Raises:
        DataError: it is gone; told is how to name its new place.
    """
    path = Path(data)
    if path.is_absolute() and not path.exists():
        raise DataError(
            f"{data}: expected the data that {folder} was trained on; it is not there any more. Put it back,{instead} "
            f'or write its new place into {folder.path / "config.yaml"}, as "data: /new/place", and try again.'
        )


def open_dataset(variant: Variant, options: RunOptions, plugins: Registry) -> tuple[Dataset, RunOptions]:
    """Open the data that was asked for, or the variant's own; return it and the options with their size settled.

    Raises:
        DataError: it is missing or does not fit the variant.
        UserError: none was given and the variant brings none.
    """
    argument = options.data or variant.data
    if not argument:
        raise UserError(f"expected a folder of data, as in `ganengine run {variant.name} FOLDER`; got none.")
    sources = plugins.sources()
    dataset = open_data(argument, variant.fields, data_options(options), sources, aligned=variant.aligned)
    if options.size is None:
        provisional = data_options(options).size
        size = min(provisional, dataset.natural_side or provisional)
        options = dataclasses.replace(options, size=size)
        check_ranges(options)
        if size != provisional:
            dataset = open_data(argument, variant.fields, data_options(options), sources, aligned=variant.aligned)
    return dataset, options
