"""Draw how many times the fused ops are faster, from what `ganengine bench ops --json` printed.

    ganengine bench ops --json > ops.json
    python benches/ops/plot_ratios.py ops.json docs/pictures/ops.png [--dtype bfloat16] [--pass forward]

It needs matplotlib: `pip install 'ganengine[report]'`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OPPONENTS = {"eager": "#4c72b0", "compile": "#dd8452"}
LEGEND = {"eager": "eager PyTorch", "compile": "torch.compile"}


def wanted(record: dict[str, Any], dtype: str, which: str) -> list[dict[str, Any]]:
    """Return the rows to draw: those of a dtype and pass in which a fused op was measured; not those of the null op."""
    rows = [row for row in record["cases"] if row["dtype"] == dtype and row["pass"] == which and row["op"] != "null"]
    return [row for row in rows if row["ratio_eager"] is not None]


def label(row: dict[str, Any]) -> str:
    """Return what a row is, on one line."""
    parts = [row["case"], "x".join(map(str, row["shape"]))]
    if row["op"] == "maxout":
        parts[1] = f"batch {row['shape'][0]}"
    if row["layout"] == "channels_last":
        parts.append("channels-last")
    return ", ".join(parts)


def draw(record: dict[str, Any], rows: Sequence[dict[str, Any]], out: Path, title: str) -> None:
    """Write the picture: a group of bars per row, a panel per op."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    by_op: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_op.setdefault(row["op"], []).append(row)
    heights = [len(group) for group in by_op.values()]
    figure, axes = plt.subplots(
        len(by_op),
        1,
        figsize=(9, 1.6 + 0.34 * sum(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (op, group) in zip(axes[:, 0], by_op.items(), strict=True):
        for shift, (name, colour) in zip((-0.2, 0.2), OPPONENTS.items(), strict=True):
            ratios = [row[f"ratio_{name}"] for row in group]
            bars = axis.barh(
                [place + shift for place in range(len(group))],
                [ratio or 0 for ratio in ratios],
                0.38,
                color=colour,
                label=f"{LEGEND[name]} / fused",
            )
            axis.bar_label(bars, ["" if r is None else f"{r:.1f}" for r in ratios], padding=2, fontsize=7)
        axis.set_yticks(range(len(group)), [label(row) for row in group], fontsize=8)
        axis.set_ylim(len(group) - 0.5, -0.5)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(op, loc="left", fontsize=9, fontweight="bold")
    axes[0, 0].legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    machine = record["machine"]
    axes[-1, 0].set_xlabel(
        f"{title}: times as fast as; 1 is equal\n{machine['cpu']}, {machine['threads']} thread(s), torch "
        f"{machine['torch']}",
        fontsize=8,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def main() -> int:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="what `ganengine bench ops --json` printed")
    parser.add_argument("out", type=Path, help="the picture, .png or .svg")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--pass", dest="which", default="forward+backward", choices=("forward", "forward+backward"))
    args = parser.parse_args()
    record = json.loads(args.json.read_text(encoding="utf-8"))
    rows = wanted(record, args.dtype, args.which)
    if not rows:
        print(f"{args.json}: no fused op was measured in {args.dtype}, {args.which}: nothing to draw.", file=sys.stderr)
        return 2
    draw(record, rows, args.out, f"{args.which}, {args.dtype}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
