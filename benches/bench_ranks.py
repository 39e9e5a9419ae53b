"""What several ranks gain: one rank on one core against two ranks on one core each, the same game and the same batch.

    python benches/bench_ranks.py [--rounds 15] [--seconds 3] [--profile] [VARIANT [OPTIONS of `ganengine run`]]

VARIANT is cbn-gan with `--size 32 --batch 64` unless stated. Beside the two there are two controls, which send nothing:
one rank with half of the batch (what a rank's share takes at best: the rest does not shrink with it), and two such
processes at once, one on each core (what the cores take from each other). Each side is pinned and serves blocks of
steps in turn, so that a busy machine slows all alike; steps end as those of a run do, with the question whether to
stop. The processes' own time, which waiting is no part of, is told beside the time that passed. `--profile` adds what
the ranks tell each other in a step and which operations their time goes to. Needs Linux and two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from ganengine import ranks
from ganengine.cli import add_plugins
from ganengine.config import Budget, parse
from ganengine.display import Display
from ganengine.plugins import registry
from ganengine.session import Session

SERVE = "serve"
CBN_GAN = ["cbn-gan", "--size", "32", "--batch", "64"]
WARM_UP = 10
"""Steps before the first that is timed."""
PROFILED = 20
"""Steps of a profile."""
SHOWN = 24
"""Operations of a profile that are shown, those with the most time of their own."""
SENDERS = {"_add_up": "sum", "_everywhere": "gather"}
"""What `ganengine.ranks` sends by, whatever carries the messages."""


# -- a side's processes -----------------------------------------------------------------------------------------------


def serve(argv: Sequence[str]) -> None:
    """Answer lines of JSON: {"steps": n} trains n steps, {"profile": n} tells of n; the end of input ends it."""
    name, *words = add_plugins(argv)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), ranks.group():
        settings = parse(registry().variant(name), [*words, "--threads", "1", "--preview", "0"], "bench_ranks")
        trainer = Session.new(settings, Display(quiet=True)).trainer
        gc.freeze()  # as a run does

        def train(steps: int) -> None:
            for _ in range(steps):
                assert not trainer.why_stop(Budget(max_steps=1 << 40))
                trainer.round()

        for line in sys.stdin:
            request = json.loads(line)
            if "profile" in request:
                answer = profile(train, request["profile"])
            else:
                began, used = time.perf_counter(), time.process_time()
                train(request["steps"])
                answer = {"passed": time.perf_counter() - began, "own": time.process_time() - used}
            print(json.dumps(answer), file=answers, flush=True)


def profile(train: Callable[[int], None], steps: int) -> dict[str, Any]:
    """Return messages and operations of a step."""
    with messages() as sent:
        train(steps)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        train(steps)
    found = sorted(seen.key_averages(), key=lambda entry: -entry.self_cpu_time_total)
    return {
        "messages": [
            {"kind": kind, "bytes": size, "times": len(took) / steps, "ms": 1e3 * sum(took) / steps,
             "median_ms": 1e3 * statistics.median(took)}
            for (kind, size), took in sorted(sent.items())
        ],
        "operations": [
            {"name": entry.key, "times": entry.count / steps, "ms": entry.self_cpu_time_total / 1e3 / steps}
            for entry in found[:SHOWN]
        ],
    }  # fmt: skip


@contextlib.contextmanager
def messages() -> Iterator[dict[tuple[str, int], list[float]]]:
    """Note how long each message holds its sender up while the block runs, by kind and bytes."""
    sent: dict[tuple[str, int], list[float]] = defaultdict(list)

    def timed(kind: str, send: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        def call(tensor: torch.Tensor) -> Any:
            began = time.perf_counter()
            result = send(tensor)
            sent[kind, tensor.nbytes].append(time.perf_counter() - began)
            return result

        return call

    plain = {name: getattr(ranks, name) for name in SENDERS}
    for name, send in plain.items():
        setattr(ranks, name, timed(SENDERS[name], send))
    try:
        yield sent
    finally:
        for name, send in plain.items():
            setattr(ranks, name, send)


# -- who asks them ----------------------------------------------------------------------------------------------------


class Side:
    """Processes that do one thing together, each pinned to a core of its own."""

    def __init__(self, words: Sequence[str], count: int, *, together: bool) -> None:
        cores, port = sorted(os.sched_getaffinity(0)), free_port()
        self.processes = []
        for number in range(count):
            stated = {"OMP_NUM_THREADS": "1"}
            if together:
                stated |= {"RANK": str(number), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
                stated |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(count), "MASTER_PORT": str(port)}
            command = ["taskset", "-c", str(cores[number]), sys.executable, __file__, SERVE, *words]
            self.processes.append(
                subprocess.Popen(
                    command, env=os.environ | stated, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            process.wait()

    def ask(self, **request: int) -> list[dict[str, Any]]:
        """Ask all; return what each answers."""
        for process in self.processes:
            assert process.stdin is not None
            print(json.dumps(request), file=process.stdin, flush=True)
        lines = []
        for process in self.processes:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
        if not all(lines):
            raise SystemExit("a process of the bench has ended; what it told stands above.")
        return [json.loads(line) for line in lines]

    def steps(self, count: int) -> dict[str, float]:
        """Return the seconds of a block of steps: those of the slowest process."""
        told = self.ask(steps=count)
        return {kind: max(one[kind] for one in told) for kind in ("passed", "own")}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a block of one rank lasts about")
    parser.add_argument("--profile", action="store_true")
    args, words = parser.parse_known_args()
    words = words or CBN_GAN
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("expected two cores or more.")
    batch = parse(registry().variant(words[0]), words[1:], "bench_ranks").engine.batch
    half = [*words, "--batch", str(batch // 2)]
    with ExitStack() as stack:
        sides = {
            "one": stack.enter_context(Side(words, 1, together=False)),
            "two ranks": stack.enter_context(Side(words, 2, together=True)),
            "half a batch": stack.enter_context(Side(half, 1, together=False)),
            "two of these": stack.enter_context(Side(half, 2, together=False)),
        }
        for side in sides.values():
            side.steps(WARM_UP)
        count = max(1, round(args.seconds * WARM_UP / sides["one"].steps(WARM_UP)["passed"]))
        blocks: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for done in range(args.rounds):
            # Each side is first in every other round: a machine that slows down favours neither.
            for name in list(sides) if done % 2 else reversed(list(sides)):
                blocks[name].append(sides[name].steps(count))
        print(f"{' '.join(words)}; {args.rounds} blocks of {count} steps each")
        for name, found in blocks.items():
            tell(name, count, found, blocks["one"])
        if args.profile:
            for name in ("two ranks", "half a batch", "one"):
                show(name, sides[name].ask(profile=PROFILED))


def tell(name: str, count: int, blocks: Sequence[dict[str, float]], ones: Sequence[dict[str, float]]) -> None:
    """Print a side's times and what it gains over one rank, with quartiles."""
    text = f"{name:<14}"
    for kind, what in (("passed", "ms"), ("own", "ms of its own")):
        ratios = [one[kind] / block[kind] for one, block in zip(ones, blocks, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * ratios
        took = 1e3 * statistics.median(block[kind] for block in blocks) / count
        text += f"{took:9.2f} {what}, x {middle:.3f} ({low:.3f} .. {high:.3f})  "
    print(text)


def show(name: str, told: Sequence[dict[str, Any]]) -> None:
    """Print what a profile says of a step."""
    for number, of_rank in enumerate(told):
        sent = of_rank["messages"]
        times, held = sum(one["times"] for one in sent), sum(one["ms"] for one in sent)
        size = sum(one["times"] * one["bytes"] for one in sent)
        print(f"\n{name}, rank {number}: {times:.1f} messages a step, {size / 1e3:.1f} kB, held up {held:.2f} ms")
        for one in sent:
            print(
                f"  {one['kind']:<6} {one['bytes']:>9} bytes  {one['times']:5.1f} times  {one['ms']:7.2f} ms a step"
                f"  {one['median_ms']:7.3f} ms each"
            )
    for one in told[0]["operations"]:
        print(f"  {one['name'][:60]:<60} {one['times']:7.1f} times {one['ms']:8.2f} ms a step")


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        serve(sys.argv[2:])
    else:
        main()
