"""Put several runs on one HTML page: curves over each other, previews side by side, and what sets the runs apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path

from ganengine.report.charts import Chart, overlay
from ganengine.report.document import curve_data, document
from ganengine.report.frames import BUDGET, COUNT
from ganengine.report.page import curves_section, pictures, player, warnings_section
from ganengine.report.reading import Reading, read_run
from ganengine.report.words import duration, flat, word
from ganengine.runfolder import RunFolder

LIMIT = 12
"""At most so many runs: six colours, drawn solid and dashed."""
FEWEST = 12
"""Previews of each run at least, however many runs there are."""


def comparison(folders: Sequence[RunFolder]) -> bytes:
    """Return a page of several runs as UTF-8.

    Raises:
        UserError: a config.yaml is damaged. Anything else that is missing or damaged is told in the page.
    """
    share = len(folders)
    runs = [read_run(folder, max(FEWEST, COUNT // share), BUDGET // share) for folder in folders]
    names = labels([folder.path for folder in folders])
    drawn = overlay([(name, run.history, run.lines) for name, run in zip(names, runs, strict=True)])
    told = [f"{name}: {warning}" for name, run in zip(names, runs, strict=True) for warning in run.warnings]
    body = [
        f"<header><h1>{share} runs side by side</h1><p>{escape(', '.join(names))}</p></header>",
        _runs(names, runs),
        warnings_section(told, []),
        _previews(names, runs),
        curves_section(drawn),
        _figures(names, drawn),
        _difference("Options", "config.yaml", names, [dict(flat(run.options)) for run in runs]),
        _difference("Environments", "environment.json", names, [dict(flat(run.environment)) for run in runs]),
    ]
    return document(f"{share} runs - {', '.join(names)}", body, curve_data([run.history for run in runs], drawn))


def labels(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of different paths that tell them apart, all of as many parts."""
    whole = [path.resolve().parts for path in paths]
    for parts in count(1):
        names = ["/".join(path[-parts:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths have different ends")


def _key(run: int) -> str:
    """Return the colour of a run, as its curves have it."""
    return f'<i class="key {colour(run)}"></i>'


def colour(run: int) -> str:
    """Return the classes that colour a curve: page.js gives the same."""
    return f"s{run % 6}" + (" dashed" if run >= 6 else "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of HTML cells; the first column names the rows."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="wide"><table class="runs"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _named(names: Sequence[str]) -> list[str]:
    return [f"{_key(run)}{escape(name)}" for run, name in enumerate(names)]


def _runs(names: Sequence[str], runs: Sequence[Reading]) -> str:
    rows = []
    for head, run in zip(_named(names), runs, strict=True):
        planned = f" of {run.horizon:,.0f}" if run.horizon else ""
        seconds, speed, memory = (run.last(name) for name in ("elapsed_s", "images_per_s", "memory_mb"))
        machine = ", ".join(word(run.environment[key]) for key in ("device", "precision") if key in run.environment)
        cells = (
            run.options["variant"],
            f"{run.history.step[-1]:,.0f}" if len(run.history) else "-",
            f"{run.images:,.0f}{planned}",
            "-" if seconds is None else duration(seconds),
            "-" if speed is None else f"{speed:,.1f}",
            "-" if memory is None else f"{memory:,.0f} MiB",
            machine or "-",
            f"{len(run.warnings)}",
        )
        rows.append([head, *(escape(cell) for cell in cells)])
    heads = ("", "variant", "steps", "images", "training time", "images per second", "memory", "trained on", "warnings")
    return f'<section aria-labelledby="runs"><h2 id="runs">Runs</h2>{_table(heads, rows)}</section>'


def _previews(names: Sequence[str], runs: Sequence[Reading]) -> str:
    stops = sorted({frame.images for run in runs for frame in run.frames})
    if not stops:
        return (
            '<section class="previews" aria-labelledby="previews"><h2 id="previews">Preview</h2>'
            "<p>No run has previews: none was made yet, or they were started with --preview 0.</p></section>"
        )
    parts = []
    for head, name, run in zip(_named(names), names, runs, strict=True):
        caption = f'<figcaption>{head} <span class="note own"></span></figcaption>'
        shown = pictures(run.frames, f" of {escape(name)}") or '<p class="note">No previews.</p>'
        parts.append(f"<figure data-frames>{caption}{shown}</figure>")
    note = ": of each run the preview nearest to it"
    return (
        '<section class="previews" aria-labelledby="previews"><h2 id="previews">Previews over time</h2>'
        f'{player(len(stops), stops[-1], note)}<div class="frames beside" id="frames">{"".join(parts)}</div></section>'
    )


def _figures(names: Sequence[str], drawn: Sequence[Chart]) -> str:
    """Return the last value of every curve, with the span of all."""
    rows = []
    for chart in drawn:
        cells = {}
        for curve in chart.curves:
            known = [value for value in curve.values if value is not None]
            span = f'<span class="note">{min(known):,.4g} to {max(known):,.4g}</span>' if known else ""
            cells[curve.run] = f"{known[-1]:,.4g} {span}" if known else "-"
        rows.append([escape(chart.title), *(cells.get(run, "-") for run in range(len(names)))])
    if not rows:
        return ""
    return (
        '<section aria-labelledby="figures"><h2 id="figures">Figures</h2><p class="note">The last value, and from the '
        f"least to the most.</p>{_table(['', *_named(names)], rows)}</section>"
    )


def _difference(title: str, origin: str, names: Sequence[str], records: Sequence[Mapping[str, str]]) -> str:
    """Return what differs as a table, and what does not as a list to unfold."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    values = {key: [record.get(key, "-") for record in records] for key in keys}
    rows = [[escape(key), *map(escape, cells)] for key, cells in values.items() if len(set(cells)) > 1]
    same = {key: cells[0] for key, cells in values.items() if len(set(cells)) == 1}
    parts = [_table(["", *_named(names)], rows) if rows else "<p>None differs.</p>"]
    if same:
        cells = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in same.items())
        parts.append(
            f'<details><summary>The same in all runs ({len(same)})</summary><dl class="options">{cells}</dl></details>'
        )
    anchor = title.lower()
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{title} that differ</h2>'
        f'<p class="note">{origin}</p>{"".join(parts)}</section>'
    )
