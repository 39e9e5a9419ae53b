"""Train the judge of a data set, or fetch the one that is kept, and tell how good it is.

python benches/train_judge.py DATA --size 28
"""

from __future__ import annotations

import argparse
import sys
import time

from ganengine.config import RunOptions
from ganengine.display import bar
from ganengine.errors import GanengineError
from ganengine.hardware import choose
from ganengine.judging import judge_of, open_labelled
from ganengine.metrics.judge import LEAST
from ganengine.plugins import registry


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder or zip file with labels, or NAME:ARGUMENT of a data source")
    parser.add_argument("--size", type=int, default=None, help="side of the pictures; default: their own, at most 128")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=LEAST, help="share of held-out pictures to get right")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    engine = RunOptions(size=options.size, threads=options.threads)
    try:
        hardware = choose(engine)
        data = open_labelled(options.data, engine, registry())
        began = time.perf_counter()
        judge = judge_of(
            data, least=options.least, seed=options.seed, device=hardware.device, progress=bar("training the judge")
        )
    except GanengineError as error:
        print(f"train_judge: {error}", file=sys.stderr)
        return error.status
    seconds = time.perf_counter() - began
    print(
        f"{options.data}: {data.num_classes} classes, right on {judge.accuracy:.2%} of {judge.held_out} held-out "
        f"pictures (split {data.held_out_split}); {seconds:.1f} s"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
