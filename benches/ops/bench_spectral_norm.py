"""Spectral norm of a weight in a training pass: eager PyTorch, torch.compile, the fused ops and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from ganengine.bench import spectral_norm
from ganengine.bench.case import PASSES, Case
from ganengine.bench.ops import WAYS


@pytest.mark.parametrize("way", [*WAYS, "floor"])
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("case", spectral_norm.cases(), ids=str)
def test_spectral_norm(case: Case, which: str, way: str, start: Any, benchmark: Any) -> None:
    benchmark(start(case, which, way))
