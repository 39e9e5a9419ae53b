"""Put a run's files together as one HTML page: style, script, data and pictures are all inside.

Every value is escaped where it enters the page, and the page's own policy lets nothing run but its script and nothing
be loaded at all.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from itertools import islice
from pathlib import PurePath
from typing import Any

from ganengine import __version__
from ganengine.errors import UserError
from ganengine.losses.equilibrium import equilibrium
from ganengine.plugins import registry
from ganengine.report.charts import Chart, Lines, charts
from ganengine.report.frames import Frame, read_frames
from ganengine.report.history import History, number, read_history, thin
from ganengine.runfolder import RunFolder
from ganengine.variant import Variant

ROWS = 400
"""At most so many rows of a table of options."""
NOTES = 100
"""So many of the newest notes are shown."""

Rows = Iterable[tuple[str, str]]


def page(folder: RunFolder) -> bytes:
    """Return the report of a run as UTF-8.

    Raises:
        UserError: config.yaml is damaged. Anything else that is missing or damaged is told in the report.
    """
    options = folder.read_options()
    history = read_history(folder.log)
    frames, previews, faults = read_frames(folder.samples)
    environment, told = _environment(folder)
    variant, lines, more = _variant(folder, options)
    warnings = [*_skipped(history), *history.faults, *faults, *told, *more]
    drawn = charts(history, lines)
    name = folder.path.resolve().name
    body = [
        _header(name, options, variant, history, environment),
        _tiles(history, environment),
        _warnings(warnings, _notes(folder)),
        f'<div class="columns{"" if frames else " single"}">',
        _previews(frames, previews),
        _curves(drawn),
        "</div>",
        _figures(history, drawn),
        _next(folder, history, environment),
        _table("Configuration", "config.yaml", flat(options)),
        _table("Environment", "environment.json", flat(environment)),
    ]
    title = f"{name} - {options['variant']}"
    return _document(title, "\n".join(body), _data(history, drawn)).encode("utf-8", "replace")


# ----------------------------------------------------------------------------------------------------------------
# What is read beside the log and the previews


def _environment(folder: RunFolder) -> tuple[dict[str, Any], list[str]]:
    path = folder.path / "environment.json"
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ["environment.json is missing: what the run was trained on is not known."]
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return {}, ["environment.json is damaged: what the run was trained on is not known."]
    return record, []


def _notes(folder: RunFolder) -> list[str]:
    """Return what the user was told meanwhile."""
    found = []
    for raw in folder.notes.read_bytes().splitlines() if folder.notes.is_file() else ():
        with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError):
            note = json.loads(raw)
            found.append(f"Step {note['step']}: {note['text']}")
    return found


def _variant(folder: RunFolder, options: Mapping[str, Any]) -> tuple[Variant | None, Lines, list[str]]:
    """Return the run's variant where it is installed, the lines of equilibrium, and why they are not known."""
    by_name = equilibrium(str(options.get("adversarial")))
    level = None if by_name is None else by_name.reading
    lines: Lines = {} if level is None else {"d": {"real": level, "fake": level}}
    try:
        # A parser that does not know an option of the run prints its usage.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            settings = folder.read_config(registry())
    except (UserError, SystemExit):
        named = options["variant"]
        return None, lines, [f"Variant {named} with these options is not installed here: some lines may be missing."]
    variant = settings.variant
    if variant.equilibrium is None:
        return variant, lines, []
    try:
        stated = variant.builder("equilibrium")(settings.config)
        lines = {
            group: {name: float(value) for name, value in stated[group].items()}
            for group in ("loss", "d")
            if group in stated
        }
    except Exception as error:  # a plugin's code may raise anything
        return variant, lines, [f"Variant {variant.name}: its lines of equilibrium failed ({error})."]
    return variant, lines, []


def _skipped(history: History) -> list[str]:
    last = history.skipped[-1] if history.skipped else 0
    if not last:
        return []
    first = next(step for step, count in zip(history.step, history.skipped, strict=True) if count)
    told = f"{last:,.0f} update(s) were left out because a gradient was not finite, the first by step {first:,.0f}."
    return [f"{told} A smaller learning rate or --precision fp32 may help."]


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
        yield name, ", ".join(map(_word, value))
    else:
        yield name, _word(value)


def _word(value: Any) -> str:
    """Return one value as text; of an absolute path the end, since a report is made to be passed on."""
    if isinstance(value, str) and PurePath(value).is_absolute():
        return "/".join(("...", *PurePath(value).parts[1:][-2:]))
    return {True: "yes", False: "no", None: "-"}[value] if value is None or isinstance(value, bool) else str(value)


# ----------------------------------------------------------------------------------------------------------------
# Parts of the page, from top to bottom


def _header(
    name: str, options: Mapping[str, Any], variant: Variant | None, history: History, environment: Mapping[str, Any]
) -> str:
    about = escape(f"{variant.summary} {variant.paper}".strip()) if variant else ""
    images = history.images[-1] if history.images else 0.0
    horizon = number(environment.get("horizon")) or number(options.get("horizon"))
    bar = ""
    if horizon and horizon > 0:
        done = min(1.0, images / horizon)
        told = f"{images:,.0f} of {horizon:,.0f} images"
        bar = (
            f'<p class="progress"><progress max="1" value="{done:.4f}" aria-label="{told}">{done:.0%}</progress> '
            f"<span>{told}, {done:.0%} of what the run is planned for</span></p>"
        )
    return (
        f'<header><h1>{escape(name)} <span class="variant">{escape(options["variant"])}</span></h1>'
        f"<p>{about}</p>{bar}</header>"
    )


