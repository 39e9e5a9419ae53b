"""What a loss or a view reads: networks, batch, progress, random numbers and shared forward passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ganengine import draws, ranks
from ganengine.data.batch import Batch
from ganengine.errors import StaleForwardError, UserError
from ganengine.latents import from_prior
from ganengine.nn.context import current, draw_context, scoped
from ganengine.variant import Prior, Progress

if TYPE_CHECKING:
    from ganengine.losses.adversarial import Adversarial, Logits


class Step:
    """One batch on its way through the phases of a step.

    Args:
        networks: by name; modules, or parameters where a tensor is what is trained.
        batch: the samples at hand.
        progress: where the run stands.
        seed: key of this step and repeat; all numbers drawn depend on it.
        state: measured state by name, 0-d tensors on the device.
        rows: (index of the first sample in the global batch, size of the global batch).
        steps: how many optimizer steps each network has taken; `shared` compares with it.
        signs: whether anybody wants the signs of D's logits.
    """

    def __init__(
        self,
        networks: Mapping[str, Any],
        batch: Batch,
        progress: Progress,
        seed: int,
        *,
        state: Mapping[str, Tensor] | None = None,
        rows: tuple[int, int] | None = None,
        steps: Mapping[str, int] | None = None,
        signs: bool = True,
    ) -> None:
        self.networks = networks
        self.batch = batch
        self.progress = progress
        self.state = state or {}
        self.seed = seed
        self.rows = rows or (0, batch.size)
        self.reports: dict[str, Tensor] = {}
        self.measures: dict[str, Tensor] = {}
        self.signs: list[Tensor] = []
        self._steps = steps or {}
        self._wants_signs = signs
        self._shared: dict[str, tuple[Any, dict[str, int]]] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the network or tensor called `name`."""
        return self.networks[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["networks"][name]
        except KeyError:
            raise AttributeError(f'this step has no network "{name}"; it has {", ".join(self.networks)}.') from None

    @property
    def device(self) -> torch.device:
        """The device that batch and networks are on."""
        return self.batch.index.device

    # -- random numbers -------------------------------------------------------------------------------------------

    def randn(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normal numbers [N, *shape]; `shape` is that of one sample.

        The same (seed, step, repeat, name) gives the same numbers: two phases that use one name see the same noise.
        """
        return self._draw(name, shape, torch.randn)

    def rand(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw numbers [N, *shape] uniformly from [0, 1)."""
        return self._draw(name, shape, torch.rand)

    def randint(self, name: str, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw integers [N, *shape] uniformly from 0 .. high - 1."""
        return self._draw(name, shape, lambda size, **kw: torch.randint(high, size, **kw))

    def latent(self, name: str, prior: Prior) -> Tensor:
        """Draw latents [N, *shape] of a prior, part by part where it has parts."""
        return self._draw(
            name, prior.shape, lambda size, *, generator, device: from_prior(prior, size[0], generator)
        )  # fmt: skip

    def derangement(self, name: str) -> Tensor:
        """Draw a cyclic permutation of the whole batch, without a fixed point, for mismatched pairs: its part [N].

        Its numbers are rows of the whole batch: `step.whole(texts)[step.derangement("wrong")]`, which on one rank is
        `texts[step.derangement("wrong")]`. With `--accumulate` the samples of one micro-batch are mixed.

        Raises:
            UserError: there is one sample, which has no other to be paired with.
        """
        start, n = self.rows[0] - ranks.rank() * self.rows[1] // ranks.world(), self.batch.size * ranks.world()
        if n < 2:
            raise UserError(
                "--batch: expected more than one sample at once, to pair each with another one, got 1. "
                "Use a larger --batch, or a smaller --accumulate."
            )
        order = torch.randperm(n, generator=draws.generator(self.seed, name, start)).to(self.device)
        result = torch.empty_like(order)
        result[order] = order.roll(1)
        return ranks.share(result)

    def _draw(self, name: str, shape: tuple[int, ...], fn: Callable[..., Tensor]) -> Tensor:
        # Drawn for the global batch and sliced, so that N ranks see what one would.
        first, total = self.rows
        source = draws.generator(self.seed, name, device=self.device)
        full = fn((total, *shape), generator=source, device=self.device)
        return full[first : first + self.batch.size]

    def whole(self, rows: Tensor) -> Tensor:
        """Return the rows of the whole batch, in its order, of those of this rank's share: [N, ...] -> [N of all, ...].

        A 0-d term is made of these where there are several ranks. Of one rank it is `rows` itself. Micro-batches are
        not put together. Gradients: any order.
        """
        return ranks.whole(rows)

    # -- shared forward passes ------------------------------------------------------------------------------------

    def shared(self, name: str, fn: Callable[[], Any], of: tuple[str, ...]) -> Any:
        """Compute `fn()` once in this step and keep it, with its graph, for the phases that follow.

        Args:
            name: what is computed ("fake").
            fn: the forward pass; phases that ask for one name must mean the same pass.
            of: the networks inside.

        Raises:
            StaleForwardError: one of those networks has stepped since, so the value is no longer its output.
        """
        now = {network: self._steps.get(network, 0) for network in of}
        if name in self._shared:
            value, then = self._shared[name]
            stale = [network for network in of if now[network] != then.get(network, 0)]
            if stale:
                raise StaleForwardError(
                    f'shared("{name}"): {", ".join(stale)} has stepped since this was computed. '
                    "Compute it again under another name, or order the phases so that it is used before that step."
                )
            return value
        context = current()
        if context is None:
            value = fn()
        else:
            # Draws inside belong to the shared pass, not to whichever phase asks first.
            with draw_context(scoped(context, draws.key(self.seed, "shared", name))):
                value = fn()
        self._shared[name] = (value, now)
        return value

    def forget_shared(self) -> None:
        """Drop what `shared` keeps: a later phase computes it again, from the same draws."""
        self._shared.clear()

    @property
    def holds_graphs(self) -> bool:
        """Whether a later phase may still use a shared graph."""
        return bool(self._shared)

    # -- what is told ---------------------------------------------------------------------------------------------

    def report(self, name: str, value: Tensor) -> None:
        """Put a 0-d value into the log; "real" and "fake" are D's readings."""
        self.reports[name] = value.detach()

    def judged(
        self, game: Adversarial, *, real: Logits | None = None, fake: Logits | None = None, of: str = ""
    ) -> None:
        """Tell of D's logits on real and on fake samples: readings into the log, signs to adaptive augmentation.

        Args:
            game: the losses that the logits go into; they know how to read them.
            real: D's logits on real samples.
            fake: D's logits on generated samples.
            of: added to "real" and "fake", where there are several critics: "_A".
        """
        if real is not None:
            self.report(f"real{of}", game.readout(real))
            signs = game.signs(real) if self._wants_signs else None
            if signs is not None:
                self.signs.append(signs)
        if fake is not None:
            self.report(f"fake{of}", game.readout(fake))

    def measure(self, name: str, value: Tensor) -> None:
        """Hand a 0-d value to `Schedule.update`."""
        self.measures[name] = value.detach()
