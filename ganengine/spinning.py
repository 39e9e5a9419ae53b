"""Threads of an operation wait for each other awake for a moment, and then asleep.

OpenMP's threads (GNU's, which torch brings along on Linux) stay awake for some 20 ms unless told otherwise. Where other
programs want the same cores, each wait so burns what the others need: at a load of 9 on two cores a step of pix2pix
took 6.0 s, 2.8 s with the limit for a quiet machine, 0.9 s with that for a busy one (docs/results.md). Where each
operation follows the one before within the limit, a quiet machine does not notice.
"""

from __future__ import annotations

import os

QUIET, BUSY = "30000", "3000"
"""Turns of a waiting loop, about 2 and 0.2 ms."""
SPINS = "GOMP_SPINCOUNT"
THEIRS = (SPINS, "OMP_WAIT_POLICY")
"""Variables by which a user says it; they are left as they are."""


def wait_briefly() -> str:
    """Limit how long threads wait awake, which must be said before torch is imported; return what holds, for doctor."""
    said = next((name for name in THEIRS if name in os.environ), None)
    if said is None:
        said = SPINS
        os.environ[said] = BUSY if busy() else QUIET
    return f"{said}={os.environ[said]}"


def busy() -> bool:
    """Whether other programs took more than half of the cores over the last minute."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    except (AttributeError, OSError):  # no such figure on this system
        return False
