"""One of several ranks: runs the command lines that standard input holds, one after another, in one group.

    RANK=0 WORLD_SIZE=2 ... python together.py < commands.json

Prints a line of JSON: exit status and what was printed, of each.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from ganengine import ranks
from ganengine.cli import main


def run(argv: list[str]) -> dict[str, object]:
    """Run one command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(argv)
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    with ranks.group():
        done = [run(argv) for argv in json.load(sys.stdin)]
    print(json.dumps(done))
