"""Networks, losses, schedule and views of the variant. This module imports torch, so the plugin only names it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ganengine.plugins import registry
from ganengine.step import Step
from ganengine.variant import DataSpec, Optimizer, Phase, Schedule, Stage, View
from ganengine_dots.config import DotsConfig


def networks(config: DotsConfig, data_spec: DataSpec, stage: int) -> dict[str, nn.Module]:
    """Build G and D for the data at hand: any number of channels, any side that is a multiple of 4."""
    channels, height, width = data_spec.fields["real"].shape
    return {
        "G": Generator(config.z_dim, config.width, channels, height // 4, width // 4),
        "D": Discriminator(config.width, channels),
    }


class Generator(nn.Module):
    """z [N, z_dim] -> pictures [N, C, H, W] in [-1, 1]."""

    def __init__(self, z_dim: int, width: int, channels: int, rows: int, columns: int) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.layers = nn.Sequential(
            nn.Linear(z_dim, width * rows * columns),
            nn.Unflatten(1, (width, rows, columns)),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width // 2, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Draw."""
        picture: Tensor = self.layers(z)
        return picture


class Discriminator(nn.Module):
    """Pictures [N, C, H, W] -> a map of logits; no sigmoid, since the losses take logits."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width // 2, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        """Judge."""
        logits: Tensor = self.layers(picture)
        return logits


def losses(config: DotsConfig) -> dict[str, Callable[[Step], dict[str, Tensor]]]:
    """Return what each phase minimises: named terms, one value per sample."""
    game = registry().get("loss", config.adversarial).load()()

    def fake(step: Step) -> Tensor:
        # Both phases use this picture; G has not stepped in between, so it is drawn once.
        picture: Tensor = step.shared("fake", lambda: step["G"](step.randn("z", (config.z_dim,))), of=("G",))
        return picture

    def d(step: Step) -> dict[str, Tensor]:
        return {"d": game.d(step["D"](step.batch.real), step["D"](fake(step).detach()))}

    def g(step: Step) -> dict[str, Tensor]:
        return {"g": game.g(step["D"](fake(step)))}

    return {"d": d, "g": g}


def schedule(config: DotsConfig) -> Schedule:
    """Return the game: D, then G, in every step."""
    betas = {"betas": (0.0, 0.99)}
    return Schedule(
        stages=(Stage((Phase("d", ("D",), loss="d", optimizer="d"), Phase("g", ("G",), loss="g", optimizer="g"))),),
        optimizers={"d": Optimizer(config.d_lr, options=betas), "g": Optimizer(config.g_lr, options=betas)},
    )


def views(config: DotsConfig) -> dict[str, View]:
    """Return what a trained run can make: a sheet of samples."""

    def samples(step: Step, n: int) -> dict[str, Tensor]:
        return {"samples": step["G"](step.randn("z", (config.z_dim,))[:n])}

    return {"samples": View(samples, "pictures drawn from noise")}
