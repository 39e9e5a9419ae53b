"""Running means that cost no synchronisation until they are read at a tick."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Means:
    """Means of 0-d tensors by name, accumulated on the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Count one value in; float64, so that many small steps do not drown."""
        # On the host a plain float costs a tenth of a 0-d tensor, and is the same number.
        number = value.item() if value.is_cpu else value.detach().to(torch.float64)
        self._sums[name] = self._sums[name] + number if name in self._sums else number
        self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Return the means so far."""
        # sync: the one place where the host waits for the device, at a tick
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def clear(self) -> None:
        """Begin anew."""
        self._sums.clear()
        self._counts.clear()

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return sums and counts, so that a tick which a checkpoint cuts in two comes out whole."""
        return {"sums": {k: float(v) for k, v in self._sums.items()}, "counts": {**self._counts}}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]], device: torch.device) -> None:
        """Take over what `state_dict` gave."""
        sums = {name: float(value) for name, value in state["sums"].items()}
        on_host = device.type == "cpu"
        self._sums = {k: v if on_host else torch.tensor(v, dtype=torch.float64, device=device) for k, v in sums.items()}
        self._counts = {k: int(n) for k, n in state["counts"].items()}
