"""One update: a phase's loss, its gradients, and its optimizer's step. Mathematics of losses stays in the losses."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ganengine import draws, ranks
from ganengine.errors import PluginError, UserError
from ganengine.hardware import Hardware
from ganengine.nn.context import Context, draw_context, hold
from ganengine.players import Players, same_layout
from ganengine.returned import named
from ganengine.step import Step
from ganengine.variant import Due, Phase, value_at

Loss = Callable[[Step], Mapping[str, Tensor]]

LARGE = 1 << 18
"""From so many elements on, the CPU reads a gradient faster by a dot product than by a check of each element."""


class Updater:
    """Runs phases on the players.

    Args:
        players: networks, groups and optimizers.
        losses: what the variant's losses builder returned.
        hardware: gives the autocast context.
        clip_norm: limit of the gradient's norm; None: what each optimizer states.
    """

    def __init__(
        self, players: Players, losses: Mapping[str, Loss], hardware: Hardware, clip_norm: float | None = None
    ) -> None:
        self.players, self.losses, self.hardware = players, losses, hardware
        self.clip_norm = clip_norm
        self.scaler = torch.amp.GradScaler(hardware.device.type, enabled=hardware.precision == "fp16")

    def gradients(self, due: Due, steps: Sequence[Step]) -> dict[str, Tensor]:
        """Put the gradients of a phase into its parameters' `.grad` and nowhere else.

        Args:
            due: the phase with its numbers.
            steps: the micro-batches of one update.

        Returns:
            The phase's total under its name and every term under "phase.term": 0-d, detached, means over the update.
        """
        phase = due.phase
        parameters = self.players.groups[phase.name]
        for parameter in parameters:
            parameter.grad = None
        seen: dict[str, Tensor] = {}
        for step in steps:
            total, terms = self._loss(due, step, len(steps))
            for name, value in terms.items():
                seen[name] = seen[name] + value if name in seen else value
            # A graph that another phase of this step shares stays whole.
            self.scaler.scale(total).backward(  # type: ignore[no-untyped-call]
                inputs=parameters, retain_graph=step.holds_graphs
            )
            if len(steps) > 1:
                # Parts are there to save memory, so their graphs are not kept for the next phase.
                step.forget_shared()
        return seen

    def _loss(self, due: Due, step: Step, parts: int) -> tuple[Tensor, dict[str, Tensor]]:
        phase = due.phase
        context = Context(seed=draws.key(step.seed, phase.name), first_sample=step.rows[0])
        total: Tensor | None = None
        seen: dict[str, Tensor] = {}
        # One autocast context per phase: the casts it caches are stale once an optimizer has stepped.
        held = [self.players.networks[name] for name in phase.hold]
        with self.hardware.autocast(), draw_context(context), hold(held):
            terms = self._terms(phase, step)
            _check_alike(phase.name, terms)
            for name, term in terms.items():
                value = self._reduce(phase.name, name, term, step, parts)
                weight = value_at(phase.weights.get(name, 1.0), step.progress, step.state)
                weighted = _scaled(value, weight)
                total = weighted if total is None else total + weighted
                seen[f"{phase.name}.{name}"] = _scaled(value.detach(), 1 / parts)
        if total is None:
            raise PluginError(f'The loss of phase "{phase.name}" returned no terms; expected {{name: Tensor}}.')
        if not total.requires_grad:
            raise PluginError(
                f'The loss of phase "{phase.name}" does not depend on any parameter. '
                "Compute it with the networks, and outside torch.no_grad."
            )
        seen[phase.name] = _scaled(total.detach(), 1 / parts)
        return _scaled(total, due.gain / parts), seen

    def _terms(self, phase: Phase, step: Step) -> Mapping[str, Tensor]:
        try:
            terms = named(self.losses[phase.loss](step), f'The loss of phase "{phase.name}"', "{name: Tensor}")
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"--batch: expected more than one sample at once, as batch norm takes its statistics over them, got "
                f"{step.batch.size}. Use a larger --batch, or a smaller --accumulate."
            ) from error
        for name, term in terms.items():
            if not isinstance(term, Tensor):
                raise PluginError(
                    f'Term "{name}" of phase "{phase.name}": expected a Tensor [{step.batch.size}] (per sample) or [] '
                    f"(per batch), got a {type(term).__name__}."
                )
        return terms

    @staticmethod
    def _reduce(phase: str, name: str, term: Tensor, step: Step, parts: int) -> Tensor:
        term = term.float() if term.dtype in (torch.bfloat16, torch.float16) else term
        if term.dim() == 0:
            if parts > 1:
                raise UserError(
                    f'--accumulate: term "{name}" of phase "{phase}" belongs to the whole batch and cannot be made '
                    "from parts of it. Use --accumulate 1."
                )
            return term
        if term.dim() != 1 or term.shape[0] != step.batch.size:
            raise PluginError(
                f'Term "{name}" of phase "{phase}": expected shape [{step.batch.size}] (per sample) or [] (per batch), '
                f"got {list(term.shape)}."
            )
        weight = step.batch.get("weight")
        return term.mean() if weight is None else (term * weight.to(term.dtype)).mean()

    def take(self, due: Due) -> list[Tensor | None]:
        """Take a phase's gradients out of `.grad`, to be put back when all phases of a group have theirs."""
        taken = [parameter.grad for parameter in self.players.groups[due.phase.name]]
        for parameter in self.players.groups[due.phase.name]:
            parameter.grad = None
        return taken

    def put(self, due: Due, gradients: Sequence[Tensor | None]) -> None:
        """Put gradients back that `take` took."""
        for parameter, gradient in zip(self.players.groups[due.phase.name], gradients, strict=True):
            parameter.grad = gradient

    def step(self, due: Due) -> bool:
        """Step a phase's optimizer on the gradients that lie in `.grad`; return False if they are non-finite.

        Over ranks they are averaged first. Nothing is changed where they are non-finite. Gradients are gone afterwards.
        """
        phase = due.phase
        parameters = self.players.groups[phase.name]
        optimizer = self.players.optimizers.get(phase.optimizer)
        if optimizer is None:
            return True
        ranks.average_gradients(parameters)
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizer)
        gradients = []
        for parameter in parameters:
            grad = parameter.grad
            if grad is None:
                continue
            if grad.stride() != parameter.stride() and not same_layout(grad, parameter):
                # Fused optimizers ignore strides (seen in torch 2.13 and 2.14).
                parameter.grad = grad = torch.empty_like(parameter).copy_(grad)
            gradients.append(grad)
        finite = self._clip(gradients, self.clip_norm or self.players.schedule.optimizers[phase.optimizer].clip_norm)
        if finite:
            for group in optimizer.param_groups:
                group["lr"] = due.lr
            self.scaler.step(optimizer)  # a plain optimizer.step() where no scaling is on
            self.players.count_step(phase.name)
        for parameter in parameters:
            parameter.grad = None
        return finite

    @staticmethod
    def _clip(gradients: Sequence[Tensor], limit: float | None) -> bool:
        if not gradients:
            return True
        # sync: one wait per update, to keep a broken update out of the weights
        if limit is None:
            return all_finite(gradients)
        norm = nn.utils.get_total_norm(list(gradients))
        finite = bool(torch.isfinite(norm))
        if finite:
            torch._foreach_mul_(list(gradients), (limit / (norm + 1e-6)).clamp(max=1.0))
        return finite


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Whether every element is finite, with one read of memory (and on the CPU of no square above 1e38)."""
    on_host = gradients[0].device.type == "cpu"
    large: list[Tensor] = []
    small: list[Tensor] = []
    for gradient in gradients:
        (large if on_host and gradient.numel() > LARGE else small).append(gradient)
    # A dense tensor's memory order does not matter to a dot product.
    squares = [torch.dot(flat, flat) for flat in (g.as_strided((g.numel(),), (1,)) for g in large)]
    if not all(math.isfinite(square.item()) for square in squares):
        return False
    if not small:
        return True
    found, factor = _marks(small[0].device)
    # What a gradient scaler does, by a factor of 1.
    torch._amp_foreach_non_finite_check_and_unscale_(small, found.zero_(), factor)
    return not found.item()


@functools.cache
def _marks(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what a gradient that is not finite is noted in, and a factor of 1."""
    return torch.zeros((), device=device), torch.ones((), device=device)


def measured(steps: Sequence[Step]) -> dict[str, Tensor]:
    """Return the means over micro-batches of what the losses measured."""
    return _means([step.measures for step in steps])


def reported(steps: Sequence[Step]) -> dict[str, Tensor]:
    """Return the means over micro-batches of what the losses reported."""
    return _means([step.reports for step in steps])


def _means(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return {name: value.float() for name, value in parts[0].items()}
    names = {name: None for part in parts for name in part}
    return {name: torch.stack([part[name].float() for part in parts if name in part]).mean() for name in names}


def _check_alike(phase: str, terms: Mapping[str, Tensor]) -> None:
    """Raise a UserError if a term of the whole batch was made of this rank's share alone."""
    odd = ranks.odd_one({name: term for name, term in terms.items() if term.dim() == 0})
    if odd is not None:
        raise UserError(
            f'Term "{odd}" of phase "{phase}" belongs to the whole batch, but each of {ranks.world()} ranks made it '
            "of its own share. Train on one rank; or let the loss return it per sample, [N], or make it of "
            "step.whole(...)."
        )


def _scaled(value: Tensor, factor: float) -> Tensor:
    return value if factor == 1.0 else value * factor
