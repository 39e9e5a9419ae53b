"""Where the curves of a game of one G and one D stand while D cannot tell real from fake; imports no torch."""

from __future__ import annotations

from ganengine.losses.equilibrium import equilibrium
from ganengine.two_player.config import TwoPlayerConfig


def build(config: TwoPlayerConfig) -> dict[str, dict[str, float]]:
    """Return the lines of a report; none where labels are not the family's own, or the family is a plugin's."""
    targets = (config.real_target, config.fake_target, config.generator_target)
    found = equilibrium(config.adversarial, config.scaling)
    if found is None or any(target is not None for target in targets) or config.label_smoothing:
        return {}
    loss = {"d.d": found.d}
    if config.penalty == "none":
        loss["d"] = found.d
    if found.g is not None:
        loss |= {"g": found.g, "g.g": found.g}
    return {"loss": loss, "d": {} if found.reading is None else dict.fromkeys(("real", "fake"), found.reading)}
