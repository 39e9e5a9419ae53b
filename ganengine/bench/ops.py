"""Measure a case: equality first, then eager PyTorch, torch.compile, the fused op and the floor in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ganengine import ops
from ganengine.bench.case import BOTH, PASSES, Call, Case, Floor, Function, Subject, passes, results
from ganengine.bench.equality import TOLERANCE, max_error
from ganengine.bench.machine import COMPILED, kernels, waiting
from ganengine.bench.memory import peak_bytes
from ganengine.bench.timing import TRIAL, Effort, Spread, interleaved

WAYS = ("eager", "compile", "fused")
Compile = Callable[[Function], Function]


@dataclass
class Prepared:
    """A case that is ready to be timed."""

    floor: Mapping[str, Floor]
    calls: dict[str, dict[str, Call]] = field(default_factory=lambda: {name: {} for name in PASSES})
    """By pass and way; a way that cannot be measured is not there."""
    eager_form: dict[str, str] = field(default_factory=dict)
    """By pass, the fastest way of saying it in eager PyTorch."""
    max_error: float | None = None
    """Of the fused op, against float64."""
    reasons: list[str] = field(default_factory=list)
    """Why something is not there."""
    differs: bool = False
    """Results are not equal: nothing may be timed."""


def torch_compile(function: Function) -> Function:
    """Return the function compiled for the shapes that it will meet, as one graph."""
    torch.compiler.reset()  # each case is a new program; the limit of recompilations is not for us
    return torch.compile(function, fullgraph=True, dynamic=False)


@contextmanager
def measuring() -> Iterator[None]:
    """Have the ops take their kernels inside the block, whatever GANENGINE_OPS says."""
    before = ops.mode()
    ops.set_mode("auto")
    try:
        yield
    finally:
        ops.set_mode(before)


def prepare(case: Case, device: torch.device, compiler: Compile | None = torch_compile) -> Prepared:
    """Make a case ready: choose the opponent, compile it, and compare all results with float64.

    Args:
        case: what to measure.
        device: where.
        compiler: makes the compiled opponent; None: there is none.
    """
    subject = case.make(device)
    prepared = Prepared(subject.floor)
    tolerance = TOLERANCE[case.dtype]

    known: tuple[Tensor, ...] | None = None

    def check(what: str, function: Function) -> float:
        nonlocal known
        found = results(function, subject)
        truth = known if known is not None else subject.truth(found[0])
        known = None if subject.chance else truth
        error = max_error(found, truth)
        if error > tolerance:
            prepared.differs = True
            prepared.reasons.append(f"{what} differs from float64 by {error:.2g} (at most {tolerance:g} is rounding)")
        return error

    for name, form in subject.eager.items():
        check(f"eager ({name})", form)
    prepared.eager_form = _fastest(subject, waiting(device))
    for which, name in prepared.eager_form.items():
        prepared.calls[which]["eager"] = passes(subject.eager[name], subject)[which]
    if compiler is None:
        prepared.reasons.append("torch.compile was left out (as --quick does)")
    else:
        try:
            compiled = compiler(subject.eager[prepared.eager_form[BOTH]])
            check("torch.compile", compiled)
        except Exception as error:  # no compiler on this machine, or a bug of one: the rest can be measured
            prepared.reasons.append(f"torch.compile failed: {_first_line(error)}")
        else:
            _add(prepared, "compile", compiled, subject)
    kernel = kernels(device)[case.op]
    if kernel == COMPILED:
        prepared.max_error = check("fused", subject.fused)
        _add(prepared, "fused", subject.fused, subject)
    else:
        prepared.reasons.append(f"no fused kernel: {kernel}")
    return prepared


def measure(
    case: Case, device: torch.device, effort: Effort, compiler: Compile | None = torch_compile
) -> list[dict[str, Any]]:
    """Return a row per pass, by the names of `ganengine bench ops --json`."""
    prepared = prepare(case, device, compiler)
    return [_row(case, which, prepared, device, effort) for which in PASSES]


def _row(case: Case, which: str, prepared: Prepared, device: torch.device, effort: Effort) -> dict[str, Any]:
    times: dict[str, Spread] = {}
    peaks: dict[str, int] = {}
    if not prepared.differs:
        calls, floor = prepared.calls[which], prepared.floor[which]
        samples = interleaved({**calls, "floor": floor.call}, effort, waiting(device))
        times = {name: Spread.of(s, floor.times if name == "floor" else 1) for name, s in samples.items()}
        peaks = {name: peak_bytes(call, device) for name, call in calls.items()}

    def ratio(opponent: str) -> float | None:
        both = opponent in times and "fused" in times
        return times[opponent].median / times["fused"].median if both else None

    return {
        "op": case.op,
        "case": case.name,
        "shape": [*case.shape],
        "dtype": case.dtype_name,
        "layout": case.layout,
        "pass": which,
        "max_error": prepared.max_error,
        **{f"{way}_ms": times[way].as_dict() if way in times else None for way in (*WAYS, "floor")},
        "ratio_eager": ratio("eager"),
        "ratio_compile": ratio("compile"),
        "peak_bytes": peaks.get("fused"),
        "peak_bytes_eager": peaks.get("eager"),
        "peak_bytes_compile": peaks.get("compile"),
        "eager_form": prepared.eager_form[which],
        "error": prepared.differs,
        "reason": "; ".join(prepared.reasons) or None,
    }


def _fastest(subject: Subject, wait: Callable[[], None]) -> dict[str, str]:
    """Return, by pass, the name of the fastest eager form."""
    calls = {name: passes(form, subject) for name, form in subject.eager.items()}
    if len(calls) == 1:
        return dict.fromkeys(PASSES, *calls)
    found = {}
    for which in PASSES:
        samples = interleaved({name: call[which] for name, call in calls.items()}, TRIAL, wait)
        found[which] = min(samples, key=lambda name: statistics.median(samples[name]))
    return found


def _add(prepared: Prepared, way: str, function: Function, subject: Subject) -> None:
    for which, call in passes(function, subject).items():
        prepared.calls[which][way] = call


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
