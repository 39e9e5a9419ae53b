"""Start ranks as processes of their own, as torchrun does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GAME = HERE / "many_ranks"
SECONDS = 300
"""No process of a test takes so long, on a busy machine either."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(rank: int, world: int, port: int, **more: str) -> dict[str, str]:
    """Return what torchrun would set."""
    stated = {
        "RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
    }  # fmt: skip
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in stated.items()}, **more}


def start(world: int, argv: Sequence[object], **more: str) -> list[subprocess.Popen[str]]:
    """Start the ranks of one command: Python with these arguments."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, argv)],
            env=environment(rank, world, port, **more),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip


@contextmanager
def ended(processes: list[subprocess.Popen[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Leave no process behind, however the block ends."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def together(world: int, commands: Sequence[Sequence[object]], **more: str) -> list[list[dict[str, Any]]]:
    """Run command lines one after another in one group of ranks; return what each gave, by rank."""
    text = json.dumps([[*map(str, argv), "--plugin", str(GAME)] for argv in commands])
    with ended(start(world, [HERE / "together.py"], **more)) as processes:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(text)
            process.stdin.close()
            process.stdin = None
        told = [process.communicate(timeout=SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0] * world, "\n".join(err for _, err in told)
    return [json.loads(out.splitlines()[-1]) for out, _ in told]
