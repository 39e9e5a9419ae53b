"""What authors of plugins need to test theirs: the conformance kit, and data made from nothing.

A plugin's own tests call `check_variant("NAME")`. docs/contract.md states the contract that it checks.
"""

from ganengine.testing.conformance import CHECKS, Check, Report, check_variant
from ganengine.testing.data import Synthetic, synthetic_spec

__all__ = ["CHECKS", "Check", "Report", "Synthetic", "check_variant", "synthetic_spec"]
