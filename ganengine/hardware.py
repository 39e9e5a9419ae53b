"""Choose device, threads, precision and memory format, and say why."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ganengine import ranks
from ganengine.allocator import keep_freed_memory
from ganengine.config import RunOptions
from ganengine.errors import UserError

try:
    import resource
except ImportError:  # not on this system: nothing is told of the host's memory
    resource = None  # type: ignore[assignment]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Hardware:
    """What a run computes on. Every choice is written to its log."""

    device: torch.device
    threads: int
    precision: str
    """`fp32`, `bf16` or `fp16`, never `auto`."""
    channels_last: bool

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of autocast."""
        return _DTYPES[self.precision]

    def autocast(self) -> torch.autocast:
        """Return a fresh autocast context; casts cached in an older one are stale after an optimizer step."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.precision != "fp32")


def choose(options: RunOptions) -> Hardware:
    """Resolve every `auto` among the options, set the number of threads, have malloc keep what is freed.

    Raises:
        UserError: a device that is not there, or a precision it does not have.
    """
    device = choose_device(options.device)
    if ranks.world() > 1 and device.type == "cuda":
        torch.cuda.set_device(device)  # where NCCL looks
    threads = options.threads or max(1, cores() // ranks.on_this_machine()[1])
    torch.set_num_threads(threads)
    keep_freed_memory()
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if fast_bfloat16(device) else "fp32"
    elif precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16: expected a GPU for float16 training, got the CPU. Use bf16 or fp32.")
    return Hardware(device, threads, precision, options.channels_last != "off")


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is a GPU where there is one, of several ranks each has its own.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.world() > 1:
        name = f"cuda:{ranks.on_this_machine()[0]}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f'--device: expected auto, cpu, cuda or cuda:N, got "{name}".') from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = f"{count} CUDA device(s)" if count else "no CUDA device that this torch can use"
            raise UserError(f'--device: "{name}" is not there; this machine has {have}. Use --device cpu or auto.')
    elif device.type != "cpu" or device.index:
        raise UserError(f'--device: expected auto, cpu, cuda or cuda:N, got "{name}".')
    return device


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32."""
    return bool(bfloat16_unit(device))


def bfloat16_unit(device: torch.device) -> str:
    """Return what multiplies bfloat16 fast (AMX, AVX-512 BF16, CUDA sm_80 and newer); "" where nothing does."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"tensor cores of sm_{major}{minor}" if (major, minor) >= (8, 0) else ""
    checks = {"AMX": "_is_amx_tile_supported", "AVX-512 BF16": "_is_avx512_bf16_supported"}
    return next((unit for unit, check in checks.items() if getattr(torch.cpu, check, bool)()), "")


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that this process has held so far, in MiB: on the host, and on a GPU by tensors."""
    held = {}
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        held["memory_mb"] = round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)  # bytes there, else KiB
    if device.type == "cuda":
        held["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / (1 << 20), 1)
    return held
