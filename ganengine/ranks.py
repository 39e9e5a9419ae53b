"""Several processes that train one run: who they are, and the little that they tell each other.

`torchrun` starts them; each has its share of every batch, and all hold the same networks. Without it there is one
process: no group is made, nothing is sent, and every function here gives back what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from ganengine.board import Board, share_board
from ganengine.errors import GanengineError, TrainingError, UserError

T = TypeVar("T")

TIMEOUT = "GANENGINE_RANK_TIMEOUT"
"""Environment variable: seconds that a rank waits for the others."""
PATIENCE_S = 600.0
"""Where it is not set. Long enough for the first rank's checkpoints and previews, for which the others wait."""

_rank, _world = 0, 1
_store: Any = None
_board: Board | None = None
"""Carries messages where all ranks are on this machine and their tensors on the CPU."""
_speaks: bool | None = None


def rank() -> int:
    """Return the number of this process among those that train the run."""
    return _rank


def world() -> int:
    """Return how many processes train the run."""
    return _world


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    return _rank == 0


def on_this_machine() -> tuple[int, int]:
    """Return the number of this process among those on its machine, and how many those are."""
    if _world == 1:
        return 0, 1
    return _stated("LOCAL_RANK", 0), _stated("LOCAL_WORLD_SIZE", 1)


def messages() -> str:
    """Return what carries this process's messages to the others; nothing where there are no others."""
    if _world == 1:
        return ""
    return "shared memory" if _board is not None else str(dist.get_backend())


@contextmanager
def group() -> Iterator[None]:
    """Join the other processes while the block runs: gloo between CPUs, NCCL between GPUs.

    Where the block fails, the first process to do so tells of it; the others, which only notice that it is gone, end
    with a status alone.

    Raises:
        UserError: the processes cannot find each other.
        TrainingError: the others have not come to the end of the block.
    """
    global _rank, _world, _store, _board, _speaks
    if _stated("WORLD_SIZE", 1) == 1 or _world > 1:
        yield
        return
    timeout = timedelta(seconds=_patience())
    try:
        _store, own, count = next(rendezvous("env://", timeout=timeout))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=_store, rank=own, world_size=count, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"expected {_stated('WORLD_SIZE', 1)} processes that find each other by MASTER_ADDR, MASTER_PORT, RANK and "
            f"WORLD_SIZE, as torchrun sets them; got: {_line(error)}."
        ) from error
    _rank, _world, _speaks = own, count, None
    try:
        _board = _meet()
        yield
        agreed(0)  # nobody leaves before the first rank has written all
    except GanengineError as error:
        if not speaks():
            raise SystemExit(error.status) from None
        raise
    except BaseException:
        speaks()
        raise
    # After a failure the group is left to the end of the process: closing it may wait for those that are gone.
    if _board is not None:
        _board.close()
    _rank, _world, _store, _board = 0, 1, None, None
    dist.destroy_process_group()


def _meet() -> Board | None:
    """Return the ranks' board, where all of them are on this machine and can share memory."""
    if on_this_machine()[1] != _world:
        return None
    return share_board(_rank, _world, _patience(), from_first, lambda here: not agreed(not here)[0])


def speaks() -> bool:
    """Whether it is for this process to tell of a failure: the first that asks."""
    global _speaks
    if _world == 1:
        return True
    if _speaks is None:
        try:
            _speaks = int(_store.add("ganengine/told", 1)) == 1
        except RuntimeError:  # the store is gone with the process that kept it
            _speaks = True
    return _speaks


# -- what they agree on -----------------------------------------------------------------------------------------------


def agreed(*numbers: int) -> tuple[int, ...]:
    """Return the largest of each number over all ranks: whoever asks to stop stops all, at the same step."""
    if _world == 1:
        return numbers
    return tuple(_everywhere(torch.tensor(numbers, dtype=torch.int64)).amax(0).tolist())


def from_first(value: T) -> T:
    """Return the first rank's value: a text, a number, a tuple of them."""
    if _world == 1:
        return value
    told = [value]
    with _listening():
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]


@torch.no_grad()
def equalise(tensors: Iterable[Tensor]) -> None:
    """Copy the first rank's values into tensors of one device, in place; each keeps its own strides."""
    found = [tensor for tensor in tensors if tensor.numel()]
    if _world == 1 or not found:
        return
    # As bytes: not every backend sends every dtype.
    parts = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in found]
    joined = torch.cat(parts)
    with _listening():
        dist.broadcast(joined, src=0)
    for tensor, part in zip(found, torch.split(joined, [len(part) for part in parts]), strict=True):
        tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))  # a clone begins at an even address


def odd_one(values: Mapping[str, Tensor]) -> str | None:
    """Return the name of a 0-d value that is not the same on all ranks (but for 1e-4 of it), or None."""
    if _world == 1 or not values:
        return None
    with torch.no_grad():
        everywhere = gathered(torch.stack([value.detach().double() for value in values.values()]))
        same = torch.isclose(everywhere, everywhere[:1], rtol=1e-4, atol=0.0, equal_nan=True).all(0)
    # sync: only for games with terms that belong to the whole batch
    return next((name for name, alike in zip(values, same.tolist(), strict=True) if not alike), None)


