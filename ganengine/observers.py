"""Call the observers of a run; one that fails is reported once and left out, the run goes on."""

from __future__ import annotations

import sys
from typing import Any

import pluggy

from ganengine import ranks


class Observers:
    """The hook implementations that watch a run; of several ranks the first has them."""

    EVENTS = ("run_start", "step", "tick", "checkpoint", "run_end")

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._watching = {
            event: list(getattr(manager.hook, f"ganengine_{event}").get_hookimpls()) if ranks.first() else []
            for event in self.EVENTS
        }

    def watched(self, event: str) -> bool:
        """Whether anybody watches this event; if not, its record need not be made."""
        return bool(self._watching[event])

    def tell(self, event: str, record: Any) -> None:
        """Hand `record` to everybody who watches `event`."""
        for implementation in list(self._watching[event]):
            try:
                implementation.function(*([record] if implementation.argnames else []))
            except Exception as error:
                name = implementation.plugin_name
                print(
                    f"plugin {name}: its ganengine_{event} failed ({type(error).__name__}: {error}). "
                    "It no longer watches this run.",
                    file=sys.stderr,
                )
                for watching in self._watching.values():
                    watching[:] = [impl for impl in watching if impl.plugin_name != name]
