"""`ganengine doctor`: versions, kernels and why not, devices, threads, fast paths in use, free disk, extras."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ganengine.commands.arguments import parse
from ganengine.errors import UserError

EXTRAS = {
    "report": "plots of diagnose and of benches, and the fonts of drawn data",
    "export": "ganengine export --format onnx",
    "test": "running the tests",
    "dev": "checking types and style",
}
"""What each extra of ganengine is for."""
INSTRUCTION_SETS = ("the baseline", "AVX2", "AVX-512")
"""What the number of torch.ops.ganengine.best_isa stands for."""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GANENGINE_OPS", "GANENGINE_ALLOCATOR", "GANENGINE_CACHE")
"""Of the environment: what changes any of this."""


@dataclass(frozen=True)
class _Options:
    json: bool = False
    """Print one JSON object."""


def doctor(argv: Sequence[str]) -> int:
    """Print what this installation computes with."""
    options = parse(_Options, argv, "ganengine doctor", "Show versions, kernels, devices, fast paths, disk and extras.")
    with _sound_environment() as faults:
        found = {**examine(), "faults": faults}
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            if name != "schema":
                _print(name.replace("_", " "), value)
    return 1 if faults else 0


@contextlib.contextmanager
def _sound_environment() -> Iterator[dict[str, str]]:
    """Give, by name, what is wrong with a variable; within the block it is as if that one were not set."""
    faults: dict[str, str] = {}
    before = dict(os.environ)
    for name, look in {"GANENGINE_OPS": _ops_mode, "GANENGINE_ALLOCATOR": _allocator}.items():
        try:
            look()
        except UserError as error:
            faults[name] = f"{error} It is left out of account here; other commands refuse it."
            del os.environ[name]
    try:
        yield faults
    finally:
        os.environ.update({name: before[name] for name in faults})


def _ops_mode() -> None:
    from ganengine.ops import stated_mode  # the import alone fails in a new process

    stated_mode()


def _allocator() -> None:
    from ganengine.allocator import keep_freed_memory

    keep_freed_memory()


def _print(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        print(f"{name}: {value}")
        return
    print(f"{name}:" if value else f"{name}: none")
    width = max(map(len, value), default=0)
    for key, item in value.items():
        print(f"  {key:<{width}}  {_line(item)}")


def _line(item: Any) -> str:
    """Return one entry of a section in words."""
    match item:
        case {"used": used, "what": what}:
            return f"{'yes' if used else 'no '}  {what}"
        case {"path": path, "free_gb": free}:
            return f"{free:.1f} GB free ({path})"
        case {"for": purpose, "missing": missing, "install": install}:
            return f"for {purpose}: " + (f"{', '.join(missing)} missing; {install}" if missing else "installed")
    return str(item)


def examine() -> dict[str, Any]:
    """Return versions, devices, fast paths, room on disk and the state of the compiled kernels."""
    import torch

    from ganengine import ops
    from ganengine.allocator import keep_freed_memory
    from ganengine.data.cache import cache_root
    from ganengine.hardware import cores, cpu_name, fast_bfloat16
    from ganengine.plugins import registry
    from ganengine.runfolder import versions

    loaded = registry()
    cuda = torch.cuda.is_available()
    devices = {"cpu": cpu_name()}
    devices |= {f"cuda:{n}": torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count() if cuda else 0)}
    built = torch.version.cuda is not None
    no_cuda = "no CUDA device is visible to torch" if built else "this torch is built without CUDA"
    return {
        "schema": 1,
        "versions": {**versions(), "python": platform.python_version(), "platform": platform.platform()},
        "devices": devices,
        "cuda": torch.version.cuda if cuda else f"none: {no_cuda}",
        "cores": cores(),
        "threads": {"a run takes": cores(), "torch has now": torch.get_num_threads()},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "precision_auto": {
            name: "bf16" if fast_bfloat16(torch.device(name)) else "fp32"
            for name in ("cpu", *(["cuda"] if cuda else []))
        },
        "allocator": keep_freed_memory(),
        "kernels": {
            f"{kernel.op} on {kernel.device}": "compiled" if kernel.compiled else "; ".join(kernel.reasons)
            for kernel in ops.kernels()
        },
        "fast_paths": fast_paths(),
        "disk": {"this folder": room(Path.cwd()), "cache": room(cache_root())},
        "extras": extras(),
        "plugins": {origin.name: str(origin) for origin in loaded.origins},
        "left_out": {fault.origin.name: fault.reason for fault in loaded.faults},
    }


def fast_paths() -> dict[str, dict[str, Any]]:
    """Return, for each fast path, whether a run on this machine's best device takes it, and what it is or why not."""
    import torch

    from ganengine import ops
    from ganengine.allocator import keep_freed_memory
    from ganengine.config import RunOptions
    from ganengine.hardware import bfloat16_unit, choose_device
    from ganengine.ops.convolution import few_kernels_pay, kernels_pay, small_kernels_pay
    from ganengine.optimizers import FUSED
    from ganengine.spinning import SPINS, wait_briefly

    device = choose_device("auto")
    compiled = any(kernel.compiled for kernel in ops.kernels() if kernel.device == device.type)
    if os.environ.get("GANENGINE_OPS") == "reference":
        compiled, kernels = False, "the PyTorch references run: GANENGINE_OPS=reference"
    elif not compiled:
        kernels = "the PyTorch references run; the reasons stand under kernels"
    elif device.type == "cpu":
        kernels = f"compiled for {INSTRUCTION_SETS[torch.ops.ganengine.best_isa()]}"
    else:
        kernels = "compiled for CUDA"
    unit = bfloat16_unit(device)
    few = few_kernels_pay(torch.float32) and not kernels_pay(torch.float32)
    kinds = {
        "products of tiles, in bfloat16": kernels_pay(torch.bfloat16),
        "products of pairs for small layers, in bfloat16": small_kernels_pay(torch.bfloat16),
        "with AVX2, in float32": kernels_pay(torch.float32),
        "for few channels, in float32": few,
    }
    own = [what for what, pays in kinds.items() if device.type == "cpu" and pays]
    allocator, waits = keep_freed_memory(), wait_briefly()
    paths = {
        "fused ops": (compiled, kernels),
        "own convolutions": (
            bool(own),
            "; ".join(own) or "torch's: for want of kernels, or as fast here",
        ),
        "bfloat16": (bool(unit), unit or "nothing multiplies it faster than float32 here"),
        "channels-last": (RunOptions().channels_last != "off", "memory format of pictures and convolutions"),
        "fused optimizers": (bool(FUSED), ", ".join(sorted(kind.__name__ for kind in FUSED))),
        "memory kept": ("is kept" in allocator, allocator),
        "brief waits": (waits.startswith(SPINS), f"of OpenMP's threads for each other: {waits}"),
    }
    return {name: {"used": used, "what": what} for name, (used, what) in paths.items()}


def room(folder: Path) -> dict[str, Any]:
    """Return how much may still be written to a folder that need not be there yet."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return {"path": str(folder), "free_gb": round(shutil.disk_usage(there).free / 1e9, 1)}


def extras() -> dict[str, dict[str, Any]]:
    """Return, for each extra of ganengine, what it is for, which of its packages are missing, and how to install it."""
    needs: dict[str, list[str]] = {name: [] for name in EXTRAS}
    try:
        stated = metadata.requires("ganengine") or []
    except metadata.PackageNotFoundError:  # a source tree on PYTHONPATH
        stated = []
    for requirement in stated:
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name and extra and extra[1] in needs:
            needs[extra[1]].append(name[0])
    return {
        name: {
            "for": EXTRAS[name],
            "missing": [package for package in packages if not _installed(package)],
            "install": f"pip install 'ganengine[{name}]'",
        }
        for name, packages in needs.items()
    }


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
