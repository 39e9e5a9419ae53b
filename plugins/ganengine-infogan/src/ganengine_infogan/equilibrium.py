"""Where the curves stand while D cannot tell real from fake; imports no torch."""

from __future__ import annotations

from ganengine.losses.equilibrium import equilibrium

from ganengine_infogan.config import InfoGANConfig


def build(config: InfoGANConfig) -> dict[str, dict[str, float]]:
    """Return the lines of a report: those of the usual game. Information has no place of its own there."""
    found = equilibrium(config.adversarial)
    if found is None:
        return {}
    loss = {"d.d": found.d} if found.g is None else {"d.d": found.d, "g.g": found.g}
    return {"loss": loss, "d": {} if found.reading is None else dict.fromkeys(("real", "fake"), found.reading)}
