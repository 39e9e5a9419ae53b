"""Where the curves of cyclegan stand while neither discriminator can tell real from translated."""

from __future__ import annotations

from ganengine.losses.equilibrium import equilibrium

from ganengine_cyclegan.config import CycleGANConfig


def build(config: CycleGANConfig) -> dict[str, dict[str, float]]:
    """Return the lines of a report; none for a family that is not built in."""
    found = equilibrium(config.adversarial, scaling="mean")
    if found is None:
        return {}
    loss = {"d": 2 * config.adversarial_weight * found.d, "d.A": found.d, "d.B": found.d}
    if found.g is not None:
        loss |= {"g.gan_A": found.g, "g.gan_B": found.g}
    return {"loss": loss, "d": {} if found.reading is None else dict.fromkeys(("real", "fake"), found.reading)}
