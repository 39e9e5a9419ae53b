"""One side of `bench train`, in a process of its own: the engine's step, or the plugin's plain loop.

    python -m ganengine.bench.training engine|baseline VARIANT [options of `ganengine run`]

It answers lines of JSON on standard input: {"steps": n} trains n steps and tells of them, 0 tells about itself; the end
of input ends it. Sides are processes because they differ in what holds for a whole one: what malloc does.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganengine.bench.machine import machine, matmul_gflop_s, waiting
from ganengine.cli import add_plugins
from ganengine.config import Settings, parse
from ganengine.data.loader import Loader
from ganengine.display import Display
from ganengine.errors import GanengineError, UserError
from ganengine.hardware import choose_device, cores, peak_memory
from ganengine.plugins import registry
from ganengine.precision import settle, some_asked
from ganengine.sampling import CHUNK, TOGETHER, Sampler
from ganengine.session import Session, data_options, open_dataset
from ganengine.variant import Due, Phase, View

BATCHES = 8
"""Batches that the plain loop is given in turn; the time it takes to make them is not counted."""
USED = 64
"""Pictures made or translated, to see how fast a run is in use: a multiple of what is done at once."""


class Side(Protocol):
    """What is timed."""

    def train(self, steps: int) -> dict[str, Any]:
        """Train so many steps; return at least `seconds` and `images`."""

    def about(self) -> dict[str, Any]:
        """Return what is told once, at the end."""


class Arithmetic(TorchDispatchMode):
    """Counts the multiplications and additions of convolutions and matrix products within it, those of gradients too.

    The formulas are torch's, and those by which our ops are declared. Torch's FlopCounterMode also tells in which
    module, by hooks that fail where a loss calls `autograd.grad`, as gradient penalties do.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # inference mode hands over whole layers: their parts count
                result = func.decompose(*args, **named)
            return func(*args, **named) if result is NotImplemented else result
        result = func(*args, **named)
        self.operations += formula(*args, **named, out_val=result)
        return result


class Engine:
    """The engine's own step, on the run's data."""

    def __init__(self, settings: Settings) -> None:
        self.session = Session.new(settings, Display(quiet=True))
        self.trainer = self.session.trainer
        self.device = self.session.hardware.device
        self.wait = waiting(self.device)
        self.phases = self._no_time()
        updater = self.trainer.updater
        updater.gradients = self._timed(updater.gradients, "gradients")  # type: ignore[method-assign]
        updater.step = self._timed(updater.step, "optimizer")  # type: ignore[method-assign]

    def _timed(self, fn: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(due: Due, *rest: Any) -> Any:
            self.wait()
            began = time.perf_counter()
            result = fn(due, *rest)
            self.wait()
            self.phases[due.phase.name][part] += time.perf_counter() - began
            return result

        return call

    def train(self, steps: int) -> dict[str, Any]:
        trainer, loader = self.trainer, self.session.loader
        self.phases = self._no_time()
        images, waited, began = trainer.position.images, loader.waited_s, time.perf_counter()
        for _ in range(steps):
            trainer.round()
            trainer.means.clear()
        self.wait()
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "images": trainer.position.images - images,
            "phases": {name: dict(parts) for name, parts in self.phases.items()},
            "waited": loader.waited_s - waited,
        }

    def about(self) -> dict[str, Any]:
        memory = peak_memory(self.device)  # of training alone
        hardware = self.session.hardware
        return {
            **memory,
            "machine": machine(self.device),
            "matmul_gflop_s": matmul_gflop_s(self.device, hardware.dtype),
            "gflop": self._gflop(),
            "use": self._use(),
            "choices": {
                "precision": hardware.precision,
                "channels_last": hardware.channels_last,
                **self.session.notes(),
            },
        }

    def _game(self) -> list[Phase]:
        """Return the phases of the stage that is trained, due at this step or not."""
        return list(self.trainer.schedule.phases(self.trainer.position.stage))

    def _no_time(self) -> dict[str, dict[str, float]]:
        """Return the seconds by phase and part before any is spent."""
        return {phase.name: {"gradients": 0.0, "optimizer": 0.0} for phase in self._game()}

    def _gflop(self) -> float:
        """Return 10^9 multiplications and additions of convolutions and matrix products in one step.

        Where phases are due at every n-th step alone it is the mean over as many steps as it takes to have all of them
        in proportion.
        """
        steps = math.lcm(*(phase.every for phase in self._game()))
        with Arithmetic() as counted:
            for _ in range(steps):
                self.trainer.round()
        return float(counted.operations) / steps / 1e9

    def _use(self) -> dict[str, Any] | None:
        """Return how fast the first view makes or translates pictures."""
        sampler, spec = self.trainer.sampler(), self.session.dataset.spec
        found = [view for view in sampler.views.values() if view.kind in ("sample", "translate")]
        if not found:
            return None
        view = found[0]
        # As `translate` and `sample` choose it.
        settle(sampler, view, spec, self.session.settings.engine.size or 0)
        make, batch = self._maker(sampler, view)
        make()
        times = []
        for _ in range(3):
            began = time.perf_counter()
            make()
            times.append(time.perf_counter() - began)
        return {
            "view": view.summary,
            "images_per_s": USED / min(times),
            "batch": batch,
            "precision": sampler.hardware.precision,
        }

    def _maker(self, sampler: Sampler, view: View) -> tuple[Callable[[], Any], int]:
        """Return what makes `USED` pictures, and how many it makes at once."""
        if view.kind == "translate":
            one = self.session.loader.fixed("train", 1)[view.source]
            names = [str(number) for number in range(TOGETHER)]
            images = one.expand(TOGETHER, *one.shape[1:]).contiguous()
            return lambda: [sampler.translate(view, images, names) for _ in range(USED // TOGETHER)], TOGETHER
        z, y = sampler.latents(view, USED), some_asked(view, self.session.dataset.spec, USED)
        return lambda: sampler.sample(view, z, y), CHUNK


class Baseline:
    """The same game as the plugin writes it down as a plain loop, in float32, with PyTorch as it comes."""

    def __init__(self, settings: Settings) -> None:
        variant, options = settings.variant, settings.engine
        if variant.baseline is None:
            raise UserError(f"{variant.name} has no baseline.")
        self.device = choose_device(options.device)
        torch.set_num_threads(options.threads or cores())
        torch.manual_seed(options.seed)
        dataset, options = open_dataset(variant, replace(options, precision="fp32"), registry())
        self.step = variant.builder("baseline")(settings.config, dataset.spec, self.device)
        with Loader(dataset, data_options(options), self.device) as loader:
            self.batches = [loader.draw(place * options.batch, options.batch) for place in range(BATCHES)]
        self.done = 0

    def train(self, steps: int) -> dict[str, Any]:
        wait = waiting(self.device)
        wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step(self.batches[self.done % BATCHES])
            self.done += 1
        wait()
        return {"seconds": time.perf_counter() - began, "images": steps * self.batches[0].size}

    def about(self) -> dict[str, Any]:
        return peak_memory(self.device)


def main(argv: Sequence[str]) -> int:
    """Serve one side until the input ends."""
    side, name, *words = add_plugins(argv)
    settings = parse(registry().variant(name), words, f"ganengine bench train {name}")
    answers = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            subject: Side = Engine(settings) if side == "engine" else Baseline(settings)
            for request in _requests():
                answer = subject.train(request["steps"]) if request["steps"] else subject.about()
                print(json.dumps(answer), file=answers, flush=True)
    except GanengineError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return error.status
    return 0


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
