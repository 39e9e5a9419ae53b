"""The game of BEGAN: both players at once, k that holds them in balance, and rules of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ganengine.ramps import Staircase
from ganengine.variant import Group, Optimizer, Phase, Progress, Schedule, Stage, State, Value
from torch import Tensor

from ganengine_began.config import BEGANConfig
from ganengine_began.losses import convergence

SMOOTHED = 0.99
"""How much of the running M a step keeps."""
LOWER = 0.99
"""M has fallen where its running mean is below this share of the lowest before."""


def build(config: BEGANConfig) -> Schedule:
    """Return a group of D and G, with k and what the plateau rule remembers as measured state.

        d: R(x) - k_t R(G(z)),  g: R(G(z)) + repel * alike
        k_{t+1} = clip_[0,1](k_t + lambda_k (gamma E R(x) - E R(G(z)))),  k_0 = 0

    Step t trains with k_t, the state as step t - 1 left it, and its own errors make k_{t+1}: no step waits for its own.

    Paper: 1703.10717, equation 6; Adam, halving and floor as in published code.
    """
    d = Phase("d", ("D",), "d", "d", weights={"fake": _minus_k})
    g = Phase("g", ("G",), "g", "g", weights={"repel": config.repel} if config.repel else {})
    optimizer = Optimizer(_rate(config), options={"betas": config.betas})
    plateau = dict.fromkeys(("M", "lowest", "stalled", "halvings"), 0.0) if config.lr_rule == "plateau" else {}
    state = {"k": 0.0, **plateau}
    return Schedule((Stage((Group((d, g)),)),), {"d": optimizer, "g": optimizer}, state, _update(config))


def _minus_k(progress: Progress, state: State) -> Any:
    return -state["k"]


def _rate(config: BEGANConfig) -> Value:
    """Return the learning rate by the rule that was chosen."""
    if config.lr_rule == "halving":
        return Staircase(config.lr, config.halve_every, floor=min(config.lr, config.lr_floor), unit="steps")
    if config.lr_rule == "plateau":
        return lambda progress, state: max(
            min(config.lr, config.lr_floor), config.lr * 0.5 ** float(state["halvings"])
        )  # fmt: skip
    return config.lr


def _update(config: BEGANConfig) -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]]:
    def update(state: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        k = state["k"] + config.lambda_k * (config.gamma * now["real"] - now["fake"])
        found = {"k": k.clamp(0, 1)}
        if config.lr_rule == "plateau":
            found |= stalled(state, convergence(now["real"], now["fake"], config.gamma), config.patience)
        return found

    return update


def stalled(state: Mapping[str, Tensor], now: Tensor, patience: int) -> dict[str, Tensor]:
    """Follow M and count how often it stood still for `patience` steps, in operations on the device.

    Args:
        state: `M`, its running mean (0: none yet); `lowest` of all; steps since then, `stalled`; `halvings` so far.
        now: M of this step, 0-d.
        patience: steps.

    Returns:
        The new state; the lowest M stays the mark after a halving.
    """
    first = state["M"] == 0
    mean = torch.where(first, now, SMOOTHED * state["M"] + (1 - SMOOTHED) * now)
    fallen = first | (mean < LOWER * state["lowest"])
    count = torch.where(fallen, 0.0, state["stalled"] + 1)
    halve = count >= patience
    return {
        "M": mean,
        "lowest": torch.where(fallen, mean, state["lowest"]),
        "stalled": torch.where(halve, 0.0, count),
        "halvings": state["halvings"] + halve,
    }
