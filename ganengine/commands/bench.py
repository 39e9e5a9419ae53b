"""`ganengine bench`: the fused ops against eager PyTorch and torch.compile, a variant's step against its plain loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ganengine.commands.arguments import parse
from ganengine.config import take_options
from ganengine.errors import UserError, nearest

USAGE = """usage: ganengine bench ops [--op NAME] [--quick] [--device DEVICE] [--json]
       ganengine bench train VARIANT [DATA] [--rounds N] [--seconds S] [--against auto|baseline|nothing] [--json]
                             [options of `ganengine run`]

Measure, on this machine: ops, the fused ops against eager PyTorch and torch.compile; train, the whole step of a
variant, against its plugin's plain loop where it has one."""


@dataclass(frozen=True)
class _Options:
    op: (
        Literal[
            "conditional_batch_norm",
            "patchgan_loss",
            "maxout",
            "instance_norm",
            "im2col",
            "convolution",
            "spectral_norm",
            "merged_kernels",
            "skinny_product",
            "null",
        ]
        | None
    ) = None
    """Measure this op only; None: all. im2col: a convolution by it; null does nothing: what any op costs."""
    quick: bool = False
    """One shape per op, few rounds, without torch.compile: seconds instead of minutes."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class _TrainOptions:
    rounds: int = 9
    """Blocks of steps of each side, in turn."""
    seconds: float = 3.0
    """How long a block lasts about."""
    against: Literal["auto", "baseline", "nothing"] = "auto"
    """What to compare with: the plugin's plain loop; auto: where it has one."""
    json: bool = False
    """Print one JSON object."""


def bench(argv: Sequence[str]) -> int:
    """Dispatch `ganengine bench WHAT`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    kinds = {
        "ops": lambda: _ops(parse(_Options, argv[1:], "ganengine bench ops", "Time the fused ops against PyTorch's.")),
        "train": lambda: _train(argv[1:]),
    }
    if argv[0] not in kinds:
        raise UserError(f'expected ganengine bench {" or ".join(kinds)}, got "{argv[0]}".{nearest(argv[0], kinds)}')
    return kinds[argv[0]]()


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


def _train(argv: Sequence[str]) -> int:
    rest, taken = take_options([word for word in argv if word != "--json"], ("rounds", "seconds", "against"))
    own = [word for name, values in taken.items() if values for word in (f"--{name}", values[-1])]
    flags = [word for word in ("--json", "--help", "-h") if word in argv]
    options = parse(_TrainOptions, [*own, *flags], "ganengine bench train", "Measure a variant's whole step.")
    if not rest or rest[0].startswith("-"):
        raise UserError("expected the name of a variant, as in `ganengine bench train pix2pix`; got none.")
    if options.rounds < 2:
        raise UserError(f"--rounds: expected at least 2, got {options.rounds}.")
    if not 0 <= options.seconds <= 3600:
        raise UserError(f"--seconds: expected a number from 0 to 3600, got {options.seconds}.")
    from rich.console import Console

    from ganengine.bench.train import measure, plan, show
    from ganengine.config import parse as parse_run
    from ganengine.display import bar
    from ganengine.plugins import registry

    parse_run(registry().variant(rest[0]), rest[1:], f"ganengine bench train {rest[0]}")
    against = plan(rest, options.against)
    shown = bar("measuring")
    record = measure(rest, against=against, rounds=options.rounds, seconds=options.seconds, progress=shown)
    show(record, Console(stderr=options.json, highlight=False))
    if options.json:
        print(json.dumps(record))
    return 0
