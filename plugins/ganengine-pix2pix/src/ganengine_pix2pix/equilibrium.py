"""Where the curves of pix2pix stand while D cannot tell real from fake."""

from __future__ import annotations

from ganengine.losses.equilibrium import equilibrium

from ganengine_pix2pix.config import Pix2PixConfig


def build(config: Pix2PixConfig) -> dict[str, dict[str, float]]:
    """Return the lines of a report; none for the arm `l1`, which has no D, or a family that is not built in."""
    found = equilibrium(config.adversarial, scaling="mean") if config.has_critic else None
    if found is None:
        return {}
    loss = {"d": found.d, "d.d": found.d}
    if found.g is not None:
        loss["g.gan"] = found.g
    return {"loss": loss, "d": {} if found.reading is None else dict.fromkeys(("real", "fake"), found.reading)}
