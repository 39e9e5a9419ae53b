"""Let Ctrl-C and SIGTERM end a run after the step under way instead of in the middle of it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Remembers the signal that asked a run to stop.

    Args:
        on_ask: called once, when the first signal comes.
    """

    def __init__(self, on_ask: Callable[[], None]) -> None:
        self.number = 0
        """The signal that asked, or 0."""
        self._on_ask = on_ask

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signals while the block runs; a second one ends the process at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def ask(number: int, _: FrameType | None) -> None:
            self.number = number
            restore()
            self._on_ask()

        try:
            for number in before:
                signal.signal(number, ask)
        except ValueError:
            before.clear()  # not the main thread: the caller handles signals
        try:
            yield
        finally:
            restore()
