"""`python -m ganengine`, which is also what torchrun starts."""

import sys

from ganengine.cli import main

if __name__ == "__main__":
    sys.exit(main())
