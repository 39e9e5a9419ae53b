"""What a bench measures: an op on one shape, dtype and layout, with its opponents, its truth and its floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FORWARD = "forward"
BOTH = "forward+backward"
PASSES = (FORWARD, BOTH)

Call = Callable[[], object]
Function = Callable[..., Tensor]
"""f(*inputs) -> result."""


@dataclass(frozen=True)
class Floor:
    """The least that a pass can cost: so many times a simpler thing."""

    call: Call
    times: float = 1.0


@dataclass(frozen=True)
class Subject:
    """A case made ready: tensors, and functions of them that all compute the same."""

    inputs: tuple[Tensor, ...]
    """Leaves that require gradients; each function takes all of them."""
    grad: Tensor
    """Gradient of the result; it is cast to the result's dtype."""
    fused: Function
    eager: Mapping[str, Function]
    """Ways of saying it in eager PyTorch, by name; the fastest of them is the opponent."""
    compiled: tuple[str, ...]
    """Which of them torch.compile gets, those of which it makes the fastest code; again the fastest is the opponent."""
    truth: Callable[[Tensor], tuple[Tensor, ...]]
    """A function's result -> what it should be and the gradients of the inputs, all float64."""
    floor: Mapping[str, Floor]
    """By pass."""
    chance: bool = False
    """Each call draws anew (dropout): `truth` reads from the result what was drawn. Else it reads nothing."""


@dataclass(frozen=True)
class Case:
    """One line of the case table; it holds no tensors."""

    op: str
    name: str
    """What of the op: sides, activation ..."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: str
    """"contiguous" or "channels_last"."""
    make: Callable[[torch.device], Subject]

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.op} {self.name} {shape} {self.dtype_name} {self.layout}"


def passes(function: Function, subject: Subject) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Return, by pass, calls of `function` as a training step makes them.

    forward            the result, with its graph recorded
    forward+backward   the gradients of the inputs, in fresh tensors
    """
    grads: dict[torch.dtype, Tensor] = {}

    def forward() -> tuple[Tensor, ...]:
        return (function(*subject.inputs),)

    def both() -> tuple[Tensor, ...]:
        result = function(*subject.inputs)
        grad = grads.get(result.dtype)
        if grad is None:
            grad = grads[result.dtype] = subject.grad.to(result.dtype)
        return torch.autograd.grad(result, subject.inputs, grad)

    return {FORWARD: forward, BOTH: both}


def results(function: Function, subject: Subject) -> tuple[Tensor, ...]:
    """Return the result of `function` and the gradients of the inputs."""
    result = function(*subject.inputs)
    return (result.detach(), *torch.autograd.grad(result, subject.inputs, subject.grad.to(result.dtype)))
