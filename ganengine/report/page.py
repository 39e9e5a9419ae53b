"""Put a run's files together as one HTML page. Every value is escaped where it enters the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

from ganengine.plugins import words
from ganengine.report.charts import Chart, charts
from ganengine.report.document import curve_data, document
from ganengine.report.frames import Frame
from ganengine.report.history import History, number
from ganengine.report.reading import Reading, read_run
from ganengine.report.words import duration, flat, word
from ganengine.runfolder import RunFolder

NOTES = 100
"""So many of the newest notes are shown."""

Rows = Iterable[tuple[str, str]]


def page(folder: RunFolder) -> bytes:
    """Return the report of a run as UTF-8.

    Raises:
        UserError: config.yaml is damaged. Anything else that is missing or damaged is told in the report.
    """
    run = read_run(folder)
    drawn = charts(run.history, run.lines)
    body = [
        _header(run),
        _tiles(run),
        warnings_section(run.warnings, run.notes),
        f'<div class="columns{"" if run.frames else " single"}">',
        _previews(run.frames, run.previews),
        curves_section(drawn),
        "</div>",
        _figures(run.history, drawn),
        _next(run),
        _table("Configuration", "config.yaml", flat(run.options)),
        _table("Environment", "environment.json", flat(run.environment)),
    ]
    return document(f"{run.name} - {run.options['variant']}", body, curve_data([run.history], drawn))


# ----------------------------------------------------------------------------------------------------------------
# Parts of the page, from top to bottom


def _header(run: Reading) -> str:
    about = escape(f"{run.variant.summary} {run.variant.paper}".strip()) if run.variant else ""
    images, horizon = run.images, run.horizon
    bar = ""
    if horizon and horizon > 0:
        done = min(1.0, images / horizon)
        told = f"{images:,.0f} of {horizon:,.0f} images"
        bar = (
            f'<p class="progress"><progress max="1" value="{done:.4f}" aria-label="{told}">{done:.0%}</progress> '
            f"<span>{told}, {done:.0%} of what the run is planned for</span></p>"
        )
    return (
        f'<header><h1>{escape(run.name)} <span class="variant">{escape(run.options["variant"])}</span></h1>'
        f"<p>{about}</p>{bar}</header>"
    )


def _tiles(run: Reading) -> str:
    tiles: list[tuple[str, str]] = []
    history, environment = run.history, run.environment
    if len(history):
        tiles.append(("steps", f"{history.step[-1]:,.0f}"))
        tiles.append(("images", f"{history.images[-1]:,.0f}"))
        for label, value, form in (
            ("passes over the data", next((v for v in reversed(history.epoch) if v is not None), None), "{:.2f}"),
            ("training time", run.last("elapsed_s"), "clock"),
            ("images per second", run.last("images_per_s"), "{:.1f}"),
            ("waiting for data", run.last("data_wait"), "{:.2%}"),
            ("memory", run.last("memory_mb"), "{:,.0f} MiB"),
            ("memory of the GPU", run.last("gpu_memory_mb"), "{:,.0f} MiB"),
        ):
            if value is not None:
                tiles.append((label, duration(value) if form == "clock" else form.format(value)))
        tiles.append(("updates left out", f"{history.skipped[-1]:,.0f}"))
    parameters = environment.get("parameters")
    for name, count in islice(parameters.items(), 8) if isinstance(parameters, dict) else ():
        size = number(count)
        if size is not None:
            tiles.append((f"parameters of {name}", f"{size / 1e6:.2f} M" if size >= 1e5 else f"{size:,.0f}"))
    machine = [word(environment[key]) for key in ("device", "precision") if key in environment]
    if machine:
        tiles.append(("trained on", ", ".join(machine)))
    if not tiles:
        return ""
    cells = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def warnings_section(warnings: Sequence[str], notes: Sequence[str]) -> str:
    """Return what went wrong, and what was said meanwhile."""

    def listed(items: Sequence[str]) -> str:
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"

    parts = [f'<div class="alert">{listed(warnings)}</div>' if warnings else "<p>None.</p>"]
    if notes:
        count = f"{len(notes):,}" + (f", the last {NOTES} shown" if len(notes) > NOTES else "")
        shown = listed(notes[-NOTES:])
        parts.append(f"<details><summary>Notes while it trained ({count})</summary>{shown}</details>")
    calm = "" if warnings or notes else ' class="calm"'
    return f'<section{calm} aria-labelledby="warnings"><h2 id="warnings">Warnings</h2>{"".join(parts)}</section>'


def _previews(frames: list[Frame], previews: int) -> str:
    if not frames:
        return (
            '<section class="previews" aria-labelledby="previews"><h2 id="previews">Preview</h2>'
            "<p>There are no previews: none was made yet, or the run was started with --preview 0.</p></section>"
        )
    some = f", {len(frames)} of {previews} previews" if len(frames) < previews else ""
    return (
        '<section class="previews" aria-labelledby="previews"><h2 id="previews">Preview over time</h2>'
        f"{player(len(frames), frames[-1].images, some)}"
        f'<div class="frames" id="frames" data-frames>{pictures(frames)}</div></section>'
    )


def player(stops: int, images: int, more: str = "") -> str:
    """Return the controls of the previews, at the last of so many stops."""
    last = stops - 1
    return (
        '<div class="player" id="player" hidden>'
        '<button type="button" id="play">Play</button>'
        f'<input type="range" id="frame" min="0" max="{last}" value="{last}" step="1" aria-label="Preview to show">'
        '<button type="button" id="enlarge" aria-pressed="false">Enlarge</button></div>'
        f'<p class="caption"><output id="shown" for="frame">after {images:,} images</output>{more}</p>'
    )


def pictures(frames: Sequence[Frame], of: str = "") -> str:
    """Return the previews of one run as pictures, of which the last is to be seen."""
    found = []
    for frame in frames:
        style = ' class="pixels"' if frame.zoom > 1 else ""
        found.append(
            f'<img{style} src="{frame.uri}" width="{frame.width * frame.zoom}" height="{frame.height * frame.zoom}" '
            f'alt="Preview{of} after {frame.images:,} images" data-images="{frame.images}"'
            f"{'' if frame is frames[-1] else ' hidden'}>"
        )
    return "".join(found)


def curves_section(drawn: Sequence[Chart]) -> str:
    """Return the places that the page's script draws curves in, and what a reader who does not see them needs."""
    if not drawn:
        return (
            '<section class="curves" aria-labelledby="curves"><h2 id="curves">Curves</h2><p>The log has no line yet: '
            "the first is written after --tick-every steps.</p></section>"
        )
    axes = "".join(f'<option value="{axis}">{axis}</option>' for axis in ("images", "steps", "minutes"))
    parts = [
        '<section class="curves" aria-labelledby="curves"><h2 id="curves">Curves</h2>',
        '<form class="controls" id="controls" hidden>',
        '<label><input type="checkbox" id="log"> logarithmic losses</label>',
        f'<label>over <select id="axis">{axes}</select></label></form>',
        "<noscript><p>A script draws the curves, and scripts are off here. The figures stand below.</p></noscript>",
    ]
    section = ""
    for index, chart in enumerate(drawn):
        if chart.section != section:
            parts.append(("</div>" if section else "") + f'<h3>{escape(chart.section)}</h3><div class="charts">')
            section = chart.section
        parts.append(
            f'<figure data-chart="{index}"><figcaption><b>{escape(chart.title)}</b> '
            f'<span class="note">{escape(chart.note)}</span></figcaption>'
            f'<div class="plot" role="img" aria-label="{escape(chart.summary())}"></div>'
            '<p class="legend" aria-hidden="true"></p></figure>'
        )
    return "".join(parts) + "</div></section>"


