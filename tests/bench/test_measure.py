"""A row of the bench: equality first, the best opponent, and nothing called fused that is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from ganengine import ops
from ganengine.bench.case import PASSES
from ganengine.bench.machine import COMPILED, kernels
from ganengine.bench.ops import measure, measuring, prepare
from ganengine.bench.timing import Effort
from ganengine.ops.dispatch import LAYERS

CPU = torch.device("cpu")
ONCE = Effort(least_rounds=3, seconds=0.0)
DYNAMO = partial(torch.compile, backend="eager", fullgraph=True, dynamic=False)
MS = pytest.approx


def rows_of(case: Any, compiler: Any = None) -> list[dict[str, Any]]:
    return measure(case, CPU, ONCE, compiler)


def test_figures(toy: Callable[..., Any]) -> None:
    rows = rows_of(toy(), lambda function: function)
    assert [row["pass"] for row in rows] == list(PASSES)
    for row in rows:
        assert row["max_error"] == 0
        assert (row["eager_form"], row["compile_form"]) == ("fast", "fast")
        assert {name: row[f"{name}_ms"]["median"] for name in ("eager", "compile", "fused", "floor")} == {
            "eager": MS(4.0), "compile": MS(4.0), "fused": MS(1.0), "floor": MS(0.5)
        }  # fmt: skip
        assert row["fused_ms"]["p25"] == MS(row["fused_ms"]["p75"])
        assert (row["ratio_eager"], row["ratio_compile"]) == (MS(4.0), MS(4.0))
        assert row["peak_bytes"] > 0
        assert (row["error"], row["reason"]) == (False, None)
        assert (row["op"], row["shape"], row["dtype"], row["layout"]) == ("toy", [4], "float32", "contiguous")


@pytest.mark.parametrize("factors", [{"fused_factor": 2.1}, {"eager_factor": 2.1}])
def test_unequal_results_are_never_timed(toy: Callable[..., Any], factors: dict[str, float]) -> None:
    for row in rows_of(toy(**factors)):
        assert row["error"] is True
        assert "differs from float64 by 0.05" in row["reason"]
        assert next(iter(factors)).partition("_")[0] in row["reason"]
        timed = [row[f"{name}_ms"] for name in ("eager", "compile", "fused", "floor")]
        assert timed == [None] * 4
        assert (row["ratio_eager"], row["ratio_compile"], row["peak_bytes"]) == (None, None, None)


def test_without_a_kernel_nothing_is_called_fused(toy: Callable[..., Any], kernels: dict[str, str]) -> None:
    kernels["toy"] = "nobody compiled it"
    for row in rows_of(toy()):
        assert (row["fused_ms"], row["max_error"], row["ratio_eager"], row["peak_bytes"]) == (None,) * 4
        assert row["eager_ms"]["median"] == MS(4.0)
        assert "no fused kernel: nobody compiled it" in row["reason"]
        assert row["error"] is False


def test_without_torch_compile(toy: Callable[..., Any]) -> None:
    def broken(function: object) -> object:
        raise RuntimeError("no C++ compiler\nlong story")

    for compiler, reason in ((None, "torch.compile was left out"), (broken, "RuntimeError: no C++ compiler")):
        for row in rows_of(toy(), compiler):
            assert (row["compile_ms"], row["ratio_compile"]) == (None, None)
            assert reason in row["reason"]
            assert "long story" not in row["reason"]
            assert row["ratio_eager"] == MS(4.0)


def test_a_kernel_that_fails_costs_only_its_own_row(toy: Callable[..., Any]) -> None:
    for row in rows_of(toy(fused_factor=None)):
        assert (row["error"], row["fused_ms"], row["eager_ms"]) == (True, None, None)
        assert "fused failed: TypeError" in row["reason"]


def test_compiled_results_are_compared_too(toy: Callable[..., Any]) -> None:
    prepared = prepare(toy(), CPU, lambda function: lambda x: function(x) + 1)
    assert prepared.differs
    assert "compile (slow) differs" in prepared.reasons[0]


def test_a_graph_is_compiled_whole() -> None:
    from ganengine.bench import patchgan_loss

    prepared = prepare(patchgan_loss.case("D", 2, (6, 3), torch.float32), CPU, DYNAMO)
    assert {"eager", "compile"} <= prepared.calls["forward"].keys()
    assert not prepared.differs


def test_each_op_says_whether_it_has_a_kernel() -> None:
    with measuring():
        told = kernels(CPU)
        compiled = {kernel.op: kernel.compiled for kernel in ops.kernels() if kernel.device == "cpu"}
    assert told.keys() == {*compiled, *LAYERS, "null"}
    for op, there in compiled.items():
        assert (told[op] == COMPILED) is there
        assert told[op]


def test_no_layers_kernel_is_claimed_beyond_the_cpu() -> None:
    with measuring():
        told = kernels(torch.device("cuda"))
        assert not {kernel.op for kernel in ops.kernels()} & set(LAYERS)  # nor in the table of `ganengine doctor`
    for op in LAYERS:
        assert told[op] == "the kernel is for the CPU; elsewhere the layer is PyTorch's"


def test_the_mode_is_put_back() -> None:
    before = ops.mode()
    ops.set_mode("reference")
    try:
        with measuring():
            assert ops.mode() == "auto"
        assert ops.mode() == "reference"
    finally:
        ops.set_mode(before)
