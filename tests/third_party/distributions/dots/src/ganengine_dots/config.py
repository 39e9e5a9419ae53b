"""Options of the variant; they stand beside the engine's own (batch, size, horizon ...)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DotsConfig:
    """Every field has a default, and a docstring, which becomes its help."""

    z_dim: int = 16
    """Numbers that a picture is made from."""
    width: int = 32
    """Channels of the widest layer."""
    adversarial: str = "hinge"
    """Adversarial loss by name."""
    d_lr: float = 4e-4
    """Learning rate of D."""
    g_lr: float = 2e-4
    """Learning rate of G."""
