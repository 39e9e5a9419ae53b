"""A run that is only used: its networks, its views and what its data looked like."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ganengine import checkpoint, ops
from ganengine.checkpoint import load_tensors
from ganengine.config import Precision
from ganengine.data.batch import Batch
from ganengine.hardware import choose
from ganengine.nn.context import Statistics
from ganengine.plan import enlargement, schedule_of
from ganengine.players import build_networks, network_tensors
from ganengine.plugins import registry
from ganengine.precision import settle
from ganengine.runfolder import RunFolder
from ganengine.sampling import Sampler
from ganengine.session import set_ops_mode
from ganengine.trainer import Position
from ganengine.variant import DataSpec, Progress, Schedule, View


class Trained:
    """A run that is only used: networks to sample with, and its views.

    Args:
        folder: the run.
        device: where to compute; "auto" is a GPU where there is one.
        seed: for the draws of views; None: the run's own.
        statistics: what normalisation uses.
        untrained: sample with the networks as they were before the first step, the baseline of every figure.
        precision: "auto", or None, is the fast one of the hardware; `settle` looks whether it is good enough.
        step: of the checkpoint to use; None: the newest whole one.
        plain: networks of torch's own layers in its own memory order, to be handed on; the same but for rounding.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit.
    """

    def __init__(
        self, folder: RunFolder, *, device: str = "auto", seed: int | None = None, statistics: Statistics = "own",
        threads: int | None = None, precision: Precision | None = None, untrained: bool = False,
        step: int | None = None, plain: bool = False,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.settings = folder.read_config(registry())
        faults: list[str] = []
        if step is None:
            self.checkpoint, faults = checkpoint.newest(folder.checkpoints, folder.identity)
        else:
            self.checkpoint = checkpoint.at_step(folder.checkpoints, step)
        for fault in faults:
            print(f"Passed over a checkpoint: {fault}", file=sys.stderr)
        meta, variant = self.checkpoint.meta, self.settings.variant
        engine = dataclasses.replace(
            self.settings.engine, device=device, threads=threads, precision=precision or "auto"
        )  # fmt: skip
        if plain:
            engine = dataclasses.replace(engine, channels_last="off")
        self.automatic = engine.precision == "auto"
        """Whether the precision was left open."""
        self.note = ""
        """What the user is to be told of the choice, once the work is done."""
        self.hardware = choose(engine)
        set_ops_mode(engine)
        self.spec = DataSpec.from_dict(meta["data"])
        schedule = schedule_of(self.settings)
        at = Position.of(self.checkpoint, len(schedule.stages))
        self.stage = schedule.stages[at.stage]
        networks = build_networks(self.settings, self.spec, self.stage, at.stage, self.hardware)
        wanted = network_tensors(networks)
        saved = dict(self.checkpoint.networks)
        for name in list(saved):
            root, slash, path = name.partition("/")
            if root.endswith("_ema"):
                # Sampling uses the averaged networks where there are any.
                saved[root.removesuffix("_ema") + slash + path] = saved.pop(name)
        self.unbegun = _unbegun(wanted, saved, schedule)
        """Networks that are to learn, and are no critics, whose weights are still those they were made with."""
        if not untrained:
            load_tensors(wanted, dataclasses.replace(self.checkpoint, networks=saved))
        progress = Progress(at.step, at.images, int(meta["horizon"]), at.stage, at.images - at.stage_start)
        self.sampler = Sampler(
            networks,
            dict(variant.builder("views")(self.settings.config)),
            self.hardware,
            engine.seed if seed is None else seed,
            progress,
            statistics=statistics,
            enlarge=enlargement(self.stage, engine),
        )

    def settle(self, view: View, given: Batch | None = None) -> None:
        """Choose the precision where it was left open, as `ganengine.precision.settle` does; `note` tells of it."""
        if self.automatic:
            side = self.stage.size or self.settings.engine.size or 0
            self.note = settle(self.sampler, view, self.spec, side, given)


def load_networks(run: str | os.PathLike[str], *, step: int | None = None) -> dict[str, nn.Module]:
    """Load the networks of a run as modules in eval mode on the CPU, the averaged ones where there are any.

    They are made of torch's own layers and those of `ganengine.nn`, in float32. Batch norm uses the running statistics
    of the training, and dropout that stays on in use draws from torch's global generator; `ganengine.export.load_view`
    gives what `ganengine sample` and `ganengine translate` make instead.

    Args:
        run: folder of the run.
        step: of the checkpoint to use; None: the newest whole one.

    Returns:
        The modules by name: "G", "D" ...

    Raises:
        UserError: there is no such run, or its variant is not installed.
        CheckpointError: there is no such checkpoint, or it does not fit.
    """
    networks = load_plain(run, step=step).sampler.networks
    return {name: network.eval() for name, network in networks.items() if isinstance(network, nn.Module)}


def load_plain(run: str | os.PathLike[str], *, step: int | None = None, seed: int | None = None) -> Trained:
    """Load a run to hand its networks on; threads, and how ops are computed, stay as they are in this process."""
    mode = ops.mode()
    try:
        return Trained(
            RunFolder.open(Path(run)), device="cpu", threads=torch.get_num_threads(), precision="fp32", step=step,
            seed=seed, plain=True,
        )  # fmt: skip
    finally:
        ops.set_mode(mode)


def _unbegun(made: Mapping[str, Tensor], saved: Mapping[str, Tensor], schedule: Schedule) -> tuple[str, ...]:
    """Return which networks have learned nothing yet, given their tensors as just made and as saved.

    Told by their weights, not by the stage: those of a run of no steps may have been imported, and a warm-up may keep a
    network from learning in a stage that trains it.
    """
    stages = range(len(schedule.stages))
    learning = {name.partition(".")[0] for stage in stages for phase in schedule.phases(stage) for name in phase.params}
    still: dict[str, bool] = {}
    for path, tensor in made.items():
        name = path.partition("/")[0]
        if name in learning and name not in schedule.critics and isinstance(tensor, nn.Parameter):
            same = still.get(name, True) and path in saved and torch.equal(tensor, saved[path].to(tensor))
            still[name] = same
    return tuple(name for name, same in still.items() if same)