def _tiles(history: History, environment: Mapping[str, Any]) -> str:
    tiles: list[tuple[str, str]] = []
    if len(history):
        clock = history.series["time"]
        tiles.append(("steps", f"{history.step[-1]:,.0f}"))
        tiles.append(("images", f"{history.images[-1]:,.0f}"))
        for label, column, form in (
            ("passes over the data", history.epoch, "{:.2f}"),
            ("training time", clock.get("elapsed_s", []), "clock"),
            ("images per second", clock.get("images_per_s", []), "{:.1f}"),
            ("waiting for data", clock.get("data_wait", []), "{:.2%}"),
            ("memory", clock.get("memory_mb", []), "{:,.0f} MiB"),
            ("memory of the GPU", clock.get("gpu_memory_mb", []), "{:,.0f} MiB"),
        ):
            value = next((v for v in reversed(column) if v is not None), None)
            if value is not None:
                tiles.append((label, duration(value) if form == "clock" else form.format(value)))
        tiles.append(("updates left out", f"{history.skipped[-1]:,.0f}"))
    parameters = environment.get("parameters")
    for name, count in islice(parameters.items(), 8) if isinstance(parameters, dict) else ():
        size = number(count)
        if size is not None:
            tiles.append((f"parameters of {name}", f"{size / 1e6:.2f} M" if size >= 1e5 else f"{size:,.0f}"))
    machine = [_word(environment[key]) for key in ("device", "precision") if key in environment]
    if machine:
        tiles.append(("trained on", ", ".join(machine)))
    if not tiles:
        return ""
    cells = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _warnings(warnings: list[str], notes: list[str]) -> str:
    def listed(items: list[str]) -> str:
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
    last = len(frames) - 1
    pictures = []
    for index, frame in enumerate(frames):
        style = ' class="pixels"' if frame.zoom > 1 else ""
        pictures.append(
            f'<img{style} src="{frame.uri}" width="{frame.width * frame.zoom}" height="{frame.height * frame.zoom}" '
            f'alt="Preview after {frame.images:,} images" data-images="{frame.images}"'
            f"{'' if index == last else ' hidden'}>"
        )
    some = f", {len(frames)} of {previews} previews" if len(frames) < previews else ""
    return (
        '<section class="previews" aria-labelledby="previews"><h2 id="previews">Preview over time</h2>'
        '<div class="player" id="player" hidden>'
        '<button type="button" id="play">Play</button>'
        f'<input type="range" id="frame" min="0" max="{last}" value="{last}" step="1" aria-label="Preview to show">'
        '<button type="button" id="enlarge" aria-pressed="false">Enlarge</button></div>'
        f'<p class="caption"><output id="shown" for="frame">after {frames[-1].images:,} images</output>{some}</p>'
        f'<div class="frames" id="frames">{"".join(pictures)}</div></section>'
    )


def _curves(drawn: list[Chart]) -> str:
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
        for label, values in chart.curves.items():
            known = [value for value in values if value is not None]
            cells = [known[0], known[-1], min(known), max(known)] if known else [None] * 4
            level = f"{chart.lines[0]:.4g}" if len(chart.lines) == 1 else "-"
            told = "".join(f"<td>{'-' if value is None else f'{value:,.4g}'}</td>" for value in cells)
            rows.append(
                f'<tr><th scope="row">{escape(label)}</th><td class="what">{escape(chart.note)}</td>{told}'
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


def _next(folder: RunFolder, history: History, environment: Mapping[str, Any]) -> str:
    name = shlex.quote(str(folder))
    horizon, images = number(environment.get("horizon")), history.images[-1] if len(history) else 0.0
    further = f" --max-images {2 * images:.0f}" if horizon and images >= horizon else ""
    commands = [("Go on with the training", f"ganengine resume {name}{further}")]
    commands.append(("Draw pictures", f"ganengine sample {name}"))
    data = environment.get("data")
    fields = data.get("fields") if isinstance(data, dict) else None
    kinds = (
        [field.get("kind") for field in fields.values() if isinstance(field, dict)] if isinstance(fields, dict) else []
    )
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


# ----------------------------------------------------------------------------------------------------------------
# The document


def _data(history: History, drawn: list[Chart]) -> str:
    """Return the curves as JSON that cannot end the element it stands in."""
    rows = thin([values for _, _, values in history.columns()], len(history))
    seconds = history.series["time"].get("elapsed_s", [None] * len(history))
    record = {
        "x": {
            "images": [history.images[row] for row in rows],
            "steps": [history.step[row] for row in rows],
            "minutes": [None if (s := seconds[row]) is None else round(s / 60, 3) for row in rows],
        },
        "charts": [chart.record(rows) for chart in drawn],
    }
    text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _document(title: str, body: str, data: str) -> str:
    here = resources.files("ganengine.report")
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<footer>Written by ganengine {__version__}, {made}.</footer>\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
