"""A layer over few rows: eager PyTorch, torch.compile, the fused op and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from ganengine.bench import skinny_product
from ganengine.bench.case import PASSES, Case
from ganengine.bench.ops import WAYS


@pytest.mark.parametrize("way", [*WAYS, "floor"])
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("case", skinny_product.cases(), ids=str)
def test_skinny_product(case: Case, which: str, way: str, start: Any, benchmark: Any) -> None:
    benchmark(start(case, which, way))
