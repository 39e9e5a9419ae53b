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
from ganengine.allocator import keep_freed_memory
from ganengine.bench.case import PASSES, Call, Case, Floor, Function, Subject, passes, results
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
    forms: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in PASSES})
    """By pass and way ("eager", "compile"), the form that was the fastest."""
    max_error: float | None = None
    """Of the fused op, against float64."""
    reasons: list[str] = field(default_factory=list)
    """Why something is not there."""
    differs: bool = False
    """Results are not equal: nothing may be timed."""


def torch_compile(function: Function) -> Function:
    """Return the function compiled for the shapes that it will meet, as one graph."""
    return torch.compile(function, fullgraph=True, dynamic=False)


@contextmanager
def measuring() -> Iterator[None]:
    """Have the ops take their kernels inside the block, whatever GANENGINE_OPS says, and malloc keep what is freed."""
    keep_freed_memory()
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

    def oppose(way: str, forms: Mapping[str, Function]) -> None:
        for name, form in forms.items():
            check(f"{way} ({name})", form)
        for which, name in _fastest(forms, subject, waiting(device)).items():
            prepared.forms[which][way] = name
            prepared.calls[which][way] = passes(forms[name], subject)[which]

    oppose("eager", subject.eager)
    if compiler is None:
        prepared.reasons.append("torch.compile was left out (as --quick does)")
    else:
        torch.compiler.reset()  # each case is a program of its own; the limit of recompilations is not for us
        try:
            oppose("compile", {name: compiler(subject.eager[name]) for name in subject.compiled})
        except Exception as error:  # no compiler on this machine, or a bug of one: the rest can be measured
            prepared.reasons.append(f"torch.compile failed: {_first_line(error)}")
    kernel = kernels(device)[case.op]
    if kernel == COMPILED:
        try:
            prepared.max_error = check("fused", subject.fused)
        except Exception as error:  # told in the row, so that the other cases are still measured
            prepared.differs = True
            prepared.reasons.append(f"fused failed: {_first_line(error)}")
        for which, call in passes(subject.fused, subject).items():
            prepared.calls[which]["fused"] = call
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
        "eager_form": prepared.forms[which].get("eager"),
        "compile_form": prepared.forms[which].get("compile"),
        "error": prepared.differs,
        "reason": "; ".join(prepared.reasons) or None,
    }


def _fastest(forms: Mapping[str, Function], subject: Subject, wait: Callable[[], None]) -> dict[str, str]:
    """Return, by pass, the name of the fastest form."""
    calls = {name: passes(form, subject) for name, form in forms.items()}
    if len(calls) == 1:
        return dict.fromkeys(PASSES, *calls)
    found = {}
    for which in PASSES:
        samples = interleaved({name: call[which] for name, call in calls.items()}, TRIAL, wait)
        found[which] = min(samples, key=lambda name: statistics.median(samples[name]))
    return found


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
