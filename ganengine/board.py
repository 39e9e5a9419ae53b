"""What the ranks of one machine tell each other through memory that they share (csrc/board).

A message between processes on one machine need not pass through the system: a rank writes it where the others can read
it, and they watch for it. Between machines, between GPUs and where the kernels are not built, torch's process group
carries the messages.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ganengine.errors import UserError
from ganengine.ops import library

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]

SWITCH = "GANENGINE_RANK_MESSAGES"
"""Environment variable: `auto`, or `gloo` for messages of torch's process group alone."""
PLACE = 1 << 19
"""Bytes of memory for each rank. A longer message goes in parts; half of this stays in a core's cache."""
MEMORY = Path("/dev/shm")
"""Files here are memory (Linux); elsewhere a temporary file is mapped, of which the system may write to the disk."""
PREFIX = "ganengine-board-"
LEFT_S = 3600.0
"""Seconds after which a file was surely left by a process that was killed: others are unlinked within seconds."""


@dataclass(frozen=True)
class Board:
    """Memory that `world` processes of one machine share, as rank `rank` of them sees it."""

    rank: int
    world: int
    patience_s: float
    _memory: Tensor
    """uint8."""
    _file: int
    """Descriptor. Each rank holds a lock on its own byte, so the others see at once that it has ended."""

    def takes(self, x: Tensor) -> bool:
        """Whether `sum_` can add up such a tensor."""
        return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.is_contiguous()

    def sum_(self, x: Tensor) -> None:
        """Add up what all ranks hold, in x; in the order of ranks, so all get the same bits.

        Raises:
            RuntimeError: a rank has ended, did not answer in time, or brings a tensor of another size.
        """
        torch.ops.ganengine.board_sum(x, self._memory, self.rank, self.world, self._file, self.patience_s)

    def gather(self, x: Tensor) -> Tensor:
        """Return what each rank holds, [ranks, *x.shape]; x on the CPU, of any dtype.

        Raises:
            RuntimeError: as `sum_`.
        """
        x = x.contiguous()
        everywhere = x.new_empty((self.world, *x.shape))
        torch.ops.ganengine.board_gather(
            x, everywhere, self._memory, self.rank, self.world, self._file, self.patience_s
        )
        return everywhere

    def close(self) -> None:
        """Leave: whoever waits for this rank is told that it has ended."""
        os.close(self._file)


def share_board(
    rank: int, world: int, patience_s: float, from_first: Callable[[str], str], all_agree: Callable[[bool], bool]
) -> Board | None:
    """Make a board for `world` processes of one machine; None, on all of them alike, where one of them cannot.

    Args:
        rank: this process.
        world: how many there are; all of them call this.
        patience_s: seconds that a message waits for the others.
        from_first: gives the first rank's text to all.
        all_agree: whether it is true on all.

    Raises:
        UserError: the switch says what it cannot say.
    """
    if not all_agree(_wanted()):
        return None
    name = from_first(_made(world * PLACE) if rank == 0 else "")
    try:
        board = _opened(name, rank, world, patience_s)
        if all_agree(board is not None):
            return board
        if board is not None:
            board.close()
        return None
    finally:
        if rank == 0 and name:
            os.unlink(name)


def _wanted() -> bool:
    stated = os.environ.get(SWITCH) or "auto"
    if stated not in ("auto", "gloo"):
        raise UserError(f"{SWITCH}: expected auto or gloo, got {stated!r}.")
    built = library.load().reason is None and hasattr(torch.ops.ganengine, "board_sum")
    return stated == "auto" and fcntl is not None and built


def _made(size: int) -> str:
    """Return the name of a new file of so many zeros; nothing where there is no room for it."""
    try:
        folder = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        _sweep(folder)
        file, name = tempfile.mkstemp(prefix=PREFIX, dir=folder)
    except OSError:
        return ""
    with os.fdopen(file, "r+b") as opened:
        try:
            # Not a hole: a later write into one would end the process if it found no room.
            (os.posix_fallocate if hasattr(os, "posix_fallocate") else _lengthen)(opened.fileno(), 0, size)
            return name
        except OSError:
            os.unlink(name)
            return ""


def _sweep(folder: Path) -> None:
    """Remove the files of processes that were killed between making one and unlinking it, which all ranks wait for."""
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or another process was faster
            if time.time() - path.stat().st_mtime > LEFT_S:
                path.unlink()


def _lengthen(file: int, begin: int, size: int) -> None:
    os.ftruncate(file, begin + size)


def _opened(name: str, rank: int, world: int, patience_s: float) -> Board | None:
    file = -1
    try:
        file = os.open(name, os.O_RDWR)
        memory = torch.frombuffer(mmap.mmap(file, world * PLACE), dtype=torch.uint8)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        return Board(rank, world, patience_s, memory, file)
    except (OSError, ValueError):
        if file >= 0:
            os.close(file)
        return None
