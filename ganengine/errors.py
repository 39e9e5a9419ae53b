"""Every exception that ganengine raises on purpose, from one base.

A message says what was expected, what came and what to do. The command line prints it without a traceback
and exits with `status`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanengineError(Exception):
    """Base of all errors that the engine raises on purpose."""

    status = 1


class UserError(GanengineError):
    """Something the user can put right: an option, a file, a folder, a device."""

    status = 2


class PluginError(UserError):
    """A plugin, or a record that a plugin handed over, breaks the contract."""


class DataError(UserError):
    """The data cannot be used as it is; the message says how to repair it."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or belongs to something else."""


class TrainingError(GanengineError):
    """Training cannot go on (for example: gradients stayed non-finite)."""


class StaleForwardError(GanengineError):
    """A shared forward pass was asked for after one of its networks had stepped."""


def printable(text: str) -> str:
    """Return a text in which what a name may hold to steer a terminal, or to begin a line, is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """Return " Did you mean ...?" for the names in `known` nearest to `word`, capitals apart, or "" if none is near."""
    names = {name.lower(): name for name in sorted(known)}
    close = [names[found] for found in difflib.get_close_matches(word.lower(), names, n=count, cutoff=0.5)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def check_options(options: object, *rules: tuple[str, bool, str]) -> None:
    """Check the values of a record of options.

    Args:
        options: the record; a field `d_lr` is what the user calls --d-lr.
        rules: (field, whether its value fits, what is expected), in the order in which they are told.

    Raises:
        UserError: a value does not fit.
    """
    for field, fits, expected in rules:
        if not fits:
            raise UserError(f"--{field.replace('_', '-')}: expected {expected}, got {getattr(options, field)}.")
