"""Which curves a report draws, with what beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ganengine.report.history import Column, History

Lines = Mapping[str, Mapping[str, float]]
"""Values at equilibrium by group and name, as `Variant.equilibrium` gives them."""


@dataclass(frozen=True)
class Chart:
    """One chart: curves over one axis."""

    section: str
    """Heading that it stands below."""
    title: str
    note: str
    """What it shows, in a few words."""
    curves: Mapping[str, Column]
    """Values by label."""
    lines: tuple[float, ...] = ()
    """Where the curves stand at equilibrium."""
    scale: str = ""
    """switch: linear or logarithmic, as the reader chooses; log: always logarithmic; share: from 0 to 1."""

    def summary(self) -> str:
        """Return what a reader who does not see the curves needs of them."""
        told = []
        for name, values in self.curves.items():
            known = [value for value in values if value is not None]
            if known:
                told.append(
                    f"{name}: first {known[0]:.4g}, last {known[-1]:.4g}, from {min(known):.4g} to {max(known):.4g}"
                )
            else:
                told.append(f"{name}: no finite value")
        told += [f"equilibrium at {value:.4g}" for value in self.lines]
        return "; ".join(told)

    def record(self, rows: list[int]) -> dict[str, Any]:
        """Return what the page's script draws, of these rows of the log."""
        curves = [
            {"name": name, "values": [_short(values[row]) for row in rows]} for name, values in self.curves.items()
        ]
        return {"curves": curves, "lines": list(self.lines), "scale": self.scale}


def charts(history: History, lines: Lines) -> list[Chart]:
    """Return the charts of a run in the order of a page, without those that would be empty."""
    series = history.series
    found = []
    if series["d"]:
        levels = {value for name, value in lines.get("d", {}).items() if name in series["d"]}
        share = all(v is None or 0 <= v <= 1 for values in series["d"].values() for v in values)
        note = "mean over the samples since the last line" + (" (1: D takes it for real)" if 0.5 in levels else "")
        curves = {f"D({name})": values for name, values in series["d"].items()}
        scale = "share" if share and 0.5 in levels else ""
        found.append(Chart("What D says", ", ".join(curves), note, curves, tuple(sorted(levels)), scale))
    found += _losses(series["loss"], lines.get("loss", {}))
    found += [
        Chart("Measured state", name, "steers the schedule", {name: values}) for name, values in series["state"].items()
    ]
    if series["lr"]:
        curves = {f"lr {name}": values for name, values in series["lr"].items()}
        found.append(Chart("Learning rates", ", ".join(curves), "rate of each optimizer", curves, scale="log"))
    return found + _machine(series["time"])


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
        found.append(Chart("Losses", name, note, {name: values}, level, "switch"))
    return found


def _machine(columns: Mapping[str, Column]) -> list[Chart]:
    told = {
        "images_per_s": ("speed", "images per second"),
        "data_wait": ("waiting for data", "share of the time since this command began to train"),
        "memory_mb": ("memory", "most that the process has held, MiB"),
        "gpu_memory_mb": ("memory of the GPU", "most that tensors have held, MiB"),
    }
    return [
        Chart("Machine", title, note, {name: columns[name]}, scale="share" if name == "data_wait" else "")
        for name, (title, note) in told.items()
        if name in columns
    ]


def _short(value: float | None) -> float | None:
    """Return a value with as many digits as a drawing can show."""
    return None if value is None else float(f"{value:.6g}")
