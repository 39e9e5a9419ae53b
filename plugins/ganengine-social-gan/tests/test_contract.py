"""social-gan keeps the plugin contract; the conformance kit says so."""

from __future__ import annotations

from pathlib import Path

from ganengine.plugins import add_path
from ganengine.testing import CHECKS, check_variant


def test_social_gan_keeps_the_contract() -> None:
    add_path(Path(__file__).parents[1])  # does nothing where it is installed
    assert check_variant("social-gan").passed == tuple(check.name for check in CHECKS)
