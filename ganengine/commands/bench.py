"""`ganengine bench ops`: the fused ops against eager PyTorch and torch.compile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ganengine.commands.arguments import parse
from ganengine.errors import UserError, nearest

USAGE = """usage: ganengine bench ops [--op NAME] [--quick] [--device DEVICE] [--json]

Time the fused ops against eager PyTorch and torch.compile, on this machine."""


@dataclass(frozen=True)
class _Options:
    op: Literal["conditional_batch_norm", "patchgan_loss", "maxout", "null"] | None = None
    """Measure this op only; None: all. null does nothing: what any op costs."""
    quick: bool = False
    """One shape per op, few rounds, without torch.compile: seconds instead of minutes."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    json: bool = False
    """Print one JSON object."""


def bench(argv: Sequence[str]) -> int:
    """Dispatch `ganengine bench WHAT`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if argv[0] != "ops":
        raise UserError(f'expected `ganengine bench ops`, got "{argv[0]}".{nearest(argv[0], ["ops"])}')
    return _ops(parse(_Options, argv[1:], "ganengine bench ops", "Time the fused ops against PyTorch's own."))


def _ops(options: _Options) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ganengine.bench.cases import MODULES, cases
    from ganengine.bench.machine import machine
    from ganengine.bench.ops import measure, measuring, torch_compile
    from ganengine.bench.table import show
    from ganengine.bench.timing import FULL, QUICK
    from ganengine.hardware import choose_device

    device = choose_device(options.device)
    table = cases([options.op] if options.op else tuple(MODULES), quick=options.quick)
    effort, compiler = (QUICK, None) if options.quick else (FULL, torch_compile)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    rows: list[dict[str, Any]] = []
    # Redrawn once per case: a thread that draws would be measured too.
    with measuring(), Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("the machine", total=len(table))
        record = {"schema": 1, "machine": machine(device), "cases": rows}
        for case in table:
            bar.update(task, description=str(case), refresh=True)
            rows += measure(case, device, effort, compiler)
            bar.advance(task)
    show(record, Console(stderr=options.json, highlight=False))
    if options.json:
        print(json.dumps(record))
    return 1 if any(row["error"] for row in rows) else 0
