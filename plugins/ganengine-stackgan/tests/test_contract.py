"""Both variants keep the plugin contract; the conformance kit says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from ganengine.plugins import add_path
from ganengine.testing import CHECKS, check_variant


@pytest.mark.parametrize("name", ["gan-int-cls", "stackgan"])
def test_the_variants_keep_the_contract(name: str) -> None:
    """Through all stages: a stage of the smallest form is two steps long, and a run is cut in the middle."""
    add_path(Path(__file__).parents[1])  # does nothing where it is installed
    assert check_variant(name).passed == tuple(check.name for check in CHECKS)
