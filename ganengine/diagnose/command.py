"""The command `ganengine diagnose`: what each diagnosis takes, and how its outcome is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ganengine.commands.arguments import parse
from ganengine.errors import UserError, nearest

if TYPE_CHECKING:
    from ganengine.diagnose.d_optimum import Optimum
    from ganengine.diagnose.modes import Contender, Tick

USAGE = """usage: ganengine diagnose d-optimum [--mean M] [--out FILE] [--json]
       ganengine diagnose modes NAME ... [--data ring|grid25] [--minutes M] [--out DIR] [--json]

Play small games whose outcome is known. `ganengine diagnose WHAT --help` tells more."""


@dataclass(frozen=True)
class DOptimum:
    """Options of `diagnose d-optimum`."""

    mean: float = 1.0
    """Mean of p_G = N(mean, 1), beside p_G = p_data = N(0, 1)."""
    seed: int = 0
    """Everything random follows from it."""
    out: Path = Path("d-optimum.png")
    """Picture to write."""
    overwrite: bool = False
    """Replace a picture that is there already."""
    plot: bool = True
    """Draw the curves."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class ModesOptions:
    """Options of `diagnose modes`."""

    names: tyro.conf.Positional[tuple[str, ...]]
    """Variants; one with options of its own in quotes: "gan --lr 0.001"."""
    data: str = "ring"
    """ring (8 Gaussians), ring:MODES, or grid25."""
    minutes: float = 5.0
    """How long each variant is trained."""
    steps: int | None = None
    """How many steps each variant is trained, instead of minutes: the same numbers each time."""
    ticks: int = 20
    """How often each is measured."""
    collapse_share: float = 0.5
    """Coverage below this share of the modes is low."""
    collapse_ticks: int = 3
    """So many low ticks in a row are a collapse."""
    seed: int = 0
    """Everything random follows from it."""
    threads: int | None = None
    """CPU threads; None: one per core."""
    out: Path | None = None
    """Folder to write to; default runs/modes-DATA, then -2, -3. One that exists is an error."""
    json: bool = False
    """Print one JSON object."""


