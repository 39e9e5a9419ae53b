"""`python -m ganengine`, which is also what torchrun starts."""

import os
import sys

from ganengine.cli import main


def _end(status: int) -> None:
    """End the process; where it has left a group of ranks open, without closing what others may be gone from.

    Torch's threads for a group are still at work then, and now and then abort a process that ends while they are.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    try:
        ended = main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        ended = end.code
    _end(ended)
