"""A page, read back with the standard library's own parser."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "img"}


@dataclass
class Seen(HTMLParser):
    """A page as a browser would take it apart."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, *tags: str) -> str:
        return "\n".join(part for tag in tags or self.texts for part in self.texts.get(tag, []))

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script"][0])


def read(page: bytes) -> Seen:
    """Return what a browser would see; every element is closed."""
    seen = Seen()
    seen.feed(page.decode("utf-8"))
    seen.close()
    assert not seen._open
    return seen
