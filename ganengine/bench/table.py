"""Rows of the bench as tables that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganengine.bench.case import FORWARD
from ganengine.bench.machine import COMPILED

_IDLE = 0.5
"""Load below which nothing else of weight was running."""
_WIDTH = 180
"""Columns where the output is no terminal: nothing is broken over two lines."""


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print machine, a table per op, and why something is missing."""
    if not console.is_terminal:
        console = Console(file=console.file, width=_WIDTH, highlight=False)
    machine = record["machine"]
    console.print(
        f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}, on {machine['device']}, copies "
        f"{machine['copy_gb_s']:.1f} GB/s",
        markup=False,
    )
    for state in dict.fromkeys(machine["kernels"].values()):
        those = ", ".join(op for op, its in machine["kernels"].items() if its == state)
        told = "compiled" if state == COMPILED else f"none ({state})"
        console.print(f"kernels for {those}: {told}", markup=False, soft_wrap=True)
    if (machine["load"] or 0) > _IDLE:
        console.print(
            f"The machine was busy before this (load {machine['load']:.1f}): expect times that scatter.", style="yellow"
        )
    notes: dict[str, dict[str, None]] = {}
    for op, rows in groupby(record["cases"], key=lambda row: str(row["op"])):
        console.print(_table(op, list(rows), notes))
    console.print(
        "ms, median and half the distance of the quartiles; x: how many times the fused op is faster; / floor: fused "
        "over floor; error: largest |fused - float64| / max |float64|; MB: peak of fused / eager; cl: channels-last.",
        style="dim",
    )
    for reason, concerned in notes.items():
        console.print(f"* {', '.join(concerned)}: {reason}", markup=False, soft_wrap=True)


def _table(op: str, rows: Sequence[Mapping[str, Any]], notes: dict[str, dict[str, None]]) -> Table:
    table = Table(title=op, title_justify="left", title_style="bold")
    for name in ("case", "shape", "dtype", "pass"):
        table.add_column(name, overflow="fold")
    for name in ("eager", "compile", "fused", "floor", "x eager", "x compile", "/ floor", "error", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row["reason"]:
            notes.setdefault(row["reason"], {})[op] = None
        layout = " cl" if row["layout"] == "channels_last" else ""
        fused, floor = row["fused_ms"], row["floor_ms"]
        table.add_row(
            escape(row["case"]),
            "x".join(map(str, row["shape"])),
            {"float32": "f32", "bfloat16": "bf16"}.get(row["dtype"], row["dtype"]) + layout,
            "fwd" if row["pass"] == FORWARD else "fwd+bwd",
            *(_time(row[f"{way}_ms"]) for way in ("eager", "compile", "fused", "floor")),
            _ratio(row["ratio_eager"]),
            _ratio(row["ratio_compile"]),
            _ratio(fused["median"] / floor["median"] if fused and floor else None),
            "-" if row["max_error"] is None else f"{row['max_error']:.0e}",
            f"{_megabytes(row['peak_bytes'])} / {_megabytes(row['peak_bytes_eager'])}",
            style="red" if row["error"] else None,
        )
    return table


def _time(spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return "-"
    half = (spread["p75"] - spread["p25"]) / 2
    return f"{_short(spread['median'])} +-{100 * half / spread['median']:.0f}%"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _megabytes(count: int | None) -> str:
    return "-" if count is None else _short(count / 1e6)
