"""Run a view of a trained variant: averaged networks, eval mode, no gradients, draws that are keyed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganengine import draws
from ganengine.data.batch import Batch
from ganengine.data.pictures import sheet
from ganengine.errors import PluginError, nearest
from ganengine.fans import fans
from ganengine.hardware import Hardware
from ganengine.latents import class_grid, from_prior, over_captions, value_grid
from ganengine.nn.context import Context, Statistics, draw_context
from ganengine.returned import named, shaped
from ganengine.scatter import scatter
from ganengine.step import Step
from ganengine.variant import DataSpec, Progress, View

CHUNK = 64
"""Samples made at once."""
TOGETHER = 8
"""Pictures translated at once, unless another number is asked for."""
COLUMNS = 8
"""Latents of a caption in a preview."""
FUTURES = 20
"""Futures of a scene, unless another number is asked for."""


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
        enlarge: pictures of samples and grids are given so many times larger, pixel by pixel: a stage with smaller
            ones shows them at the run's size.
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
        enlarge: int = 1,
    ) -> None:
        self.networks, self.views, self.hardware = networks, views, hardware
        self.seed, self.progress, self.statistics, self.enlarge = seed, progress, statistics, enlarge

    def view(self, kinds: str | tuple[str, ...], name: str | None = None) -> View:
        """Return the view called `name`, or the first of a kind, or of several.

        Raises:
            PluginError: the variant has none such.
        """
        kinds = (kinds,) if isinstance(kinds, str) else kinds
        known = {key: view for key, view in self.views.items() if view.kind in kinds}
        if name is None and known:
            return next(iter(known.values()))
        if name in known:
            return known[str(name)]
        others = ", ".join(f"{key} ({view.kind})" for key, view in self.views.items())
        listed = ", ".join(known) or (f"none, but {others}" if others else "none")
        kind = f"{', '.join(kinds[:-1])} or {kinds[-1]}" if len(kinds) > 1 else kinds[0]
        wanted = f'a {kind} view called "{name}"' if name else f"a {kind} view"
        raise PluginError(f"This variant does not have {wanted}; it has {listed}.{nearest(str(name), known)}")

    def latents(self, view: View, count: int, name: str = "z") -> Tensor:
        """Draw latents [count, *shape] of a sample view's prior; the same seed and name give the same."""
        assert view.prior is not None
        return from_prior(view.prior, count, draws.generator(self.seed, "view", name))

    def sample(self, view: View, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Make what latents [N, ...] and class weights [N, K] or codes [N, L] stand for: [N, ...], float32, on the CPU.

        Networks use the running statistics of their training, so that no sample depends on its batch mates.
        """
        parts = []
        for start in range(0, len(z), CHUNK):
            part = z[start : start + CHUNK].to(self.hardware.device)
            weights = None if y is None else y[start : start + CHUNK].to(self.hardware.device)
            batch = Batch({}, torch.arange(start, start + len(part), device=self.hardware.device))
            with self._context(batch, draws.key(self.seed, "view"), None, "running") as step:
                made = view.make(step, part, weights)
                parts.append(self._shown(shaped(made, self._name(view), (len(part), "C", "H", "W"), (len(part), 2))))
        return torch.cat(parts)

    def preview(self, view: View, batch: Batch, spec: DataSpec) -> np.ndarray:
        """Make the picture that shows how far a run is: a grid view of `batch`, or as many samples; [H, W, C], uint8.

        A sample view with a label has a row for each class and the same latents in each row, one with a text a row for
        each of the batch's first captions, one whose latent has a categorical part a row for each of its values; one of
        points shows them over those of the batch. A forecast view shows a fan of futures for each scene of the batch.
        """
        if view.kind == "forecast":
            return sheet(self.fans(view, batch, [str(number) for number in batch.index.tolist()]))
        if view.kind == "grid":
            return sheet(self.grid(view, batch, batch.size))
        assert view.prior is not None
        part = next((part for part in view.prior.parts if part.kind == "categorical"), None)
        columns: int | None = None
        if view.text is not None:
            columns = min(COLUMNS, batch.size)
            captions = batch[view.text][: batch.size // columns, 0]
            made = self.sample(view, *over_captions(self.latents(view, columns), captions))
        elif view.label is not None:
            classes = spec.classes(view.label) or 1
            columns = max(1, batch.size // classes)
            made = self.sample(view, *class_grid(self.latents(view, columns), classes))
        elif part is not None:
            columns = max(1, batch.size // part.size)
            made = self.sample(view, value_grid(self.latents(view, columns), view.prior, part.name))
        else:
            made = self.sample(view, self.latents(view, batch.size))
        return sheet(made, columns=columns) if made.dim() == 4 else scatter(made, batch["real"].float().cpu())

    def grid(self, view: View, batch: Batch, count: int) -> dict[str, Tensor]:
        """Make the columns of a grid view: name -> [N, C, H, W], float32, on the CPU."""
        with self._context(batch, draws.key(self.seed, "view"), None) as step:
            columns = named(view.make(step, count), self._name(view), "{name: Tensor}, the columns of the picture")
        return {
            name: self._shown(shaped(images, f'{self._name(view)}, column "{name}",', ("N", "C", "H", "W")))
            for name, images in columns.items()
        }

    def _name(self, view: View) -> str:
        """Return how a message about it begins."""
        return next((f'View "{name}"' for name, other in self.views.items() if other is view), "A view")

    def _shown(self, made: Tensor) -> Tensor:
        made = made.detach().float().cpu()
        if self.enlarge == 1 or made.dim() != 4:
            return made
        return made.repeat_interleave(self.enlarge, 2).repeat_interleave(self.enlarge, 3)

    def forecast(self, view: View, batch: Batch, names: Sequence[str], count: int = FUTURES) -> Tensor:
        """Make `count` futures of each scene: [rows, count, steps, 2], float32, on the CPU.

        A scene's latents depend on the seed and its own name alone, not on those beside it.
        """
        assert view.prior is not None
        latents = [from_prior(view.prior, count, draws.generator(self.seed, "forecast", name)) for name in names]
        made = []
        for start in range(0, batch.size, CHUNK):
            part = batch.narrow(start, min(CHUNK, batch.size - start)).to(self.hardware.device)
            z = torch.stack(latents[start : start + part.size]).to(self.hardware.device)
            with self._context(part, draws.key(self.seed, "view"), None, "running") as step:
                futures = shaped(view.make(step, z), self._name(view), ("rows", count, "steps", 2))
                made.append(futures.detach().float().cpu())
        return torch.cat(made)

    def fans(self, view: View, batch: Batch, names: Sequence[str], count: int = FUTURES) -> Tensor:
        """Draw the futures of each scene of a batch: [N, 3, H, W] in [-1, 1], on the CPU."""
        batch = batch.to("cpu")
        futures = self.forecast(view, batch, names, count)
        return fans(batch[view.source], batch[view.target], futures, batch.starts(view.source))

    def translate(self, view: View, images: Tensor, names: Sequence[str], *, exact: bool = False) -> Tensor:
        """Translate pictures [N, C, H, W]; each one's draws depend on the seed and its own name alone.

        Args:
            view: which translation.
            images: in [-1, 1].
            names: one for each picture.
            exact: compute in float32, whatever the sampler's precision.
        """
        images = images.to(self.hardware.device)
        if self.hardware.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        batch = Batch({view.source: images}, torch.arange(len(images), device=self.hardware.device))
        seeds = [draws.key(self.seed, "translate", name) for name in names]
        with self._context(batch, draws.key(self.seed, "view"), seeds, exact=exact) as step:
            output = shaped(view.make(step, images), self._name(view), (len(images), "C", "H", "W"))
        return output.detach().float().cpu()

    @contextmanager
    def _context(
        self, batch: Batch, seed: int, sample_seeds: Sequence[int] | None, statistics: Statistics | None = None, *,
        exact: bool = False,
    ) -> Iterator[Step]:  # fmt: skip
        context = Context(seed=seed, sample_seeds=sample_seeds, statistics=statistics or self.statistics)
        hardware = replace(self.hardware, precision="fp32") if exact else self.hardware
        with torch.no_grad(), hardware.autocast(), evaluating(self.networks), draw_context(context):
            yield Step(self.networks, batch, self.progress, seed)
