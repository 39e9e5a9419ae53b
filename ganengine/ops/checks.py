"""Argument checks that ops share. Each raises a sentence: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ganengine.errors import UserError, nearest

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that statistics, sums and losses have for data of `dtype`: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in `dtype`: itself, where it has that, which spares a small op a call."""
    return x if x.dtype == dtype else x.to(dtype)


def check_float(op: str, name: str, x: Tensor) -> None:
    """Refuse a tensor that is not of a supported floating dtype."""
    if x.dtype not in FLOATS:
        raise UserError(
            f"{op}: expected {name} to be float32, bfloat16, float16 or float64, got {describe(x)}. "
            f"Convert it, for example with {name}.float()."
        )


def check_device(op: str, name: str, tensor: Tensor, like: str, device: torch.device) -> None:
    """Refuse a tensor on another device than the main input `like`."""
    if tensor.device != device:
        raise UserError(
            f"{op}: expected {name} on {device}, where {like} is, got {describe(tensor)} on {tensor.device}. "
            f"Move it with .to({like}.device)."
        )


def check_choice(op: str, name: str, value: object, known: Iterable[object]) -> None:
    """Refuse a value that is not among the known ones."""
    known = list(known)
    if value not in known:
        names = [str(k) for k in known]
        raise UserError(
            f"{op}: expected {name} to be one of {', '.join(names)}, got {value!r}." + nearest(str(value), names)
        )


def describe(x: Tensor) -> str:
    """Return a tensor's dtype and shape: "float32 [8, 64, 4, 4]"."""
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
