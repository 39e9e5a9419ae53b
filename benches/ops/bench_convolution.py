"""Convolutions in bfloat16 as products of tiles: eager PyTorch, torch.compile, the engine's layer and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from ganengine.bench import convolution
from ganengine.bench.case import PASSES, Case
from ganengine.bench.ops import WAYS


@pytest.mark.parametrize("way", [*WAYS, "floor"])
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("case", convolution.cases(), ids=str)
def test_convolution(case: Case, which: str, way: str, start: Any, benchmark: Any) -> None:
    benchmark(start(case, which, way))