def _figures(history: History, drawn: list[Chart]) -> str:
    """Return the curves' figures as a table: what a screen reader, a search and a copy want."""
    rows = []
    for chart in drawn:
        for curve in chart.curves:
            known = [value for value in curve.values if value is not None]
            cells = [known[0], known[-1], min(known), max(known)] if known else [None] * 4
            level = f"{chart.lines[0]:.4g}" if len(chart.lines) == 1 else "-"
            told = "".join(f"<td>{'-' if value is None else f'{value:,.4g}'}</td>" for value in cells)
            rows.append(
                f'<tr><th scope="row">{escape(curve.name)}</th><td class="what">{escape(chart.note)}</td>{told}'
                f"<td>{level}</td></tr>"
            )
    if not rows:
        return ""
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("", "what", "first", "last", "least", "most", "equilibrium")
    )
    return (
        '<section aria-labelledby="figures"><h2 id="figures">Figures</h2>'
        f'<p class="note">From {len(history):,} line(s) of log.jsonl.</p>'
        f'<div class="wide"><table class="figures"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _next(run: Reading) -> str:
    plugin = run.environment.get("plugin")
    name = shlex.quote(str(run.folder)) + words(plugin if isinstance(plugin, list) else [])
    horizon = number(run.environment.get("horizon"))
    further = f" --max-images {2 * run.images:.0f}" if horizon and run.images >= horizon else ""
    commands = [("Go on with the training", f"ganengine resume {name}{further}")]
    commands.append(("Draw pictures", f"ganengine sample {name}"))
    record = run.environment.get("data")
    fields = record.get("fields") if isinstance(record, dict) else None
    kinds = (
        [field.get("kind") for field in fields.values() if isinstance(field, dict)] if isinstance(fields, dict) else []
    )
    if "points" in kinds:
        commands.append(("Measure it on held-out data", f"ganengine eval {name} --split test"))
    if kinds.count("image") >= 2:
        commands.append(("Use it on other pictures", f"ganengine translate {name} IN OUT"))
        commands.append(("Measure it on held-out data", f"ganengine eval {name} --split test --metrics l1,psnr"))
    commands.append(("Write this report again", f"ganengine report {name} --overwrite"))
    rows = "".join(f"<dt>{label}</dt><dd><code>{escape(command)}</code></dd>" for label, command in commands)
    return f'<section aria-labelledby="next"><h2 id="next">Go on</h2><dl class="commands">{rows}</dl></section>'


def _table(title: str, origin: str, rows: Rows) -> str:
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    anchor = title.lower()
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{title}</h2><p class="note">{origin}</p>'
        f'<dl class="options">{cells}</dl></section>'
    )
