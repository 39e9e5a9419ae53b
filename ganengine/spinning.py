"""Threads of an operation wait for each other awake for a fraction of a millisecond, and then asleep.

OpenMP's threads (GNU's, which torch brings along on Linux) stay awake for some 20 ms unless told otherwise. Where other
programs want the same cores, each wait so burns what the others need: at a load of 9 on two cores a step of pix2pix
took 6.0 s, and 0.9 s with the limit below. An operation follows the one before within less than that limit, so a quiet
machine does not notice.
"""

from __future__ import annotations

import os

SPINS = "3000"
"""Turns of a waiting loop, about 0.2 ms."""
THEIRS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables by which a user says it; they are left as they are."""


def wait_briefly() -> str:
    """Limit how long threads wait awake, which must be said before torch is imported; return what holds, for doctor."""
    said = next((name for name in THEIRS if name in os.environ), None)
    if said is None:
        said = THEIRS[0]
        os.environ[said] = SPINS
    return f"{said}={os.environ[said]}"
