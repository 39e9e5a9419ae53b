"""Checks of networks, losses and schedule: each phase is played once, on fresh networks, and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ganengine import draws
from ganengine.nn.context import Context, draw_context
from ganengine.plan import horizon
from ganengine.players import Players, network_tensors, operator_get
from ganengine.step import Step
from ganengine.testing.subject import Subject, require
from ganengine.update import Updater
from ganengine.variant import Due, Phase, Progress

BATCHES = 3
"""A phase has so many batches to move its parameters; a loss may be flat on one."""

RATE = 1e-3
"""Learning rate for one step, whatever the ramp's start is (a warm-up starts at 0)."""

SQUASHING = ("Sigmoid", "SpecialExpit", "Softmax")
"""What makes probabilities of logits, by its name in PyTorch's graph."""

FROM_LOGITS = ("BinaryCrossEntropyWithLogits", "Softplus", "LogSigmoid", "LogSoftmax")
"""What expects logits; the engine's own patchgan_loss is known by its module."""

PASSING = (
    "View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Permute", "Transpose", "T", "Select", "Slice",
    "Split", "Cat", "Stack", "Unbind", "Index", "Narrow", "Neg", "ToCopy", "Clone", "Alias", "Contiguous", "Mean",
)  # fmt: skip
"""What leaves a value as it is but for shape, sign and dtype."""


@dataclass(frozen=True)
class Played:
    """What one phase did."""

    stage: str
    phase: Phase
    entries: dict[str, set[str]]
    """Parameters by entry of `Phase.params`."""
    reached: set[str]
    """Parameters that got a gradient."""
    changed: set[str]
    leaked: set[str]
    """Parameters outside its groups with a gradient."""
    finite: bool
    squashed: list[str]
    """Where probabilities stand in the place of logits."""

    def __str__(self) -> str:
        return f'phase "{self.phase.name}" of stage "{self.stage}"'


def builds(subject: Subject) -> None:
    """Build every stage and a trainer, which checks the schedule; and look whether the averaged networks exist."""
    with subject.trainer():
        pass
    names: set[str] = set()
    for stage in range(len(subject.schedule.stages)):
        names |= set(subject.players(stage).networks)
    unknown = [name for name in subject.schedule.averaged if name not in names]
    require(
        not unknown,
        f"Schedule.averaged names {', '.join(unknown)}, but the networks are {', '.join(sorted(names))}. "
        "Name those that samples are made with, or write averaged=().",
    )


def phases_change_their_groups(subject: Subject) -> None:
    """Each phase moves a parameter in each of its groups, and none outside them."""
    for played in all_played(subject):
        require(played.finite, f"{played}: its gradient is not finite at the first step.")
        require(
            not played.leaked,
            f"{played}: {_few(played.leaked)} got a gradient though the phase trains {_few(played.entries)}. "
            "A loss must not call backward.",
        )
        own = set().union(*played.entries.values())
        others = played.changed - own
        require(
            not others,
            f"{played}: {_few(others)} changed though the phase trains {_few(played.entries)}. "
            "Losses and forward passes must not write to parameters; keep such state in buffers.",
        )
        for entry, names in played.entries.items():
            require(bool(names), f'{played}: its group "{entry}" has no parameter that requires a gradient.')
            require(
                bool(names & played.changed),
                f'{played}: nothing in "{entry}" changed in {BATCHES} updates. Does the loss depend on it, '
                "or is it detached?",
            )


def everything_is_trained(subject: Subject) -> None:
    """No parameter is left out by all phases of all stages."""
    trainable: set[str] = set()
    for stage in range(len(subject.schedule.stages)):
        players = subject.players(stage)
        trainable |= {players.name_of(parameter) for parameter in _parameters(players).values()}
    reached = set().union(*(played.reached for played in all_played(subject)))
    untouched = trainable - reached
    require(
        not untouched,
        f"{_few(untouched)} never get a gradient. Use them, remove them, train them in a phase, or, where they are "
        "meant to stay as they are, call requires_grad_(False) in the networks builder.",
    )


def logits_stay_logits(subject: Subject) -> None:
    """Look in the graph of each loss for probabilities where logits belong.

    Two rules, both on PyTorch's own graph, so that names of modules play no part: what a network called D or D_...
    returns is not the result of a sigmoid or softmax; and neither is what enters a loss that starts from logits
    (binary cross-entropy with logits, softplus, log-sigmoid, log-softmax, patchgan_loss), whatever network it is from.
    """
    for played in all_played(subject):
        require(
            not played.squashed,
            f"{played}: {'; '.join(played.squashed)}. The losses take logits: remove the sigmoid, else its gradient "
            "vanishes and the losses stay inside narrow bands.",
        )


