"""The kit that comes with the engine tries the variant, once the plugin is installed."""

from ganengine.testing import check_variant


def test_the_variant_keeps_the_contract() -> None:
    check_variant("dots")
