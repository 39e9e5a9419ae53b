"""The five keep the plugin contract; the conformance kit says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from ganengine.plugins import add_path
from ganengine.testing import CHECKS, check_variant


@pytest.mark.parametrize("name", ["gan", "dcgan", "lsgan", "wgan", "wgan-gp"])
def test_the_contract_is_kept(name: str) -> None:
    add_path(Path(__file__).parents[1])  # does nothing where it is installed
    assert check_variant(name).passed == tuple(check.name for check in CHECKS)