def diagnose(argv: Sequence[str]) -> int:
    """Dispatch `ganengine diagnose WHAT`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    diagnoses = {"d-optimum": d_optimum, "modes": modes}
    if argv[0] not in diagnoses:
        raise UserError(f'expected one of {", ".join(diagnoses)}, got "{argv[0]}".{nearest(argv[0], diagnoses)}')
    return diagnoses[argv[0]](argv[1:])


# ----------------------------------------------------------------------------------------------------------------
# d-optimum


def d_optimum(argv: Sequence[str]) -> int:
    """Train D against frozen densities and tell how near it comes to D*; status 1 where it does not."""
    options = parse(DOptimum, argv, "ganengine diagnose d-optimum", "Does D reach the optimum that theory states?")
    if not abs(options.mean) <= 4:
        raise UserError(f"--mean: expected a number from -4 to 4, got {options.mean}.")
    from ganengine.commands.outputs import check_outputs
    from ganengine.diagnose.d_optimum import CAVEATS, TOLERANCE, optimum
    from ganengine.diagnose.pictures import check_plots, plot_optima

    if options.plot:
        check_outputs([options.out], options.overwrite)
        check_plots()
    optima = [optimum(mean, options.seed) for mean in dict.fromkeys((options.mean, 0.0))]
    if options.plot:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        plot_optima(options.out, optima)
    if options.json:
        record = {
            "schema": 1,
            "cases": [_case(found) for found in optima],
            "tolerance": TOLERANCE,
            "caveats": CAVEATS,
            "picture": str(options.out) if options.plot else None,
        }
        print(json.dumps(record))
    else:
        _print_optima(optima)
        if options.plot:
            print(options.out)
    return 1 if any(found.missed for found in optima) else 0


def _case(found: Optimum) -> dict[str, Any]:
    return {
        "p_data": "N(0, 1)",
        "p_G": f"N({found.mean:g}, 1)",
        "jsd": found.jsd,
        "found": found.found,
        "best": found.best,
        "missed": found.missed,
    }


def _print_optima(optima: Sequence[Optimum]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ganengine.diagnose.d_optimum import CAVEATS, TOLERANCE

    meanings = {
        "slope": "slope of D's logit",
        "intercept": "intercept of D's logit",
        "loss": "D's loss (sum)",
        "deviation": "largest |D - D*|",
    }
    console = Console(highlight=False)
    for found in optima:
        table = Table(title=f"p_data = N(0, 1), p_G = N({found.mean:g}, 1), JSD {found.jsd:.4f} nats")
        for heading in ("", "D", "D*", "within", ""):
            table.add_column(heading, justify="right" if heading else "left")
        for name, bound in TOLERANCE.items():
            verdict = "missed" if name in found.missed else "reached"
            table.add_row(meanings[name], f"{found.found[name]:.4f}", f"{found.best[name]:.4f}", f"{bound:g}", verdict)
        console.print(table)
    for caveat in CAVEATS:
        console.print(caveat, soft_wrap=True)


# ----------------------------------------------------------------------------------------------------------------
# modes


def modes(argv: Sequence[str]) -> int:
    """Train variants on a mixture of Gaussians and tell which modes they reach; status 1 where one could not go on."""
    options = parse(ModesOptions, argv, "ganengine diagnose modes", "Which modes does a variant reach?")
    _check(options)
    from ganengine.config import Budget
    from ganengine.diagnose.modes import compete, contenders
    from ganengine.metrics.modes import CollapseDetector
    from ganengine.plugins import registry
    from ganengine.runfolder import RunFolder, write_whole

    detector = CollapseDetector(options.collapse_share, options.collapse_ticks)
    RunFolder.check_free(options.out)
    rivals = contenders(options.names, options.data, options.seed, options.threads, registry())
    ticks = options.ticks
    if options.steps is not None:
        goals = [Budget(max_steps=(place + 1) * options.steps // ticks) for place in range(ticks)]
    else:
        goals = [Budget(max_minutes=options.minutes / ticks)] * ticks
    out = options.out or _free(Path("runs") / f"modes-{options.data.replace(':', '-').replace(',', '-')}")

    def told(rival: Contender, tick: Tick) -> None:
        if not options.json:
            print(_row(rival, tick), flush=True)

    stopped = compete(rivals, out, goals, detector, told)
    record = {
        "schema": 1,
        "data": options.data,
        "seed": options.seed,
        "modes": len(rivals[0].ticks[0].modes.counts),
        "variants": [rival.record() for rival in rivals],
        "pictures": [str(out / "modes.png"), str(out / "modes.gif")],
    }
    write_whole(out / "modes.json", (json.dumps(record) + "\n").encode())
    if options.json:
        print(json.dumps(record))
    else:
        _print_modes(rivals)
        print(out / "modes.png", out / "modes.gif", sep="\n")
    return 128 + stopped if stopped else 1 if any(rival.fault for rival in rivals) else 0


def _check(options: ModesOptions) -> None:
    if not options.names:
        raise UserError("expected names of variants, as in `ganengine diagnose modes gan wgan-gp`; got none.")
    for name in ("minutes", "steps", "ticks"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name}: expected a number above 0, got {value}.")
    if options.steps is not None and options.steps < options.ticks:
        raise UserError(f"--steps: expected at least --ticks ({options.ticks}), got {options.steps}.")


def _free(path: Path) -> Path:
    """Return `path`, or path-2, path-3 ...: the first that is free."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _row(rival: Contender, tick: Tick) -> str:
    counts = len(tick.modes.counts)
    told = f"{rival.name:<24} {tick.seconds:7.1f} s {tick.step:8d} steps"
    told += f" {tick.modes.covered:3d} of {counts} modes {tick.modes.good:6.1%} good"
    return told + ("  COLLAPSED" if tick.collapsed else "")


def _print_modes(rivals: Sequence[Contender]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="modes covered, good samples")
    for heading in ("variant", "most", "at the end", "good", "steps", "collapse"):
        table.add_column(heading, justify="left" if heading in ("variant", "collapse") else "right")
    for rival in rivals:
        if not rival.ticks:
            continue
        last = rival.ticks[-1]
        first = next((tick for tick in rival.ticks if tick.collapsed), None)
        fate = rival.fault or (f"flagged at step {first.step}" if first else "none")
        most = max(tick.modes.covered for tick in rival.ticks)
        table.add_row(rival.name, str(most), str(last.modes.covered), f"{last.modes.good:.1%}", str(last.step), fate)
    console = Console(highlight=False)
    console.print(table)
    console.print("One sees only what is generated, not what is missed: trust covered modes, not single samples.")