# -- averages ---------------------------------------------------------------------------------------------------------


def averaged(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means over all ranks of 0-d values, by name; every rank brings the same names."""
    if _world == 1 or not values:
        return dict(values)
    means = torch.stack([value.detach().double() for value in values.values()])
    _add_up(means)
    means /= _world
    return {name: mean.to(value.dtype) for (name, value), mean in zip(values.items(), means, strict=True)}


@torch.no_grad()
def summed(x: Tensor) -> Tensor:
    """Return x with what all ranks hold added up, in its own memory. Not differentiable."""
    if _world > 1:
        _add_up(x)
    return x


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Put the means over all ranks into the parameters' `.grad`, in each parameter's own strides.

    A gradient that only some ranks have counts as zeros on the others; one that no rank has stays None. What is not
    finite on one rank is not finite on any afterwards.
    """
    if _world == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    for members in kinds.values():
        _average_alike(members)


def _average_alike(parameters: Sequence[nn.Parameter]) -> None:
    there = [float(parameter.grad is not None) for parameter in parameters]
    count = sum(parameter.numel() for parameter in parameters)
    flat = parameters[0].new_empty(count + len(there))
    flat[count:] = flat.new_tensor(there)
    views, start = [], 0
    for parameter in parameters:
        # In the parameter's own order of memory, so that what comes back needs no further copy.
        view = flat.as_strided(parameter.shape, parameter.stride(), start)
        view.zero_() if parameter.grad is None else view.copy_(parameter.grad)
        views.append(view)
        start += parameter.numel()
    _add_up(flat)
    flat /= _world
    # sync: only where a gradient is missing here, to know whether it is missing everywhere
    held = there if all(there) else flat[count:].tolist()
    for parameter, view, anywhere in zip(parameters, views, held, strict=True):
        # A fused optimizer ignores strides: in another layout it would read the wrong elements.
        assert view.stride() == parameter.stride()
        parameter.grad = view if anywhere else None


# -- differentiable, to any order -------------------------------------------------------------------------------------


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _everywhere(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _SumOwn.apply(grad)  # type: ignore[no-untyped-call]


class _SumOwn(torch.autograd.Function):
    """The adjoint of `_Gather`: what all ranks hold for this one, added up."""

    @staticmethod
    def forward(ctx: Any, everywhere: Tensor) -> Tensor:
        total = everywhere.clone(memory_format=torch.contiguous_format)
        _add_up(total)
        return total[_rank].clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _Gather.apply(grad)  # type: ignore[no-untyped-call]


def gathered(x: Tensor) -> Tensor:
    """Return what each rank holds, [ranks, *x.shape]; x has the same shape on all.

    Gradients: any order; a gradient adds up what every rank's loss owes to this rank's x.
    """
    if _world == 1:
        return x.unsqueeze(0)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _everywhere(x)
    return cast(Tensor, _Gather.apply(x))  # type: ignore[no-untyped-call]


def whole(rows: Tensor) -> Tensor:
    """Return the rows of the whole batch, [N of all ranks, ...], of this rank's [N, ...]. Gradients: any order."""
    return rows if _world == 1 else gathered(rows).flatten(0, 1)


def share(rows: Tensor) -> Tensor:
    """Return this rank's share of rows of the whole batch."""
    return rows if _world == 1 else rows.chunk(_world)[_rank]


# ---------------------------------------------------------------------------------------------------------------------


def _add_up(x: Tensor) -> None:
    """Put the sum of what all ranks hold into x, in place."""
    with _listening():
        if _board is not None and _board.takes(x):
            _board.sum_(x)
        else:
            dist.all_reduce(x)


def _everywhere(x: Tensor) -> Tensor:
    """Return what each rank holds, [ranks, *x.shape]."""
    with _listening():
        if _board is not None and x.device.type == "cpu":
            return _board.gather(x)
        everywhere = x.new_empty((_world, *x.shape))
        dist.all_gather_single(everywhere.view(-1), x.contiguous().view(-1))
        return everywhere


@contextmanager
def _listening() -> Iterator[None]:
    """Tell of a rank that has gone.

    Raises:
        TrainingError: the others do not answer.
    """
    try:
        yield
    except RuntimeError as error:
        told = _line(error)
        # Only our own messages know that a rank has ended; torch's tell of a connection, or of nothing.
        why = "it has ended" if "has ended" in told else f"it has ended, or was not heard of for {_patience():g} s"
        raise TrainingError(
            f"Another of the {_world} ranks was lost: {why} (rank {_rank}: {told:.120}). All checkpoints are whole: "
            "resume the run, with as many ranks as there are."
        ) from error


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _stated(name: str, otherwise: int) -> int:
    value = os.environ.get(name, str(otherwise))
    if not value.isdecimal():
        raise UserError(f"{name}: expected a whole number, as torchrun sets it; got {value!r}.")
    return int(value)


def _patience() -> float:
    value = os.environ.get(TIMEOUT) or str(PATIENCE_S)
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UserError(f"{TIMEOUT}: expected seconds above 0, got {value!r}.")
    return seconds