@lru_cache(maxsize=1)
def all_played(subject: Subject) -> tuple[Played, ...]:
    """Play each phase of each stage; three checks look at the result."""
    return tuple(_play_all(subject))


def _play_all(subject: Subject) -> Iterator[Played]:
    losses = subject.variant.builder("losses")(subject.settings.config)
    with subject.loader() as loader:
        begins, whole = 0, horizon(subject.settings, subject.dataset.spec, subject.schedule)
        for index, stage in enumerate(subject.schedule.stages):
            # In the middle of a stage: at its beginning a fade-in may hide new layers.
            middle = (stage.images or whole) // 2
            batch = loader.draw(0, stage.batch or subject.settings.engine.batch, size=stage.size)
            batch = batch.to("cpu", channels_last=subject.hardware.channels_last)
            progress = Progress(1, begins + middle, max(1, 2 * (begins + middle)), index, middle)
            state = {name: torch.tensor(value) for name, value in subject.schedule.state.items()}
            for phase in subject.schedule.phases(index):
                players = subject.players(index)
                steps = [
                    Step(players.networks, batch, progress, draws.key(1, phase.name, number), state=state)
                    for number in range(BATCHES + 1)
                ]
                yield _play(players, Updater(players, losses, subject.hardware), stage.name, phase, steps)
            begins += stage.images or 0


def _play(players: Players, updater: Updater, stage: str, phase: Phase, steps: list[Step]) -> Played:
    squashed = _squashed(updater, phase, steps.pop())
    parameters = _parameters(players)
    names = {id(parameter): name for name, parameter in parameters.items()}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    own = {id(parameter) for parameter in players.groups[phase.name]}
    reached: set[str] = set()
    leaked: set[str] = set()
    finite = True
    due = Due(phase, 1, 1.0, RATE)
    for step in steps:
        updater.gradients(due, [step])
        graded = {id(parameter) for parameter in parameters.values() if parameter.grad is not None}
        reached |= {names[one] for one in graded & own}
        leaked |= {names[one] for one in graded - own}
        finite = updater.step(due) and finite
        changed = {name for name, parameter in parameters.items() if not torch.equal(parameter, before[name])}
    entries = {entry: _names_of(players, entry) for entry in phase.params}
    return Played(stage, phase, entries, reached, changed, leaked, finite, squashed)


def _names_of(players: Players, entry: str) -> set[str]:
    root, _, path = entry.partition(".")
    part: Any = operator_get(players.networks[root], path) if path else players.networks[root]
    members = [part] if isinstance(part, nn.Parameter) else part.parameters()
    return {players.name_of(parameter) for parameter in members if parameter.requires_grad}


def _parameters(players: Players) -> dict[str, nn.Parameter]:
    """Return all parameters that may be trained, each once, by full name."""
    tensors = network_tensors(players.networks).values()
    trainable = {id(t): t for t in tensors if isinstance(t, nn.Parameter) and t.requires_grad}
    return {players.name_of(parameter): parameter for parameter in trainable.values()}


def _few(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


# ----------------------------------------------------------------------------------------------------------------
# Probabilities in the place of logits


def _squashed(updater: Updater, phase: Phase, step: Step) -> list[str]:
    """Compute a phase's loss once and return where probabilities stand in the place of logits."""
    outputs: list[tuple[str, Any]] = []
    handles = [
        network.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output)))
        for name, network in step.networks.items()
        if isinstance(network, nn.Module) and name.partition("_")[0] == "D"
    ]
    try:
        with draw_context(Context(seed=draws.key(step.seed, phase.name))):
            terms = updater.losses[phase.loss](step)
    finally:
        for handle in handles:
            handle.remove()
    found = [
        f"{name} returns probabilities ({what})"
        for name, out in outputs
        for t in _tensors(out)
        if (what := _squash(t.grad_fn))
    ]
    for term, value in terms.items():
        for node in _graph(value.grad_fn):
            if _expects_logits(node):
                ends = [_squash(following) for following, _ in node.next_functions]
                found += [f'term "{term}" starts from logits, but gets probabilities ({end})' for end in ends if end]
    return list(dict.fromkeys(found))


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)


def _graph(root: Any) -> Iterator[Any]:
    """Iterate over the nodes of an autograd graph, each once."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def _expects_logits(node: Any) -> bool:
    of_function = getattr(getattr(type(node), "_forward_cls", None), "__module__", "")
    return node.name().partition("Backward")[0] in FROM_LOGITS or of_function == "ganengine.ops.patchgan_loss"


def _squash(node: Any) -> str:
    """Return the operation that made probabilities of what leaves `node`, or ""."""
    if node is None:
        return ""
    name = str(node.name()).partition("Backward")[0]
    if name in SQUASHING:
        return name.lower()
    if name not in PASSING:
        return ""
    return next((found for following, _ in node.next_functions if (found := _squash(following))), "")
