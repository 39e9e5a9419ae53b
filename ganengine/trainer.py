"""The one loop. It knows phases, stages and budgets; it never knows a variant's name."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganengine import __version__, checkpoint, ranks
from ganengine.augment import Critics
from ganengine.batches import Batches
from ganengine.clock import Clock
from ganengine.config import Budget, Settings
from ganengine.data.batch import Batch
from ganengine.data.dataset import Dataset
from ganengine.data.loader import Loader
from ganengine.display import Display
from ganengine.errors import CheckpointError, DataError, TrainingError, UserError
from ganengine.hardware import Hardware, peak_memory
from ganengine.interrupt import Interrupt
from ganengine.observers import Observers
from ganengine.plan import check_batches, check_components, check_schedule, enlargement, horizon, schedule_of
from ganengine.players import Players
from ganengine.plugins import Registry, stated
from ganengine.records import CheckpointRecord, EndRecord, RunRecord, StepRecord, TickRecord
from ganengine.returned import named
from ganengine.runfolder import RunFolder, versions
from ganengine.sampling import Sampler
from ganengine.stats import Means
from ganengine.step import Step
from ganengine.update import Updater, measured, reported
from ganengine.variant import Due, Phase, Progress, State

SKIPS_IN_A_ROW = 50
"""So many updates without a finite gradient end a run that was told to skip them."""

ROLLBACKS = 3
"""So many returns to the same checkpoint end a run."""


@dataclass
class Position:
    """Where the loop stands; all of it is in a checkpoint."""

    step: int = 0
    images: int = 0
    stage: int = 0
    stage_start: int = 0
    salt: int = 0
    """Counts rollbacks: other numbers are drawn after one."""
    skipped: int = 0
    """Updates left out for a non-finite gradient."""
    skips_in_a_row: int = 0
    """Of these, since the last update that was done."""
    log_lines: int = 0

    @classmethod
    def of(cls, saved: checkpoint.Checkpoint, stages: int) -> Position:
        """Return where a checkpoint stands.

        Args:
            saved: the checkpoint.
            stages: how many the schedule has.

        Raises:
            CheckpointError: it does not say, or what it says makes no sense.
        """
        try:
            found = cls(**saved.state["position"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{saved.path}: state.pt does not say where training stood ({error}).") from error
        sound = all(type(number) is int and 0 <= number <= checkpoint.MOST for number in vars(found).values())
        if not sound or found.step != saved.step or found.stage >= stages:
            raise CheckpointError(f"{saved.path}: where training stood makes no sense in state.pt: {found}.")
        return found


class Trainer:
    """Trains one run.

    Args:
        settings: all options.
        dataset: what to draw batches from.
        hardware: what to compute on.
        registry: installed plugins: optimizers by name, observers.
        display: what the user sees meanwhile.
    """

    def __init__(
        self, settings: Settings, dataset: Dataset, loader: Loader, hardware: Hardware, registry: Registry,
        display: Display,
    ) -> None:  # fmt: skip
        self.settings, self.dataset, self.loader = settings, dataset, loader
        self.hardware, self.display = hardware, display
        variant, options = settings.variant, settings.engine
        self.schedule = schedule_of(settings)
        self.views = named(
            variant.builder("views")(settings.config), f'The views builder of "{variant.name}"', "{name: View}"
        )
        self.losses = named(
            variant.builder("losses")(settings.config), f'The losses builder of "{variant.name}"', "{name: function}"
        )
        check_schedule(self.schedule, self.losses)
        check_batches(self.schedule, options)
        check_components(self.schedule, options, dataset.spec)
        self.critics = Critics(options, self.schedule.critics, hardware.device, registry)
        self.horizon = horizon(settings, dataset.spec, self.schedule)
        self.position = Position()
        self.clock = Clock()
        self.means = Means()
        self.observers = Observers(registry.manager)
        self._classes = {name: entry.record.load() for name, entry in registry.entries["optimizer"].items()}
        self.players, self.updater = self._build(0)
        self.state = {name: torch.tensor(v, device=hardware.device) for name, v in self.schedule.state.items()}
        self._rollbacks = 0
        self._saved_step = -1
        self._shown: dict[int | None, Batch] = {}
        self._to_show()  # data that cannot be shown is told of before anything is trained
        self.interrupt = Interrupt(lambda: display.note("Saving and stopping after this step ..."))
        self._preview_steps = options.preview_steps()

    def _build(self, stage: int) -> tuple[Players, Updater]:
        players = Players(
            self.settings, self.dataset.spec, self.schedule, stage, self.hardware, self._classes
        )  # fmt: skip
        ranks.equalise(players.tensors().values())
        self.critics.watch(players.networks)
        return players, Updater(players, self.losses, self.hardware, self.settings.engine.clip_norm)

    # -- the loop -------------------------------------------------------------------------------------------------

    def train(self, folder: RunFolder, budget: Budget) -> str:
        """Train until a budget or the horizon is reached, or a signal comes; save; return why it ended.

        Raises:
            TrainingError: gradients stay non-finite.
            DataError: the data cannot be read any more; all steps that were done are saved.
            UserError: the folder cannot be written to; earlier checkpoints are whole.
        """
        self.folder = folder
        if ranks.first():
            with self._writing("The log"):
                folder.sweep()
                folder.cut_log(self.position.log_lines)  # what stands past the checkpoint is written again
            self.display.keep_notes(lambda text: folder.append_note(self.position.step, text))
        self.clock = Clock(self.clock.before)
        options = self.settings.engine
        self.observers.tell("run_start", RunRecord(folder.path, self.settings.to_dict(), self.position.step))
        with (
            self.interrupt.watching(),
            _frozen(),
            self.display.running(self._goal(budget), self.position, self.clock),
        ):
            if self.position.step == 0:
                self._preview()
                # A run that is killed before its first regular checkpoint can go on too.
                self._save()
            while not (reason := self.why_stop(budget)):
                if self._stage_is_over():
                    if self._saved_step != self.position.step:
                        self._save()  # what a stage ends with is kept
                    self._grow()
                before = self.position.images
                try:
                    self.round()
                except _RollbackError as fault:
                    self.roll_back(str(fault))
                    continue
                except DataError:
                    if self.position.images == before:  # no batch was drawn: the networks hold whole steps alone
                        self._finish()
                    raise
                if self.position.step % options.tick_every == 0:
                    self._tick()
                elif self.position.step in self._preview_steps:
                    self._preview()
                if self.position.step % options.checkpoint_every == 0:
                    self._save()
            self._finish()
        self.observers.tell("run_end", EndRecord(folder.path, self.position.step, self.position.images, reason))
        return reason

    def progress(self) -> Progress:
        """Return where the run stands, as ramps, gates and losses see it."""
        at = self.position
        return Progress(at.step, at.images, self.horizon, at.stage, at.images - at.stage_start)

    def round(self) -> None:
        """Do one step: every phase that is due, averages, measured state."""
        before = self.position.images
        progress, steps = self.progress(), Batches(self)
        self.critics.begin(progress)
        losses: dict[str, Tensor] = {}
        for group in self.schedule.at(progress, self._host_state()):
            self._simultaneous(group, steps, losses) if len(group) > 1 else self._alone(group[0], steps, losses)
        self.position.step += 1
        shown = self.position.images - before
        self.players.update_averages(self.position.images, shown)
        self._update_state(steps.all)
        # Losses and readings travel in one message.
        told = ranks.averaged(losses | {f"d/{name}": value for name, value in reported(steps.all).items()})
        measured_here = self.critics.end(steps.all, shown, self.players.steps)
        for name, value in (told | {f"d/{name}": value for name, value in measured_here.items()}).items():
            self.means.add(name, value)
        if self.observers.watched("step"):
            self.observers.tell(
                "step", StepRecord(self.position.step, self.position.images, {name: told[name] for name in losses})
            )
        self.display.step(self.position)

    def _alone(self, due: Due, steps: Batches, losses: dict[str, Tensor]) -> None:
        for _ in range(due.repeats):
            parts = steps.of(due.phase, due.repeats)
            losses.update(self.updater.gradients(due, parts))
            self._apply(due, parts)

    def _simultaneous(self, group: Sequence[Due], steps: Batches, losses: dict[str, Tensor]) -> None:
        taken = []
        for due in group:
            parts = steps.of(due.phase, 1)
            losses.update(self.updater.gradients(due, parts))
            taken.append((due, parts, self.updater.take(due)))
        for due, parts, gradients in taken:
            self.updater.put(due, gradients)
            self._apply(due, parts)

    def _apply(self, due: Due, parts: Sequence[Step]) -> None:
        if self.updater.step(due):
            self.position.skips_in_a_row = 0
        else:
            self._nonfinite(due.phase)
        with torch.no_grad():
            for action in due.phase.after:
                for part in parts:
                    action(part)
        if self.updater.scaler.is_enabled():
            self.updater.scaler.update()

    def _nonfinite(self, phase: Phase) -> None:
        where = f'phase "{phase.name}" at step {self.position.step}'
        self.position.skipped += 1
        self.position.skips_in_a_row += 1
        treatment = self.settings.engine.on_nonfinite
        if treatment == "stop":
            raise TrainingError(
                f"A gradient of {where} is not finite. The last checkpoint is in {self.folder.checkpoints}. "
                "Use a smaller learning rate or --precision fp32, or --on-nonfinite skip."
            )
        if treatment == "rollback":
            raise _RollbackError(where)
        if self.position.skips_in_a_row == 1:
            self.display.note(f"A gradient of {where} is not finite: this update is left out.")
        if self.position.skips_in_a_row >= SKIPS_IN_A_ROW:
            raise TrainingError(
                f"{SKIPS_IN_A_ROW} updates in a row had gradients that are not finite, the last in {where}. "
                f"The last good checkpoint is in {self.folder.checkpoints}. "
                "Use a smaller learning rate or --precision fp32."
            )

    def _host_state(self) -> State:
        # sync: only for variants that declare measured state; the copy is that of the step before
        return {name: float(value) for name, value in self.state.items()}

    def _update_state(self, steps: Sequence[Step]) -> None:
        if self.schedule.update is None:
            return
        with torch.no_grad():
            self.state = dict(self.schedule.update(self.state, ranks.averaged(measured(steps))))

    def _stage_is_over(self) -> bool:
        """Whether the next stage is to begin."""
        at = self.position
        stage = self.schedule.stages[at.stage]
        over = stage.images is not None and at.images - at.stage_start >= stage.images
        over = over or (stage.until is not None and stage.until(self.progress(), self._host_state()))
        return over and at.stage + 1 < len(self.schedule.stages)

    def left_of_stage(self) -> tuple[str, int, str] | None:
        """Return this stage, how many images it has yet to see, and the next one; None where that is not known."""
        at, stages = self.position, self.schedule.stages
        stage = stages[at.stage]
        if at.stage + 1 == len(stages) or stage.images is None:
            return None
        return stage.name, max(0, at.stage_start + stage.images - at.images), stages[at.stage + 1].name

    def _grow(self) -> None:
        """Move to the next stage: build, hand over, keep what stays."""
        at = self.position
        at.stage, at.stage_start = at.stage + 1, at.images
        old, scaler = self.players, self.updater.scaler
        self.players, self.updater = self._build(at.stage)
        self.players.take_over(old, self.schedule.stages[at.stage])
        self.updater.scaler.load_state_dict(scaler.state_dict())
        self.display.note(f'Stage "{self.schedule.stages[at.stage].name}" begins at {at.images} images.')

    # -- when to stop ---------------------------------------------------------------------------------------------

    def _goal(self, budget: Budget) -> Budget:
        """Return the budget, or the horizon where none is stated."""
        return budget if budget.stated() else Budget(max_images=self.horizon)

    def why_stop(self, budget: Budget) -> str:
        """Return why training is over under `budget`, or "" while it is not."""
        at, goal = self.position, self._goal(budget)
        over = goal.max_minutes is not None and self.clock.here() >= 60 * goal.max_minutes
        number, late = ranks.agreed(self.interrupt.number, int(over))
        if number:
            self.interrupt.number = number  # that of another rank, perhaps
            return signal.Signals(self.interrupt.number).name
        if goal.max_steps is not None and at.step >= goal.max_steps:
            return f"{at.step} steps reached"
        if goal.max_images is not None and at.images >= goal.max_images:
            return f"{at.images} images reached"
        if late:
            return f"{goal.max_minutes:g} minutes reached"
        return ""

    # -- ticks, previews, checkpoints -----------------------------------------------------------------------------

    def _line(self) -> dict[str, Any]:
        at, means = self.position, self.means.read()
        progress = self.progress()
        rates = {
            due.phase.optimizer: due.lr
            for group in self.schedule.at(progress, self._host_state())
            for due in group
        }  # fmt: skip
        line: dict[str, Any] = {
            "step": at.step,
            "images": at.images,
            "epoch": round(at.images / max(1, self.dataset.spec.count), 4),
            "loss": {name: value for name, value in means.items() if not name.startswith("d/")},
            "lr": rates,
            "d": {name[2:]: value for name, value in means.items() if name.startswith("d/")},
        }
        if self.state:
            line["state"] = self._host_state()
        if at.skipped:
            line["skipped"] = at.skipped
        line["time"] = {
            "elapsed_s": round(self.clock.total(), 3),
            "images_per_s": round(self.display.speed(), 3),
            "data_wait": round(self.loader.waited_s / max(1e-9, self.clock.here()), 4),
            **peak_memory(self.hardware.device),
        }
        return line

    def _tick(self) -> None:
        line = self._line()
        self._append_log(line)
        self.position.log_lines += 1
        self.means.clear()
        preview = self._preview()
        self.display.tick(self._labelled(line), preview)
        if self.observers.watched("tick"):
            at = self.position
            self.observers.tell("tick", TickRecord(self.folder.path, at.step, at.images, line, preview))

    def _labelled(self, line: dict[str, Any]) -> dict[str, Any]:
        """Add what the printed log calls G and D: the totals of the phases that train them."""
        totals: dict[str, float] = {}
        for phase in self.schedule.phases(self.position.stage):
            label = phase.params[0].partition(".")[0]
            if phase.name in line["loss"] and label not in totals:
                totals[label] = line["loss"][phase.name]
        return {**line, "totals": totals, "horizon": self.horizon, "count": self.dataset.spec.count}

    def sampler(self) -> Sampler:
        """Return a sampler over the networks as they are now."""
        options = self.settings.engine
        return Sampler(
            self.players.sampling(), self.views, self.hardware, options.seed, self.progress(),
            enlarge=enlargement(self.schedule.stages[self.position.stage], options),
        )  # fmt: skip

    def _to_show(self) -> Batch | None:
        """Return the samples of the preview, at the size of the stage; None where none is wanted."""
        count, size = self.settings.engine.preview, self.schedule.stages[self.position.stage].size
        if count and ranks.first() and size not in self._shown:
            self._shown = {size: self.loader.fixed(self.dataset.shown_split, count, size=size)}
        return self._shown.get(size)

    def _preview(self) -> Path | None:
        shown, batch = [view for view in self.views.values() if view.kind != "translate"], self._to_show()
        if batch is None or not shown:
            return None
        batch = batch.to(self.hardware.device, channels_last=self.hardware.channels_last)
        picture = self.sampler().preview(shown[0], batch, self.dataset.spec)
        with self._writing("The preview"):
            return self.folder.save_sample(self.position.images, picture)

    def _finish(self) -> None:
        """Leave everything on disk: checkpoint, the log line of an unfinished tick, a last picture."""
        if self._saved_step != self.position.step:
            self._save()
        if self.position.step % self.settings.engine.tick_every:
            # This line is not counted: going on cuts it and finishes the tick.
            line = self._line()
            self._append_log(line)
            self.display.tick(self._labelled(line), self._preview())

    def _append_log(self, line: dict[str, Any]) -> None:
        if ranks.first():
            with self._writing("The log"):
                self.folder.append_log(line)

    def _save(self) -> None:
        if ranks.first():
            self._write()
        self._saved_step = self.position.step
        self._rollbacks = 0

    def _write(self) -> None:
        with self._writing("The checkpoint"):
            path = checkpoint.write(self.folder.checkpoints, self.players.tensors(), self.state_dict(), self._meta())
        checkpoint.prune(self.folder.checkpoints, self.settings.engine.keep_checkpoints, self.position.step)
        if self.observers.watched("checkpoint"):
            self.observers.tell("checkpoint", CheckpointRecord(path, self.position.step))

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Tell of a disk that is full or read-only, and how to go on.

        Raises:
            UserError: the block cannot write.
        """
        try:
            yield
        except OSError as error:
            # Before its first checkpoint there is nothing to go on from, and a new run takes its folder away.
            remedy = (
                f"Earlier checkpoints are whole: free some space, then `ganengine resume {self.folder}{stated()}`."
                if self._saved_step >= 0
                else "Nothing is trained yet: free some space, or choose another place with --out, and start again."
            )
            raise UserError(
                f"{what} of step {self.position.step} cannot be written to {self.folder} ({error.strerror or error}). "
                f"{remedy}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on exactly, besides the networks. Nothing in it depends on the clock."""
        return {
            "position": dict(vars(self.position)),
            "optimizers": self.players.optimizer_state(),
            "steps": dict(self.players.steps),
            "scaler": self.updater.scaler.state_dict(),
            "state": {name: value.detach().clone() for name, value in self.state.items()},
            "means": self.means.state_dict(),
            "augment": self.critics.state_dict(),
        }

    def _meta(self) -> dict[str, Any]:
        return {
            "variant": self.settings.variant.name,
            **({"run": self.folder.identity} if self.folder.identity else {}),
            "options": self.settings.to_dict(),
            "versions": versions(),
            "ganengine": __version__,
            "step": self.position.step,
            "images": self.position.images,
            "stage": self.position.stage,
            "horizon": self.horizon,
            "threads": self.hardware.threads,
            "ranks": ranks.world(),
            "precision": self.hardware.precision,
            "device": self.hardware.device.type,
            "data": self.dataset.spec.to_dict(),
            "fingerprint": self.dataset.fingerprint,
            "time": {"elapsed_s": round(self.clock.total(), 3)},
        }

    def load(self, saved: checkpoint.Checkpoint) -> None:
        """Go back to a checkpoint.

        Raises:
            CheckpointError: it belongs to another variant, or what it holds does not fit.
        """
        named = saved.meta.get("variant")
        if named != self.settings.variant.name:
            raise CheckpointError(f'{saved.path}: belongs to variant "{named}", not "{self.settings.variant.name}".')
        self.position = Position.of(saved, len(self.schedule.stages))
        self._saved_step = self.position.step
        self.players, self.updater = self._build(self.position.stage)
        checkpoint.load_tensors(self.players.tensors(), saved)
        try:
            self._load_state(saved.state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
            raise CheckpointError(
                f"{saved.path}: state.pt does not fit: {type(error).__name__}: {' '.join(str(error).split())}. It was "
                f"written by ganengine {saved.meta['ganengine']}, this is {__version__}."
            ) from error
        self.horizon = int(saved.meta["horizon"])
        self.clock = Clock(float(saved.meta["time"]["elapsed_s"]))

    def _load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, but for the position."""
        self.players.load_optimizer_state(state["optimizers"])
        self.players.steps.update(state["steps"])
        self.updater.scaler.load_state_dict(state["scaler"])
        self.state = {name: value.to(self.hardware.device) for name, value in state["state"].items()}
        self.means.load_state_dict(state["means"], self.hardware.device)
        self.critics.load_state_dict(state.get("augment", {}))

    def roll_back(self, where: str) -> None:
        """Go back to the last checkpoint and draw other numbers from there on.

        Raises:
            TrainingError: that has been tried too often already.
        """
        self._rollbacks += 1
        if self._rollbacks > ROLLBACKS:
            raise TrainingError(
                f"A gradient of {where} is not finite, {ROLLBACKS} times after going back to the same checkpoint. "
                "Use a smaller learning rate or --precision fp32."
            )
        salt, skipped = self.position.salt + 1, self.position.skipped
        saved, _ = checkpoint.newest(self.folder.checkpoints, self.folder.identity)
        clock = self.clock
        self.load(saved)
        self.clock = clock  # the time that was lost has passed all the same
        self.position.salt, self.position.skipped = salt, skipped
        if ranks.first():
            self.folder.cut_log(self.position.log_lines)
        self.display.note(f"A gradient of {where} is not finite: back to step {saved.step}, with other random numbers.")


@contextmanager
def _frozen() -> Iterator[None]:
    """Keep Python's search for garbage to what training makes: what is there before it are modules, 1-2 % of a step."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _RollbackError(Exception):
    """Ends a step whose run is to go back to its last checkpoint."""
