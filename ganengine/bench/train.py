"""The whole step of a variant, measured: images per second, time by phase, beside the plugin's plain loop."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from ganengine.bench.timing import Spread
from ganengine.errors import UserError
from ganengine.plugins import registry

Progress: TypeAlias = Callable[[Iterable[int], int], Iterable[int]]

WARM_UP = 3
"""Steps of each side before the first that is timed."""


class Worker:
    """One side in a process of its own; `ask` waits for its answer."""

    def __init__(self, side: str, words: Sequence[str]) -> None:
        plugins = [word for path in registry().added for word in ("--plugin", str(path))]
        command = [sys.executable, "-m", "ganengine.bench.training", side, *words, *plugins]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.process.communicate(timeout=60)

    def ask(self, steps: int) -> dict[str, Any]:
        """Have it train so many steps; 0: have it tell about itself.

        Raises:
            UserError: it cannot.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"steps": steps}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"a side of the bench ended with status {self.process.wait()}; what it told stands above.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer


def measure(words: Sequence[str], *, against: bool, rounds: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """Time blocks of steps, the sides in turn.

    Args:
        words: the variant and options of a run.
        against: whether to measure the plugin's baseline too.
        rounds: blocks of each side.
        seconds: that a block lasts about.
        progress: fn(rounds, how many) that shows them as they are done.

    Returns:
        the record of `ganengine bench train --json`.

    Raises:
        UserError: an option, data or device that does not fit.
    """
    with ExitStack() as stack:
        sides = {"engine": stack.enter_context(Worker("engine", words))}
        if against:
            sides["baseline"] = stack.enter_context(Worker("baseline", words))
        counts: dict[str, int] = {}
        for name, worker in sides.items():
            worker.ask(WARM_UP)
            counts[name] = max(1, round(seconds / worker.ask(1)["seconds"]))
        blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for done in progress(range(rounds), rounds):
            # Each side is first in every other round: a machine that slows down favours neither.
            for name in list(sides) if done % 2 else reversed(list(sides)):
                blocks[name].append(sides[name].ask(counts[name]))
        about = {name: worker.ask(0) for name, worker in sides.items()}
    return {"schema": 1, "variant": words[0], "options": list(words[1:]), **_record(blocks, counts, about)}


def _record(
    blocks: Mapping[str, list[dict[str, Any]]], counts: Mapping[str, int], about: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what the blocks say together.

    A phase's milliseconds are its share of the time of all blocks, in a step of median length. So one that is due at
    every n-th step alone counts with what it costs per step, though not every block has it.
    """
    engine, own = blocks["engine"], about["engine"]
    steps = {name: [counts[name] / block["seconds"] for block in side] for name, side in blocks.items()}
    # WGAN's critic, for one, has more batches in early steps than later.
    pictures = [block["images"] / counts["engine"] for block in engine]
    images = {name: [r * p for r, p in zip(rates, pictures, strict=True)] for name, rates in steps.items()}
    step_ms = 1e3 / statistics.median(steps["engine"])
    whole = sum(block["seconds"] for block in engine)
    phases = {
        name: {
            part: step_ms * sum(block["phases"][name][part] for block in engine) / whole
            for part in ("gradients", "optimizer")
        }
        for name in engine[0]["phases"]
    }
    limit = own["matmul_gflop_s"]
    record: dict[str, Any] = {
        "machine": {**own["machine"], "matmul_gflop_s": limit},
        "choices": own["choices"],
        "engine": {
            "images_per_s": Spread.of(images["engine"]).as_dict(),
            "images_per_step": statistics.mean(pictures),
            "step_ms": step_ms,
            "phases_ms": phases,
            "rest_ms": step_ms - sum(sum(parts.values()) for parts in phases.values()),
            "data_wait": sum(block["waited"] for block in engine) / whole,
            "gflop_per_step": own["gflop"],
            "share_of_limit": own["gflop"] / (step_ms / 1e3) / limit,
            "peak_memory_mb": own.get("gpu_memory_mb", own.get("memory_mb")),
            "use": own["use"],
        },
        "baseline": None,
        "ratio": None,
    }
    if "baseline" in blocks:
        record["baseline"] = {
            "images_per_s": Spread.of(images["baseline"]).as_dict(),
            "step_ms": 1e3 / statistics.median(steps["baseline"]),
            "peak_memory_mb": about["baseline"].get("gpu_memory_mb", about["baseline"].get("memory_mb")),
        }
        ratios = [ours / theirs for ours, theirs in zip(steps["engine"], steps["baseline"], strict=True)]
        record["ratio"] = Spread.of(ratios).as_dict()
    return record


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print the record as tables that a person reads."""
    machine, engine, baseline = record["machine"], record["engine"], record["baseline"]
    choices = record["choices"]
    console.print(
        f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}, on {machine['device']}; matrix "
        f"products {machine['matmul_gflop_s']:.0f} GFLOP/s in {choices['precision']}, copies "
        f"{machine['copy_gb_s']:.1f} GB/s",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    table = Table(title=" ".join((record["variant"], *record["options"])))
    for heading in ("", "images/s", "quartiles", "ms/step", "peak MB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, side in (("engine", engine), ("plain loop", baseline)):
        if side:
            rate, memory = side["images_per_s"], side["peak_memory_mb"]
            table.add_row(
                name, f"{rate['median']:.2f}", f"{rate['p25']:.2f} .. {rate['p75']:.2f}", f"{side['step_ms']:.1f}",
                "" if memory is None else f"{memory:.0f}",
            )  # fmt: skip
    console.print(table)
    if record["ratio"]:
        ratio = record["ratio"]
        console.print(
            f"{ratio['median']:.2f} times the plain loop ({ratio['p25']:.2f} .. {ratio['p75']:.2f})", highlight=False
        )
    parts = Table("phase", "loss and gradients, ms", "optimizer, ms", title="where a step's time goes")
    for name, times in engine["phases_ms"].items():
        parts.add_row(name, f"{times['gradients']:.1f}", f"{times['optimizer']:.1f}")
    parts.add_row("all else", f"{engine['rest_ms']:.1f}", "")
    console.print(parts)
    told = f"waits for data {engine['data_wait']:.2%} of the time; {engine['gflop_per_step']:.3g} GFLOP in a step, "
    told += f"{engine['share_of_limit']:.0%} of what matrix products reach"
    if engine["use"]:
        use = engine["use"]
        told += (
            f"; in use ({use['view']}) {use['images_per_s']:.1f} images/s, {use['batch']} at once in {use['precision']}"
        )
    console.print(told, highlight=False, soft_wrap=True)


def plan(words: Sequence[str], against: str) -> bool:
    """Return whether there is a baseline to measure; check the options before any process is started.

    Raises:
        UserError: one is asked for and there is none.
    """
    variant = registry().variant(words[0])
    if against == "baseline" and variant.baseline is None:
        raise UserError(
            f"--against baseline: {variant.name} has no plain loop to compare with. Leave the option out, or add a "
            "`baseline` builder to its record."
        )
    return variant.baseline is not None and against != "nothing"
