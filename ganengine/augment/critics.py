"""What the engine does to the pictures that critics get in training, for every variant alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganengine import draws, ranks
from ganengine.augment.augmentation import Augmentation
from ganengine.config import RunOptions
from ganengine.errors import UserError
from ganengine.nn.context import current, dropout_key
from ganengine.ops.checks import accumulation_dtype
from ganengine.ops.counter import normal, uniform
from ganengine.variant import Progress

if TYPE_CHECKING:
    from ganengine.plugins import Registry
    from ganengine.step import Step


class Critics:
    """Augments what critics see, then adds instance noise: sigma (1 - images / horizon) times a normal number.

    Every picture (a floating tensor [N, C, H, W] of more than one pixel) that a critic is called with in training
    mode goes through, real and fake alike, in D's phases, in G's and in penalties; in views and in eval mode none.
    Pictures of one call have one geometry and one colour: an input beside its output, or in one tensor with it.

    Args:
        options: of the run.
        names: of the networks that are critics.
        device: of the run.
        plugins: bring augmentations by name.

    Raises:
        PluginError: no augmentation has the name of `--augment`.
        UserError: the augmentation refuses its options.

    Determinism: draws are keyed by seed, step, repeat, phase, critic, number of its call, and the sample's index in
    the global batch.
    Paper: arXiv:1610.04490, section 3 (instance noise); the augmentations name theirs.
    """

    def __init__(self, options: RunOptions, names: tuple[str, ...], device: torch.device, plugins: Registry) -> None:
        self.options, self.names = options, names
        self.augmentation: Augmentation | None = None
        if options.augment != "none":
            self.augmentation = plugins.get("augmentation", options.augment).load()(options, device)
        self.sigma = options.instance_noise
        self._readings = 0

    def watch(self, networks: Mapping[str, Any]) -> None:
        """Stand before the critics among newly built networks. The networks themselves stay what they are."""
        found = {id(networks[name]): networks[name] for name in self.names if name in networks}
        if self.augmentation is not None or self.options.instance_noise:
            for critic in found.values():
                if isinstance(critic, nn.Module):
                    critic.register_forward_pre_hook(self._before, with_kwargs=True)

    def begin(self, progress: Progress) -> None:
        """Begin a step: set the strength of the noise."""
        self.sigma = self.options.instance_noise * (1 - progress.fraction)

    def end(self, steps: Iterable[Step], images: int, taken: Mapping[str, int]) -> dict[str, Tensor]:
        """End a step: let the augmentation adapt to what the losses told, and return its readings for the log.

        Args:
            steps: the batches of this step.
            images: how many real images they hold.
            taken: how many optimizer steps each network has taken so far.

        Raises:
            UserError: critics are trained, but the losses tell nothing that an adaptive augmentation could follow.
        """
        if self.augmentation is None:
            return {}
        signs = [one for step in steps for one in step.signs]
        self._readings += len(signs)
        if self.augmentation.adaptive and not self._readings and any(taken.get(name, 0) for name in self.names):
            raise UserError(
                f"--augment {self.options.augment}: expected losses that tell D's logits on real pictures; these do "
                "not, or their scores have no zero (wasserstein). Use --augment diffaugment, another loss, or let the "
                "variant call step.judged."
            )
        told = ranks.averaged({"signs": torch.stack(signs).mean()} if signs else {})
        self.augmentation.adapt(told.get("signs"), images)
        return self.augmentation.readings()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        if self.augmentation is None:
            return {}
        return {"readings": self._readings, "augmentation": self.augmentation.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if self.augmentation is not None and state:
            self._readings = int(state["readings"])
            self.augmentation.load_state_dict(state["augmentation"])

    # -- what happens before a critic's forward pass ---------------------------------------------------------------

    def _before(self, critic: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        context = current()
        if not critic.training or context is None:
            return None
        seed, first = dropout_key(critic)
        changed = [
            self._seen(value, draws.key(seed, "augment"), draws.key(seed, "noise", number), first)
            for number, value in enumerate((*args, *kwargs.values()))
        ]
        return tuple(changed[: len(args)]), dict(zip(kwargs, changed[len(args) :], strict=True))

    def _seen(self, value: Any, seed: int, noise_seed: int, first: int) -> Any:
        """Return what a critic sees of one argument: a picture is changed, anything else stays."""
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() != 4:
            return value
        if value.shape[2] * value.shape[3] == 1:
            return value
        with torch.autocast(value.device.type, enabled=False):
            seen = value.to(accumulation_dtype(value.dtype))
            if self.augmentation is not None:
                columns = self.augmentation.numbers
                drawn = uniform(seed, first * columns, (len(seen), columns), seen.device)
                seen = self.augmentation(seen, drawn.to(seen.dtype))
            if self.sigma:
                drawn = normal(noise_seed, first * seen[0].numel(), seen.shape, seen.device)
                seen = seen + self.sigma * drawn.to(seen.dtype)
            return seen.to(value.dtype)
