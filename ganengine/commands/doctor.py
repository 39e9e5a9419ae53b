"""`ganengine doctor`: versions, kernels and why not, devices, fast paths in use."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ganengine.commands.arguments import parse


@dataclass(frozen=True)
class _Options:
    json: bool = False
    """Print one JSON object."""


def doctor(argv: Sequence[str]) -> int:
    """Print what this installation computes with."""
    options = parse(_Options, argv, "ganengine doctor", "Show versions, kernels, devices and fast paths.")
    found = examine()
    if options.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        if name == "schema":
            continue
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in value.items():
                print(f"  {key}: {item}")
        else:
            print(f"{name}: {value}")
    return 0


def examine() -> dict[str, Any]:
    """Return versions, devices, fast paths and the state of the compiled kernels."""
    import torch

    from ganengine import ops
    from ganengine.allocator import keep_freed_memory
    from ganengine.hardware import cores, cpu_name, fast_bfloat16
    from ganengine.plugins import registry
    from ganengine.runfolder import versions

    loaded = registry()
    cuda = torch.cuda.is_available()
    devices = {"cpu": cpu_name()}
    devices |= {f"cuda:{n}": torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count() if cuda else 0)}
    return {
        "schema": 1,
        "versions": {**versions(), "python": platform.python_version(), "platform": platform.platform()},
        "devices": devices,
        "cores": cores(),
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
        "plugins": {origin.name: str(origin) for origin in loaded.origins},
        "left_out": {fault.origin.name: fault.reason for fault in loaded.faults},
    }
