"""What the figures were measured on."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import torch

from ganengine import ops
from ganengine.bench import null
from ganengine.bench.timing import QUICK, interleaved
from ganengine.hardware import cpu_name
from ganengine.ops.dispatch import LAYERS, compiled

COMPILED = "compiled"
_COPIED = 2**24
"""Elements: 64 MiB of float32, beyond any cache."""


def machine(device: torch.device) -> dict[str, Any]:
    """Return processor, threads, versions, kernels, speed of copying, and the load: programs at work, last minute."""
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "kernels": kernels(device),
        "copy_gb_s": copy_gb_s(device),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def kernels(device: torch.device) -> dict[str, str]:
    """Return, by op, "compiled" or why there is no kernel for the device."""
    found = {k.op: COMPILED if k.compiled else "; ".join(k.reasons) for k in ops.kernels() if k.device == device.type}
    # Those of the layers and the template op are no part of the report of kernels; they are built with the others.
    missing = next((reason for reason in found.values() if reason != COMPILED), "was not built")
    for op in LAYERS:
        absent = missing if device.type == "cpu" else "the kernel is for the CPU; elsewhere the layer is PyTorch's"
        found[op] = COMPILED if compiled(op, device.type) else absent
    key = getattr(torch._C.DispatchKey, device.type.upper())
    names = [f"ganengine::{null.OP}", f"ganengine::{null.OP}_backward"]
    built = all(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for name in names)
    found[null.OP] = COMPILED if built else missing
    return found


def copy_gb_s(device: torch.device) -> float:
    """Return 10^9 bytes per second, read and written, of copying 64 MiB into memory that is there already."""
    source = torch.ones(_COPIED, device=device)
    target = torch.empty_like(source)
    samples = interleaved({"copy": lambda: target.copy_(source)}, QUICK, waiting(device))["copy"]
    return 2 * source.nbytes / (1e6 * statistics.median(samples))


def matmul_gflop_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return 10^9 multiplications and additions per second of a large matrix product: the limit of a training step."""
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    samples = interleaved({"product": lambda: a @ b}, QUICK, waiting(device))["product"]
    return 2 * side**3 / (1e6 * min(samples))


def waiting(device: torch.device) -> Callable[[], None]:
    """Return the function that waits for the device."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
