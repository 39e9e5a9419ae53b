"""How every command reads its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro

Options = TypeVar("Options")


def parse(form: type[Options], argv: Sequence[str], prog: str, description: str) -> Options:
    """Parse `argv` into the dataclass `form`.

    Raises:
        SystemExit: status 2 after a message for wrong arguments, 0 after `--help`.
    """
    annotated: Any = Annotated[form, tyro.conf.OmitArgPrefixes]
    parsed: Options = tyro.cli(annotated, args=list(argv), prog=prog, description=description)
    return parsed
