"""Kernels 3 x 3 made 4 x 4: eager PyTorch, torch.compile, the fused op and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from ganengine.bench import merged_kernels
from ganengine.bench.case import PASSES, Case
from ganengine.bench.ops import WAYS


@pytest.mark.parametrize("way", [*WAYS, "floor"])
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("case", merged_kernels.cases(), ids=str)
def test_merged_kernels(case: Case, which: str, way: str, start: Any, benchmark: Any) -> None:
    benchmark(start(case, which, way))
