"""Run a view of a trained variant: averaged networks, eval mode, no gradients, draws that are keyed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ganengine import draws
from ganengine.data.batch import Batch
from ganengine.errors import PluginError, nearest
from ganengine.hardware import Hardware
from ganengine.nn.context import Context, Statistics, draw_context
from ganengine.step import Step
from ganengine.variant import Progress, View


@contextmanager
def evaluating(networks: Mapping[str, Any]) -> Iterator[None]:
    """Put networks into eval mode, and back into the mode that each module had."""
    modules = [m for network in networks.values() if isinstance(network, nn.Module) for m in network.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


class Sampler:
    """Makes the views of one run.

    Args:
        networks: those to sample with.
        views: what the variant's views builder returned.
        seed: the run's seed, or another for other noise.
    """

    def __init__(
        self,
        networks: Mapping[str, Any],
        views: Mapping[str, View],
        hardware: Hardware,
        seed: int,
        progress: Progress,
        *,
        statistics: Statistics = "own",
    ) -> None:
        self.networks, self.views, self.hardware = networks, views, hardware
        self.seed, self.progress, self.statistics = seed, progress, statistics

    def view(self, kind: str, name: str | None = None) -> View:
        """Return the view called `name`, or the first of a kind.

        Raises:
            PluginError: the variant has none such.
        """
        known = {key: view for key, view in self.views.items() if view.kind == kind}
        if name is None and known:
            return next(iter(known.values()))
        if name in known:
            return known[str(name)]
        listed = ", ".join(known) or "none"
        wanted = f'a {kind} view called "{name}"' if name else f"a {kind} view"
        raise PluginError(f"This variant does not have {wanted}; it has {listed}.{nearest(str(name), known)}")

    def grid(self, view: View, batch: Batch, count: int) -> dict[str, Tensor]:
        """Make the columns of a grid view: name -> [N, C, H, W], float32, on the CPU."""
        with self._context(batch, draws.key(self.seed, "view"), None) as step:
            columns = view.make(step, count)
        return {name: images.detach().float().cpu() for name, images in columns.items()}

    def translate(self, view: View, images: Tensor, names: Sequence[str]) -> Tensor:
        """Translate pictures [N, C, H, W]; each one's draws depend on the seed and its own name alone."""
        images = images.to(self.hardware.device)
        if self.hardware.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        batch = Batch({view.source: images}, torch.arange(len(images), device=self.hardware.device))
        seeds = [draws.key(self.seed, "translate", name) for name in names]
        with self._context(batch, draws.key(self.seed, "view"), seeds) as step:
            output: Tensor = view.make(step, images)
        return output.detach().float().cpu()

    @contextmanager
    def _context(self, batch: Batch, seed: int, sample_seeds: Sequence[int] | None) -> Iterator[Step]:
        context = Context(seed=seed, sample_seeds=sample_seeds, statistics=self.statistics)
        with torch.no_grad(), self.hardware.autocast(), evaluating(self.networks), draw_context(context):
            yield Step(self.networks, batch, self.progress, seed)
