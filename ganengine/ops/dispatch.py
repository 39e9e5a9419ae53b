"""Which implementation an op takes, and the report of what is there.

`auto`       the op: the dispatcher takes the compiled kernel of the tensor's device, else the reference
`fused`      the same, and an error where a kernel is missing
`reference`  the reference formula under PyTorch's own autograd; compiled kernels are not even loaded
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch

from ganengine.errors import UserError, nearest
from ganengine.ops import library

Mode = Literal["auto", "fused", "reference"]

OPS = ("conditional_batch_norm", "patchgan_loss", "maxout")
LAYERS = ("instance_norm", "im2col", "convolution", "spectral_norm", "merged_kernels", "skinny_product")
"""What ganengine.nn alone takes, on the CPU; there is nothing to choose, as each layer has torch's form beside it."""
DEVICES = ("cpu", "cuda")

_mode: Mode = "auto"
_compiled: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Kernel:
    """Whether op `op` has a compiled kernel, forward and backward, for tensors on `device`."""

    op: str
    device: str
    compiled: bool
    reasons: tuple[str, ...]
    """Why not; empty when it is there."""


SWITCH = "GANENGINE_OPS"


def stated_mode() -> Mode:
    """Return the mode that `GANENGINE_OPS` states: `auto` where it is empty or not set.

    Raises:
        UserError: it states no mode.
    """
    return _checked(os.environ.get(SWITCH) or "auto", SWITCH)


def _checked(mode: str, who: str) -> Mode:
    if mode not in get_args(Mode):
        raise UserError(f'{who}: expected one of auto, fused, reference, got "{mode}".' + nearest(mode, get_args(Mode)))
    return cast(Mode, mode)


def set_mode(mode: str) -> None:
    """Choose the implementation of all ops: "auto", "fused" or "reference" (`--ops`, `GANENGINE_OPS`).

    Raises:
        UserError: unknown mode.
    """
    global _mode, _compiled
    chosen = _checked(mode, "ops")
    if chosen != "reference":
        library.load()
    # A snapshot, so that torch.compile sees a constant where an op asks for its kernel.
    _compiled = frozenset((op, device) for op in OPS + LAYERS for device in DEVICES if _registered(op, device))
    _mode = chosen


def mode() -> Mode:
    """Return the mode in force."""
    return _mode


def kernels() -> tuple[Kernel, ...]:
    """Return, for each op and device, whether a compiled kernel is there and, if not, every reason."""
    return tuple(
        Kernel(op, device, (op, device) in _compiled, () if (op, device) in _compiled else _reasons(op, device))
        for op in OPS
        for device in DEVICES
    )


def compiled(op: str, device: str) -> bool:
    """Return whether op `op` has a kernel for tensors on `device`, and the mode lets it be used."""
    return _mode != "reference" and (op, device) in _compiled


def takes_op(op: str, device: str) -> bool:
    """Return whether to call the op (True) or the plain reference (False).

    Raises:
        UserError: the mode is "fused" and there is no kernel of `op` for `device`.
    """
    if _mode == "reference":
        return False
    if _mode == "fused" and (op, device) not in _compiled:
        raise UserError(
            f"{op}: expected a compiled kernel for {device} (ops: fused), there is none: "
            f"{'; '.join(_reasons(op, device))}. Use --ops auto to run the PyTorch reference instead."
        )
    return True


def _registered(op: str, device: str) -> bool:
    key = getattr(torch._C.DispatchKey, device.upper())
    names = (f"ganengine::{op}", f"ganengine::{op}_backward")
    return all(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for name in names)


def _reasons(op: str, device: str) -> tuple[str, ...]:
    if device not in DEVICES:
        return (f"kernels are written for {' and '.join(DEVICES)} only",)
    if _mode == "reference":
        return ("the mode is reference, so compiled kernels are not looked for",)
    reasons = []
    state = library.load()
    if state.reason is not None:
        reasons.append(state.reason)
    elif device == "cuda" and state.build is not None and state.build.cuda_reason is not None:
        reasons.append(f"the CUDA kernels were not built: {state.build.cuda_reason}")
    elif state.path is not None:
        reasons.append(f"{state.path.name} was built without {op} for {device}")
    if device == "cuda" and not torch.cuda.is_available():
        reasons.append(
            "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is visible to torch"
        )
    return tuple(reasons)
