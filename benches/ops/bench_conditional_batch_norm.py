"""Conditional batch norm with ReLU: eager PyTorch, torch.compile, the fused op and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from ganengine.bench import conditional_batch_norm
from ganengine.bench.case import PASSES, Case
from ganengine.bench.ops import WAYS


@pytest.mark.parametrize("way", [*WAYS, "floor"])
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("case", conditional_batch_norm.cases(), ids=str)
def test_conditional_batch_norm(case: Case, which: str, way: str, start: Any, benchmark: Any) -> None:
    benchmark(start(case, which, way))
