"""The ops by the CUDA kernels in the emulator, by the schemas of ganengine/ops: what .cu files do, for CPU tensors."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ganengine.ops.checks import accumulation_dtype


def _numpy(x: Tensor) -> Any:
    """Return the tensor's memory, front to back, as an array; 16-bit floats as integers."""
    x = x.detach()
    if x.dtype in (torch.bfloat16, torch.float16):
        x = x.view(torch.int16)
    return x.numpy() if x.is_contiguous() else x.permute(_memory_order(x)).numpy()


def _memory_order(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.dim()), 1)


def _guess(
    size: Sequence[int], dtype: torch.dtype, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Return memory for a result, full of what no kernel would write."""
    empty = torch.empty(tuple(size), dtype=dtype, memory_format=memory_format)
    return empty.fill_(torch.nan if dtype.is_floating_point else 77)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Emulated:
    """The ops; `limits` per op, as in the kernels' struct Limits, send small cases through the kernels for big ones."""

    def __init__(self, module: ModuleType, **limits: Sequence[int]) -> None:
        self._module = module
        self._limits = {op: list(numbers) for op, numbers in limits.items()}

    def conditional_batch_norm(
        self,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        labels: Tensor | None,
        mean: Tensor | None,
        var: Tensor | None,
        eps: float,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (y, mean, var)."""
        x, layout = _laid_out(x)
        y = _guess(x.shape, x.dtype, layout)
        given = mean is not None and var is not None
        statistics = [s.detach().clone() if s is not None else _guess(x.shape[1:2], gamma.dtype) for s in (mean, var)]
        self._module.conditional_batch_norm(
            _name(x.dtype),
            *_extent(x, layout),
            *(_numpy(t) for t in (x, gamma, beta)),
            None if labels is None else labels.numpy(),
            not given,
            *(_numpy(s) for s in statistics),
            eps,
            slope,
            _numpy(y),
            self._limits.get("conditional_batch_norm"),
        )
        return y, statistics[0], statistics[1]

    def conditional_batch_norm_backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        labels: Tensor | None,
        mean: Tensor,
        var: Tensor,
        batch_statistics: bool,
        eps: float,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (grad_x, grad_gamma, grad_beta)."""
        x, layout = _laid_out(x)
        grad_x, grad_gamma, grad_beta = (
            _guess(x.shape, x.dtype, layout),
            _guess(gamma.shape, gamma.dtype),
            _guess(beta.shape, beta.dtype),
        )
        self._module.conditional_batch_norm_backward(
            _name(x.dtype),
            *_extent(x, layout),
            *(_numpy(t) for t in (grad_y.contiguous(memory_format=layout), x, gamma, beta)),
            None if labels is None else labels.numpy(),
            *(_numpy(t) for t in (mean, var)),
            batch_statistics,
            eps,
            slope,
            *(_numpy(t) for t in (grad_x, grad_gamma, grad_beta)),
            self._limits.get("conditional_batch_norm"),
        )
        return grad_x, grad_gamma, grad_beta

    def patchgan_loss(
        self, maps: Sequence[Tensor], targets: Sequence[float], samples: Tensor | None, mode: int, mean: bool
    ) -> Tensor:
        """Return the loss."""
        maps = [m.contiguous() for m in maps]
        n = maps[0].shape[0]
        loss = _guess([] if mean else [n], accumulation_dtype(maps[0].dtype))
        self._module.patchgan_loss(
            _name(maps[0].dtype),
            n,
            [_numpy(m) for m in maps],
            list(targets),
            None if samples is None else _numpy(samples.contiguous()),
            mode,
            mean,
            _numpy(loss),
            self._limits.get("patchgan_loss"),
        )
        return loss

    def patchgan_loss_backward(
        self,
        grad_loss: Tensor,
        maps: Sequence[Tensor],
        targets: Sequence[float],
        samples: Tensor | None,
        mode: int,
        mean: bool,
    ) -> list[Tensor]:
        """Return the gradient of each map."""
        maps = [m.contiguous() for m in maps]
        grads = [_guess(m.shape, m.dtype) for m in maps]
        self._module.patchgan_loss_backward(
            _name(maps[0].dtype),
            maps[0].shape[0],
            _numpy(grad_loss.contiguous()),
            [_numpy(m) for m in maps],
            list(targets),
            None if samples is None else _numpy(samples.contiguous()),
            mode,
            mean,
            [_numpy(g) for g in grads],
            self._limits.get("patchgan_loss"),
        )
        return grads

    def maxout(
        self, h: Tensor, bias: Tensor | None, pieces: int, relu: bool, dropout: float, seed: int, offset: int
    ) -> tuple[Tensor, Tensor]:
        """Return (y, winner)."""
        h = h.contiguous()
        n, units = h.shape[0], h.shape[1] // pieces
        y, winner = _guess((n, units), h.dtype), _guess((n, units), torch.uint8)
        self._module.maxout(
            _name(h.dtype),
            [n, pieces, units],
            _numpy(h),
            None if bias is None else _numpy(bias),
            relu,
            dropout,
            seed,
            offset,
            _numpy(y),
            _numpy(winner),
            self._limits.get("maxout"),
        )
        return y, winner

    def maxout_backward(self, grad_y: Tensor, winner: Tensor, pieces: int, dropout: float) -> tuple[Tensor, Tensor]:
        """Return (grad_h, grad_bias)."""
        n, units = grad_y.shape
        grad_h = _guess((n, pieces * units), grad_y.dtype)
        grad_bias = _guess([pieces * units], accumulation_dtype(grad_y.dtype))
        self._module.maxout_backward(
            _name(grad_y.dtype),
            [n, pieces, units],
            _numpy(grad_y.contiguous()),
            _numpy(winner),
            dropout,
            _numpy(grad_h),
            _numpy(grad_bias),
            self._limits.get("maxout"),
        )
        return grad_h, grad_bias

    def null(self, x: Tensor) -> Tensor:
        """Return a copy of x."""
        y = _guess(x.shape, x.dtype)
        self._module.null(_name(x.dtype), _numpy(x.contiguous()), _numpy(y))
        return y


def _laid_out(x: Tensor) -> tuple[Tensor, torch.memory_format]:
    """Return x contiguous in the memory format that its results have, and that format."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = formats.get(x.dim())
    if layout is not None and not x.is_contiguous() and x.is_contiguous(memory_format=layout):
        return x.detach(), layout
    return x.detach().contiguous(), torch.contiguous_format


def _extent(x: Tensor, layout: torch.memory_format) -> tuple[list[int], bool]:
    """Return ([N, C, L], whether memory is [N, L, C])."""
    positions = x[0, 0].numel()
    return [x.shape[0], x.shape[1], positions], layout != torch.contiguous_format or positions == 1
