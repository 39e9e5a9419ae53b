"""Kill one run again and again (SIGKILL, at random moments), resume it each time, and compare it with an unbroken one.

    python benches/kill_fifty.py [--kills 50] [--seed 0]

The run is the tiny GAN of the tests, with a checkpoint every third step, a log line and a preview every step, so that a
kill meets every kind of writing. Each life is a process of its own. Of the kills one in ten comes while the process
starts, half of the rest at any moment of training, and half as soon as a checkpoint is seen being written. In the end
networks, optimizers and log must equal, byte for byte, those of a run to the same step that nobody touched; the exit
status tells whether they do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganengine.checkpoint import listed

PLUGIN = Path(__file__).parents[1] / "tests" / "trainer" / "tiny_gan"
OPTIONS = [
    *("--tick-every", "1", "--checkpoint-every", "3", "--horizon", "20000", "--preview", "2"),
    *("--threads", "1", "--device", "cpu", "--precision", "fp32", "--plugin", str(PLUGIN)),
]
PATIENCE_S = 600.0
"""A life that does not get to its moment within so long is a fault."""


@dataclass(frozen=True)
class Death:
    """What a kill left behind."""

    aim: str
    step: int
    """Of the last whole line of the log."""
    saved: int
    """Of the newest checkpoint."""
    left: str
    """What was being written."""


def start(place: Path, *argv: str) -> subprocess.Popen[bytes]:
    """Begin a life; what it says is kept beside the runs."""
    with (place / "said.txt").open("ab") as said:
        words = [sys.executable, "-m", "ganengine", *argv]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, cwd=place, env=environment, stdout=said, stderr=subprocess.STDOUT)


def logged(run: Path) -> tuple[int, bool]:
    """Return the step of the last whole line of the log, and whether a torn one follows."""
    try:
        with (run / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().split(b"\n")
    except OSError:
        return 0, False
    return int(json.loads(lines[-2])["step"]) if len(lines) > 1 and lines[-2] else 0, bool(lines[-1])


def unfinished(run: Path) -> list[str]:
    """Return the names of what is being written."""
    names = []
    for folder in (run / "checkpoints", run / "samples"):
        with contextlib.suppress(OSError):
            names += [name for name in os.listdir(folder) if name.startswith(".")]
    return names


def wait(process: subprocess.Popen[bytes], until: Callable[[], bool], every: float) -> None:
    """Wait for a moment in a life."""
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"A life ended on its own, or hangs (status {process.poll()}); see what it said.")
        time.sleep(every)


def kill(process: subprocess.Popen[bytes], run: Path, aim: str, moments: random.Random) -> Death:
    """Wait for a random moment of the kind `aim`, kill, and look at what is left."""
    before = set(unfinished(run))  # what the kill before left is there until the first checkpoint of this life

    def halves(kind: str = ".") -> set[str]:
        return {name for name in unfinished(run) if name.startswith(kind)} - before

    if aim == "start":
        time.sleep(moments.uniform(0, 3))
    else:
        steps, fewest = moments.randint(1, 25), logged(run)[0]

        def far_enough() -> bool:
            nonlocal fewest
            # A run that goes on cuts the log first, so steps are counted from the fewest seen.
            fewest = min(fewest, now := logged(run)[0])
            return now >= fewest + steps

        wait(process, far_enough, 0.002)
        if aim == "write":
            wait(process, lambda: bool(halves(".step-")), 0)
        time.sleep(moments.uniform(0, 0.004 if aim == "write" else 0.02))
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"A life ended on its own (status {process.returncode}); see what it said.")
    step, torn = logged(run)
    left = "a checkpoint" if halves(".step-") else "a preview" if halves() else "a log line" if torn else ""
    return Death(aim, step, saved_step(run), left)


def saved_step(run: Path) -> int:
    """Return the step of the newest checkpoint."""
    return int(listed(run / "checkpoints")[0].name.partition("-")[2])


def remains(run: Path) -> dict[str, Any]:
    """Return what must not differ: networks and state as bytes, and the log without what depends on the clock."""
    newest = listed(run / "checkpoints")[0]
    found: dict[str, Any] = {name: (newest / name).read_bytes() for name in ("networks.safetensors", "state.pt")}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found["log.jsonl"] = [{key: value for key, value in line.items() if key != "time"} for line in lines]
    found["samples"] = {path.name: path.read_bytes() for path in (run / "samples").iterdir()}
    found["unfinished"] = unfinished(run)
    return found


def play(place: Path, kills: int, seed: int) -> tuple[list[Death], list[str]]:
    """Kill a run so many times, finish it, and return the kills and in what it differs from an unbroken run."""
    moments, run, deaths = random.Random(seed), place / "broken", []
    life = start(place, "run", "tiny-gan", "--out", "broken", "--max-steps", "1000000", *OPTIONS)
    for number in range(kills):
        aim = "start" if number % 10 == 9 else "write" if number % 2 else "any"
        deaths.append(kill(life, run, aim, moments))
        last = ["--max-steps", str(saved_step(run) + 20)] if number + 1 == kills else []
        life = start(place, "resume", "broken", "--plugin", str(PLUGIN), *last)
    goal = str(saved_step(run) + 20)
    unbroken = start(place, "run", "tiny-gan", "--out", "unbroken", "--max-steps", goal, *OPTIONS)
    if life.wait() or unbroken.wait():
        raise SystemExit("The last life, or the unbroken run, failed; see what it said.")
    one, other = remains(run), remains(place / "unbroken")
    return deaths, [name for name in one if one[name] != other[name]]


def main() -> int:
    """Print a line for each kill, and what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 50), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        try:
            deaths, differ = play(Path(place), args.kills, args.seed)
        except SystemExit:
            print((Path(place) / "said.txt").read_text(encoding="utf-8")[-2000:])
            raise
    print("kill  aimed at  step reached  newest checkpoint  lost steps  half-written")
    for number, death in enumerate(deaths, 1):
        lost = death.step - death.saved
        print(f"{number:4}  {death.aim:<8}  {death.step:12}  {death.saved:17}  {lost:10}  {death.left or '-'}")
    found = ", ".join(f"{count} in {what}" for what, count in Counter(d.left for d in deaths if d.left).items())
    print(f"{len(deaths)} kills in {time.monotonic() - began:.0f} s; cut off in the middle: {found or 'nothing'}.")
    print(
        f"Differs from the unbroken run: {', '.join(differ)}."
        if differ
        else "Equal to the unbroken run, byte for byte."
    )
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
