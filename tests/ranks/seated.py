"""One of two ranks that share a board: adds up twice, and says what it got.

    RANK=0 WORLD_SIZE=2 ... python seated.py [leave]

With `leave` the second rank ends after the first sum, without a word.
"""

from __future__ import annotations

import os
import sys

import torch

from ganengine import ranks
from ganengine.errors import TrainingError

if __name__ == "__main__":
    with ranks.group():
        x = torch.full((5,), float(ranks.rank() + 1))
        ranks.summed(x)
        if sys.argv[1:] and ranks.rank() == 1:
            os._exit(0)
        try:
            ranks.summed(x)
        except TrainingError as error:
            print(error, flush=True)
            os._exit(1)
        print(ranks.messages(), x.tolist())
