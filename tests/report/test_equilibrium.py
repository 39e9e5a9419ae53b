"""The lines of equilibrium, found a second time: one logit for real and fake, the best that D can choose."""

from __future__ import annotations

import pytest
import torch

from ganengine.losses.adversarial import FAMILIES, adversarial
from ganengine.losses.equilibrium import SCALINGS, equilibrium
from ganengine.plugins import registry


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_lines_are_where_the_losses_stand(family: str, scaling: str) -> None:
    game = adversarial(family, scaling=scaling)
    logits = torch.linspace(-4, 4, 801, dtype=torch.float64)
    d = game.d(logits, logits)
    best = logits[(d - d.min()).abs() < 1e-12]
    line = equilibrium(family, scaling)
    assert line is not None
    assert float(d.min()) == pytest.approx(line.d, abs=1e-12)
    middle = best.mean().reshape(1)  # hinge leaves [-1, 1] open, a linear critic everything: the lines say 0 or nothing
    if line.g is not None:
        assert float(game.g(middle)) == pytest.approx(line.g, abs=1e-12)
        assert float(game.readout(middle)) == pytest.approx(line.reading, abs=1e-12)
    assert (line.reading is None) == (len(best) == len(logits))


def test_a_family_that_a_plugin_brought_has_no_line() -> None:
    assert equilibrium("relativistic") is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"loss": {"d": 0.693, "d.d": 0.693, "g.gan": 0.693}, "d": {"real": 0.5, "fake": 0.5}}),
        ({"adversarial": "ls"}, {"loss": {"d": 0.125, "d.d": 0.125, "g.gan": 0.125}, "d": {"real": 0.5, "fake": 0.5}}),
        ({"adversarial": "wasserstein"}, {"loss": {"d": 0.0, "d.d": 0.0}, "d": {}}),
        ({"adversarial": "brought"}, {}),
        ({"arm": "l1"}, {}),
    ],
)
def test_the_lines_of_pix2pix(options: dict[str, str], expected: dict[str, dict[str, float]]) -> None:
    variant = registry().variant("pix2pix")
    stated = variant.builder("equilibrium")(variant.config(**options))
    assert stated.keys() == expected.keys()
    for group, values in expected.items():
        assert stated[group] == pytest.approx(values, abs=2e-4)
