"""Time spent training; the only part of a run that depends on the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Seconds since training began, in this command and over the whole run."""

    before: float = 0.0
    """Seconds of earlier commands on this run."""
    began: float = field(default_factory=time.monotonic)

    def here(self) -> float:
        """Return the seconds since this command began to train."""
        return time.monotonic() - self.began

    def total(self) -> float:
        """Return the seconds that the run has been trained."""
        return self.before + self.here()
