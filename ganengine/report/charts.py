"""Which curves a report draws, with what beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ganengine.report.history import Column, History

Lines = Mapping[str, Mapping[str, float]]
"""Values at equilibrium by group and name, as `Variant.equilibrium` gives them."""


SECTIONS = ("What D says", "Losses", "Measured state", "Learning rates", "Machine")
"""Headings, in the order of a page."""


@dataclass(frozen=True)
class Curve:
    """Values of one quantity of one run."""

    name: str
    values: Column
    group: str
    key: str
    """By which group and name the log has it."""
    run: int = 0
    """Place of the run among those of the page."""
    colour: int = 0


@dataclass(frozen=True)
class Chart:
    """One chart: curves over one axis."""

    section: str
    """Heading that it stands below."""
    title: str
    note: str
    """What it shows, in a few words."""
    curves: tuple[Curve, ...]
    lines: tuple[float, ...] = ()
    """Where the curves stand at equilibrium."""
    scale: str = ""
    """switch: linear or logarithmic, as the reader chooses; log: always logarithmic; share: from 0 to 1."""
    owners: tuple[str, ...] = ()
    """Of which runs each line is, where they have different ones."""

    def summary(self) -> str:
        """Return what a reader who does not see the curves needs of them."""
        told = []
        for curve in self.curves:
            known = [value for value in curve.values if value is not None]
            if known:
                span = f"from {min(known):.4g} to {max(known):.4g}"
                told.append(f"{curve.name}: first {known[0]:.4g}, last {known[-1]:.4g}, {span}")
            else:
                told.append(f"{curve.name}: no finite value")
        told += [f"equilibrium at {value:.4g}" for value in self.lines]
        return "; ".join(told)

    def record(self, rows: Sequence[list[int]]) -> dict[str, Any]:
        """Return what the page's script draws, of these rows of each run's log."""
        curves = [
            {
                "name": curve.name,
                "values": [_short(curve.values[row]) for row in rows[curve.run]],
                "run": curve.run,
                "colour": curve.colour,
            }
            for curve in self.curves
        ]
        return {"curves": curves, "lines": list(self.lines), "owners": list(self.owners), "scale": self.scale}


def charts(history: History, lines: Lines) -> list[Chart]:
    """Return the charts of a run in the order of a page, without those that would be empty."""
    series = history.series
    found = []
    if series["d"]:
        levels = {value for name, value in lines.get("d", {}).items() if name in series["d"]}
        share = all(v is None or 0 <= v <= 1 for values in series["d"].values() for v in values)
        note = "mean over the samples since the last line" + (" (1: D takes it for real)" if 0.5 in levels else "")
        curves = _curves("d", series["d"], "D({})")
        scale = "share" if share and 0.5 in levels else ""
        found.append(Chart("What D says", _names(curves), note, curves, tuple(sorted(levels)), scale))
    found += _losses(series["loss"], lines.get("loss", {}))
    found += [
        Chart("Measured state", name, "steers the schedule", _curves("state", {name: values}))
        for name, values in series["state"].items()
    ]
    if series["lr"]:
        curves = _curves("lr", series["lr"], "lr {}")
        found.append(Chart("Learning rates", _names(curves), "rate of each optimizer", curves, scale="log"))
    return found + _machine(series["time"])


def overlay(runs: Sequence[tuple[str, History, Lines]]) -> list[Chart]:
    """Return a chart for each quantity with a curve for each run that has it: (label, history, lines) in the order of
    the page. A run has the same colour in all of them."""
    quantities: dict[tuple[str, str], list[Chart]] = {}
    for _, history, lines in runs:
        for chart in charts(history, lines):
            for curve in chart.curves:
                single = replace(chart, curves=(curve,), title=chart.title if len(chart.curves) == 1 else curve.name)
                quantities.setdefault((curve.group, curve.key), []).append(single)
    found = []
    for (group, key), alike in quantities.items():
        curves = tuple(
            Curve(label, history.series[group][key], group, key, run, run)
            for run, (label, history, _) in enumerate(runs)
            if key in history.series[group]
        )
        scales = {chart.scale for chart in alike}
        scale = scales.pop() if len(scales) == 1 else ""
        levels, owners = _levels(group, key, runs, curves)
        found.append(replace(alike[0], curves=curves, lines=levels, owners=owners, scale=scale))
    return sorted(found, key=lambda chart: SECTIONS.index(chart.section))


def _levels(
    group: str, key: str, runs: Sequence[tuple[str, History, Lines]], curves: Sequence[Curve]
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the lines of equilibrium of several runs, and whose each is where they are not those of all."""
    whose: dict[float, list[str]] = {}
    for curve in curves:
        label, _, lines = runs[curve.run]
        if key in lines.get(group, {}):
            whose.setdefault(lines[group][key], []).append(label)
    levels = tuple(sorted(whose))
    shared = all(len(names) == len(curves) for names in whose.values())
    return levels, () if shared else tuple(", ".join(whose[level]) for level in levels)


def _curves(group: str, columns: Mapping[str, Column], form: str = "{}") -> tuple[Curve, ...]:
    return tuple(
        Curve(form.format(name), values, group, name, colour=colour)
        for colour, (name, values) in enumerate(columns.items())
    )


def _names(curves: Sequence[Curve]) -> str:
    return ", ".join(curve.name for curve in curves)


def _losses(columns: Mapping[str, Column], lines: Mapping[str, float]) -> list[Chart]:
    """Return one chart for each term and each total; a total that is its only term shares that term's."""
    found = []
    for name, values in columns.items():
        phase, dot, term = name.partition(".")
        if dot:
            same = columns.get(phase) == values
            note = f"term {term} of phase {phase}" + (f", and {phase}, the phase's total" if same else ", unweighted")
        elif any(other.startswith(f"{name}.") and columns[other] == values for other in columns):
            continue
        else:
            note = f"total of phase {name}, terms weighted"
        level = (lines[name],) if name in lines else ()
        found.append(Chart("Losses", name, note, _curves("loss", {name: values}), level, "switch"))
    return found


def _machine(columns: Mapping[str, Column]) -> list[Chart]:
    told = {
        "images_per_s": ("speed", "images per second"),
        "data_wait": ("waiting for data", "share of the time since this command began to train"),
        "memory_mb": ("memory", "most that the process has held, MiB"),
        "gpu_memory_mb": ("memory of the GPU", "most that tensors have held, MiB"),
    }
    return [
        Chart(
            "Machine", title, note, _curves("time", {name: columns[name]}), scale="share" if name == "data_wait" else ""
        )
        for name, (title, note) in told.items()
        if name in columns
    ]


def _short(value: float | None) -> float | None:
    """Return a value with as many digits as a drawing can show."""
    return None if value is None else float(f"{value:.6g}")
