"""`ganengine bench ops`: the object that it prints, its table, and wrong use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ganengine.bench import machine, ops, timing

from .conftest import SMALLEST

Go = Callable[..., Any]
OPS = [
    *("conditional_batch_norm", "patchgan_loss", "maxout", "instance_norm", "im2col", "convolution", "spectral_norm"),
    *("merged_kernels", "skinny_product", "null"),
]
ROW = {
    *("op", "shape", "dtype", "layout", "pass", "max_error", "eager_ms", "compile_ms", "fused_ms", "floor_ms"),
    *("ratio_eager", "ratio_compile", "peak_bytes"),
}
TOLD = {"case", "eager_form", "compile_form", "peak_bytes_eager", "peak_bytes_compile", "error", "reason"}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fewest samples that there can be."""
    hurry = timing.Effort(least_rounds=2, seconds=0.0)
    monkeypatch.setattr(timing, "QUICK", hurry)
    monkeypatch.setattr(machine, "QUICK", hurry)
    monkeypatch.setattr(ops, "TRIAL", hurry)


def test_one_object(go: Go) -> None:
    done = go("bench", "ops", "--quick", "--json")
    assert done.status == 0, done.err
    assert done.out.count("\n") == 1
    record = json.loads(done.out)
    assert record["schema"] == 1
    assert {"cpu", "threads", "torch", "kernels", "copy_gb_s"} <= record["machine"].keys()
    assert record["machine"]["torch"] == torch.__version__
    assert record["machine"]["copy_gb_s"] > 0
    kernels = record["machine"]["kernels"]
    assert list(kernels) == OPS
    assert [(row["op"], row["pass"]) for row in record["cases"]] == [
        (op, which) for op in OPS for which in ("forward", "forward+backward")
    ]
    for row in record["cases"]:
        assert row.keys() == ROW | TOLD
        for name in ("eager_ms", "floor_ms", *(["fused_ms"] if kernels[row["op"]] == "compiled" else [])):
            assert row[name].keys() == {"median", "p25", "p75"}
            assert 0 < row[name]["p25"] <= row[name]["median"] <= row[name]["p75"]
        assert (row["compile_ms"], row["ratio_compile"]) == (None, None)
        assert "torch.compile was left out (as --quick does)" in row["reason"]
        assert row["error"] is False
        if kernels[row["op"]] == "compiled":
            assert row["ratio_eager"] == pytest.approx(row["eager_ms"]["median"] / row["fused_ms"]["median"])
            assert row["max_error"] < (1e-5 if row["dtype"] == "float32" else 2e-2)
        else:
            assert (row["fused_ms"], row["ratio_eager"], row["max_error"], row["peak_bytes"]) == (None,) * 4
            assert f"no fused kernel: {kernels[row['op']]}" in row["reason"]
    assert "floor" in done.err  # the table


def test_a_table_for_people(go: Go) -> None:
    done = go("bench", "ops", "--op", "null", "--quick")
    assert done.status == 0, done.err
    for word in (f"torch {torch.__version__}", "thread", "kernels for", "64x1x30x30", "x eager", "floor", "null"):
        assert word in done.out
    assert "patchgan_loss" not in "\n".join(line for line in done.out.splitlines() if not line.startswith("kernels"))
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.out)


def test_unequal_results_end_with_status_1(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganengine.bench import equality

    monkeypatch.setattr(ops, "TOLERANCE", dict.fromkeys(equality.TOLERANCE, -1.0))
    done = go("bench", "ops", "--op", "null", "--quick", "--json")
    assert done.status == 1
    assert all(row["error"] and row["eager_ms"] is None for row in json.loads(done.out)["cases"])
    assert "differs from float64" in done.err


def test_a_whole_step_beside_the_plain_loop(go: Go, pairs: Path) -> None:
    done = go("bench", "train", "pix2pix", pairs, *SMALLEST, "--rounds", "2", "--seconds", "0", "--json")
    assert done.status == 0, done.err
    record = json.loads(done.out)
    assert (record["schema"], record["variant"]) == (1, "pix2pix")
    engine, baseline = record["engine"], record["baseline"]
    assert engine["images_per_step"] == 2
    assert engine["phases_ms"].keys() == {"d", "g"}
    spent = sum(sum(parts.values()) for parts in engine["phases_ms"].values()) + engine["rest_ms"]
    assert spent == pytest.approx(engine["step_ms"])
    for side in (engine, baseline):
        rate = side["images_per_s"]
        assert 0 < rate["p25"] <= rate["median"] <= rate["p75"]
        assert side["peak_memory_mb"] > 0
    assert record["ratio"]["p25"] <= record["ratio"]["median"] <= record["ratio"]["p75"]
    assert 0 <= engine["data_wait"] < 1
    assert engine["gflop_per_step"] > 0
    assert engine["share_of_limit"] > 0
    assert engine["use"]["images_per_s"] > 0
    assert (engine["use"]["batch"], engine["use"]["precision"]) == (8, "fp32")
    assert record["choices"]["precision"] == "fp32"
    for word in (
        "plain loop",
        "where a step's time goes",
        "matrix products",
        "times the plain loop",
        "8 at once in fp32",
    ):
        assert word in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench op", 'expected ganengine bench ops or train, got "op". Did you mean ops?'),
        ("bench train", "expected the name of a variant"),
        ("bench train pix2pix --rounds 1", "--rounds: expected at least 2"),
        ("bench train pix2pix --seconds -1", "--seconds: expected a number from 0"),
        ("bench train pix2pix --lamda-l1 3", "--lamda-l1"),
        ("bench train pix2pix nowhere --against nothing", "nowhere"),
        ("bench ops --op maxot", "invalid choice 'maxot' for argument '--op'"),
        ("bench ops --fast", "Unrecognized options: --fast"),
        ("bench ops --device tpu", "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_wrong_use(go: Go, line: str, message: str) -> None:
    done = go(*line.split())
    assert (done.status, done.out) == (2, "")
    assert message in " ".join(done.err.split())


def test_help(go: Go) -> None:
    assert "usage: ganengine bench ops" in go("bench").out
    assert "--against" in go("bench", "train", "--help").out
    told = go("bench", "ops", "--help")
    assert told.status == 0
    for option in ("--op", "--quick", "--device", "--json"):
        assert option in told.out
