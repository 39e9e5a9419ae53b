"""Values in words, for tables that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import PurePath
from typing import Any

ROWS = 400
"""At most so many rows of a table of options."""


def flat(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested options as (name, text); a file that unfolds without end is cut at `ROWS`."""
    return list(islice(_flat(record, ""), ROWS))


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}[{index}]")
    elif isinstance(value, list):
        yield name, ", ".join(map(word, value))
    else:
        yield name, word(value)


def word(value: Any) -> str:
    """Return one value as text; of an absolute path the end, since a report is made to be passed on."""
    if isinstance(value, str) and PurePath(value).is_absolute():
        return "/".join(("...", *PurePath(value).parts[1:][-2:]))
    return {True: "yes", False: "no", None: "-"}[value] if value is None or isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
