"""The HTML document of a report: style, script, data and pictures are all inside.

The page's own policy lets nothing run but its script and nothing be loaded at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from ganengine import __version__
from ganengine.report.charts import Chart
from ganengine.report.history import History, thin


def document(title: str, body: Sequence[str], data: str) -> bytes:
    """Return a page as UTF-8.

    Args:
        title: plain text.
        body: HTML, in which every value is escaped.
        data: JSON for the page's script, as `curve_data` gives it.
    """
    here = resources.files("ganengine.report")
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    content = "\n".join(body)
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n{content}\n</main>\n"
        f"<footer>Written by ganengine {__version__}, {made}.</footer>\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )
    return text.encode("utf-8", "replace")


def curve_data(histories: Sequence[History], drawn: Sequence[Chart]) -> str:
    """Return the curves as JSON that cannot end the element it stands in."""
    rows = [thin([values for _, _, values in history.columns()], len(history)) for history in histories]
    record = {
        "x": [_axes(history, chosen) for history, chosen in zip(histories, rows, strict=True)],
        "charts": [chart.record(rows) for chart in drawn],
    }
    text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _axes(history: History, rows: list[int]) -> dict[str, Any]:
    seconds = history.series["time"].get("elapsed_s", [None] * len(history))
    return {
        "images": [history.images[row] for row in rows],
        "steps": [history.step[row] for row in rows],
        "minutes": [None if (s := seconds[row]) is None else round(s / 60, 3) for row in rows],
    }


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
