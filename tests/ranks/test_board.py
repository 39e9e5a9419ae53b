"""Messages through shared memory: what ranks get, and what becomes of ranks that do not come."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine import board
from ganengine.board import Board, share_board
from ganengine.errors import UserError
from ganengine.ops import library

from .launch import HERE, SECONDS, ended, start

pytestmark = pytest.mark.skipif(
    library.load().reason is not None or board.fcntl is None, reason="the kernels are not built, or no Unix"
)


UNLOCKED = -1
"""No file: nobody asks whether a thread has ended."""


def together(world: int, act: Callable[[Board], Any], *, place: int = board.PLACE, patience_s: float = SECONDS) -> list:
    """Return what threads that share a board make of it, in order of rank; an exception in its place."""
    memory = torch.zeros(world * place, dtype=torch.uint8)
    told: list[Any] = [None] * world

    def play(rank: int) -> None:
        try:
            told[rank] = act(Board(rank, world, patience_s, memory, UNLOCKED))
        except RuntimeError as error:
            told[rank] = error

    threads = [threading.Thread(target=play, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("world", [2, 3, 4])
def test_sums_are_those_in_the_order_of_ranks(world: int, dtype: torch.dtype) -> None:
    # Of one value, of parts of a page, of pages and a part: the places here are small. Forty messages, so that each
    # page is written again and again.
    sizes = [1, 7, 1000, 5000, 60_001, 0, 3] * 6
    generator = torch.Generator().manual_seed(world)
    values = [torch.randn(world, n, generator=generator, dtype=dtype) for n in sizes]

    def act(own: Board) -> list[Tensor]:
        mine = [value[own.rank].clone() for value in values]
        for x in mine:
            own.sum_(x)
        return mine

    expected = []
    for value in values:
        total = value[0].clone()
        for more in value[1:]:
            total += more
        expected.append(total)
    for of_rank in together(world, act, place=96 << 10):
        for got, total in zip(of_rank, expected, strict=True):
            assert torch.equal(got, total)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 9), max_size=3),
    dtype=st.sampled_from([torch.int64, torch.bfloat16, torch.float64, torch.bool]),
    world=st.integers(2, 4),
    place=st.sampled_from([256, 1024, 1 << 16]),
)
def test_gathering_gives_what_each_rank_holds(shape: list[int], dtype: torch.dtype, world: int, place: int) -> None:
    values = torch.randint(0, 2, (world, *shape)).to(dtype)
    for everywhere in together(world, lambda own: own.gather(values[own.rank]), place=place):
        assert everywhere.dtype == dtype
        assert torch.equal(everywhere, values)


def test_a_tensor_that_is_not_contiguous_is_gathered_in_its_order() -> None:
    values = torch.arange(24.0).reshape(2, 3, 4)
    for everywhere in together(2, lambda own: own.gather(values[own.rank].T)):
        assert torch.equal(everywhere, values.transpose(1, 2))


def test_ranks_that_bring_different_sizes_are_told() -> None:
    told = together(2, lambda own: own.sum_(torch.zeros(3 + own.rank)))
    assert "rank 1 brings 16 bytes where rank 0 brings 12" in str(told[0])
    assert "rank 0 brings 12 bytes where rank 1 brings 16" in str(told[1])


def test_a_rank_that_does_not_come_is_waited_for_so_long() -> None:
    told = together(3, lambda own: own.sum_(torch.zeros(3)) if own.rank else None, patience_s=0.1)
    assert told[0] is None
    assert "rank 0 did not answer" in str(told[1])
    assert "rank 0 did not answer" in str(told[2])


@pytest.mark.parametrize(
    ("x", "takes"),
    [
        (torch.zeros(3), True),
        (torch.zeros(3, dtype=torch.float64), True),
        (torch.zeros(3, dtype=torch.bfloat16), False),
        (torch.zeros(4, 3).T, False),
        (torch.zeros(3, device="meta"), False),
    ],
)
def test_what_is_summed_here(x: Tensor, takes: bool) -> None:
    assert Board(0, 2, 1.0, torch.zeros(0, dtype=torch.uint8), UNLOCKED).takes(x) == takes


def test_without_room_for_the_file_there_is_no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_made", lambda size: "")
    assert share_board(0, 2, 1.0, lambda text: text, lambda here: here) is None


def test_nobody_has_a_board_where_one_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "MEMORY", tmp_path)
    asked = iter((True, False))
    assert share_board(0, 2, 1.0, lambda text: text, lambda here: here and next(asked)) is None
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "MEMORY", tmp_path)
    now = time.time()
    for name, age_s in (("ganengine-board-old", 4000), ("ganengine-board-new", 60), ("ganengine-cache", 4000)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    share_board(0, 1, 1.0, lambda text: text, lambda here: here)
    assert {path.name for path in tmp_path.iterdir()} == {"ganengine-board-new", "ganengine-cache"}


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(board.SWITCH, "gloo")
    assert share_board(0, 2, 1.0, lambda text: text, lambda here: here) is None
    monkeypatch.setenv(board.SWITCH, "")
    assert board._wanted(), "set to nothing is not set"
    monkeypatch.setenv(board.SWITCH, "pigeons")
    with pytest.raises(UserError, match="GANENGINE_RANK_MESSAGES: expected auto or gloo, got 'pigeons'"):
        share_board(0, 2, 1.0, lambda text: text, lambda here: here)


# -- processes --------------------------------------------------------------------------------------------------------


def two(*words: str) -> list[str]:
    """Return what two processes print."""
    with ended(start(2, [HERE / "seated.py", *words])) as processes:
        return [process.communicate(timeout=SECONDS)[0].strip() for process in processes]


def test_processes_share_a_board_and_leave_no_file() -> None:
    before = set(board.MEMORY.glob("ganengine-*"))
    assert two() == ["shared memory [6.0, 6.0, 6.0, 6.0, 6.0]"] * 2
    assert set(board.MEMORY.glob("ganengine-*")) <= before


def test_the_end_of_a_process_is_seen_at_once() -> None:
    left, nothing = two("leave")
    assert "Another of the 2 ranks was lost" in left
    assert "it has ended (rank 0: board_sum: rank 1 has ended)" in left
    assert nothing == ""
