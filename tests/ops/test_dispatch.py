from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ganengine import ops
from ganengine.errors import UserError
from ganengine.ops import dispatch, library, maxout

from .cases import ops_mode


@pytest.fixture
def no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder without kernels, whatever this installation has."""
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(dispatch, "_registered", lambda op, device: False)
    library.load.cache_clear()
    before = ops.mode()
    yield tmp_path
    monkeypatch.undo()
    library.load.cache_clear()
    ops.set_mode(before)


def test_kernels_lists_every_op_and_device_with_reasons(no_library: Path) -> None:
    ops.set_mode("auto")
    report = ops.kernels()
    assert [(k.op, k.device) for k in report] == [(op, d) for op in dispatch.OPS for d in ("cpu", "cuda")]
    for kernel in report:
        assert not kernel.compiled
        assert "no compiled kernels (_C*.so)" in kernel.reasons[0]
        if kernel.device == "cuda" and not torch.cuda.is_available():
            assert "CUDA" in kernel.reasons[1]


def test_fused_is_an_error_where_a_kernel_is_missing(no_library: Path) -> None:
    ops.set_mode("fused")
    with pytest.raises(
        UserError, match=r"maxout: expected a compiled kernel for cpu .* no compiled kernels .* --ops auto"
    ):
        maxout(torch.zeros(2, 6), None, 3)
    with pytest.raises(UserError, match="kernels are written for cpu and cuda only"):
        maxout(torch.zeros(2, 6, device="meta"), None, 3)


def test_a_damaged_library_is_a_reason_not_a_crash(no_library: Path) -> None:
    (no_library / "_C.abi3.so").write_bytes(b"not a library")
    ops.set_mode("auto")
    reason = ops.kernels()[0].reasons[0]
    assert reason.startswith("_C.abi3.so cannot be loaded beside torch")
    assert maxout(torch.ones(2, 6), None, 3).tolist() == [[1.0, 1.0]] * 2
    # The failure is remembered: removing the file does not make it look again.
    (no_library / "_C.abi3.so").unlink()
    assert library.load().reason == reason


def test_reference_mode_does_not_look_for_kernels(no_library: Path) -> None:
    (no_library / "_C.abi3.so").write_bytes(b"not a library")
    ops.set_mode("reference")
    assert library.load.cache_info().misses == 0
    assert "the mode is reference" in ops.kernels()[0].reasons[0]


def test_find_takes_only_objects_of_this_python(tmp_path: Path) -> None:
    (tmp_path / "_C.cpython-27-other.so").touch()
    assert library.find(tmp_path) is None
    (tmp_path / "_C.abi3.so").touch()
    assert library.find(tmp_path) == tmp_path / "_C.abi3.so"


def test_a_registered_kernel_wins_over_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    if any(k.compiled for k in ops.kernels() if k.device == "cpu"):
        pytest.skip("this installation has compiled CPU kernels, which a test must not replace")
    calls: list[str] = []

    def forward(h: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append("forward")
        return h.new_full((h.shape[0], 2), 7.0), torch.zeros(h.shape[0], 2, dtype=torch.uint8)

    def backward(grad: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append("backward")
        return grad.new_full((grad.shape[0], 6), 3.0), grad.new_zeros(6)

    kernels = torch.library.Library("ganengine", "IMPL")
    kernels.impl("maxout", forward, "CPU")
    kernels.impl("maxout_backward", backward, "CPU")
    try:
        with ops_mode("fused"):
            assert {(k.op, k.device) for k in ops.kernels() if k.compiled} == {("maxout", "cpu")}
            h = torch.zeros(1, 6, requires_grad=True)
            y = maxout(h, None, 3)
            y.sum().backward()
            assert y.tolist() == [[7.0, 7.0]]
            assert h.grad is not None
            assert h.grad.tolist() == [[3.0] * 6]
        with ops_mode("reference"):
            assert maxout(h, None, 3).tolist() == [[0.0, 0.0]]
        assert calls == ["forward", "backward"]
    finally:
        kernels._destroy()
        ops.set_mode(ops.mode())
    assert not any(k.compiled for k in ops.kernels() if k.device == "cpu")


def test_unknown_mode() -> None:
    with pytest.raises(UserError, match=r'expected one of auto, fused, reference, got "fuse"\. Did you mean fused'):
        ops.set_mode("fuse")


@pytest.mark.parametrize(("value", "expected"), [("reference", "reference"), ("", "auto"), ("fast", None)])
def test_environment_variable(monkeypatch: pytest.MonkeyPatch, value: str, expected: str | None) -> None:
    """It is read where the package is imported, as in a new process."""
    monkeypatch.setenv("GANENGINE_OPS", value)
    before = ops.mode()
    ops.set_mode("auto" if expected == "reference" else "reference")
    try:
        if expected is None:
            with pytest.raises(UserError, match=r'^GANENGINE_OPS: expected one of auto, fused, reference, got "fast"'):
                importlib.reload(ops)
        else:
            importlib.reload(ops)
            assert ops.mode() == expected
    finally:
        ops.set_mode(before)


@pytest.mark.parametrize("op", dispatch.OPS)
def test_docs_state_the_schemas_and_signatures(op: str) -> None:
    docs = " ".join((Path(__file__).parents[2] / "docs" / "ops.md").read_text(encoding="utf-8").split())
    for name in (op, f"{op}_backward"):
        schema = str(getattr(torch.ops.ganengine, name).default._schema).removeprefix("ganengine::")
        assert schema in docs
    arguments = inspect.signature(getattr(ops, op)).parameters.values()
    assert [a.name for a in arguments] == re.findall(
        r"(\w+)(?:=[^,)]*)?[,)]", docs.split(f" {op}(")[1].split(")")[0] + ")"
    )
