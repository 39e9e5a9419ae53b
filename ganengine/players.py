"""The networks of a run with their parameter groups, optimizers and averages, at one stage of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganengine import draws, ranks
from ganengine.config import Settings, words
from ganengine.ema import Average, decay_at
from ganengine.errors import PluginError, UserError
from ganengine.hardware import Hardware
from ganengine.layout import channels_last
from ganengine.nn.adopt import adopt
from ganengine.nn.conditional_batch_norm import ConditionalBatchNorm2d
from ganengine.nn.context import name_modules
from ganengine.nn.minibatch_std import MinibatchStd
from ganengine.nn.norm import share_statistics
from ganengine.nn.recompute import recompute
from ganengine.nn.spectral_norm import spectral_norm
from ganengine.optimizers import FUSED, make_optimizer
from ganengine.returned import named
from ganengine.variant import DataSpec, Schedule, Stage

MIXING = (nn.modules.batchnorm._BatchNorm, ConditionalBatchNorm2d, MinibatchStd)
"""Layers that take statistics over the batch."""


class Players:
    """Networks (and tensors that are trained), what trains them and what averages them.

    Args:
        settings: the run's options.
        spec: what the data gives.
        schedule: names the optimizers, the phases and the averaged networks.
        stage: index of the stage to build for.
        optimizers: torch optimizer classes by name.
    """

    def __init__(
        self,
        settings: Settings,
        spec: DataSpec,
        schedule: Schedule,
        stage: int,
        hardware: Hardware,
        optimizers: Mapping[str, Any],
    ) -> None:
        self.schedule, self.hardware = schedule, hardware
        self.networks = build_networks(settings, spec, schedule.stages[stage], stage, hardware)
        self.blocks = {
            name: recompute(network)
            for name, network in self.networks.items()
            if settings.engine.checkpoint_activations and isinstance(network, nn.Module)
        }
        """By network, how many blocks compute their activations again for gradients."""
        self.steps = dict.fromkeys(self.networks, 0)
        self._ema = (settings.engine.ema_images, settings.engine.ema_rampup)
        self._owner = self._number_parameters()
        self.groups = {phase.name: self._group(phase.params) for phase in schedule.phases(stage)}
        for phase in schedule.phases(stage):
            unknown = [name for name in phase.hold if name not in self.networks]
            if unknown:
                raise PluginError(
                    f'Phase "{phase.name}" holds "{unknown[0]}", but the networks are {", ".join(self.networks)}.'
                )
        self._touched = {name: self._containing(members) for name, members in self.groups.items()}
        self.optimizers = self._build_optimizers(schedule, stage, optimizers)
        self.averages: dict[str, Average] = {}
        self.start_averages()

    def _number_parameters(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for name, network in self.networks.items():
            if isinstance(network, nn.Parameter):
                names.setdefault(id(network), name)
            else:
                for path, parameter in network.named_parameters(prefix=name):
                    names.setdefault(id(parameter), path)
        return names

    def _group(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        found: dict[int, nn.Parameter] = {}
        for name in names:
            root, _, path = name.partition(".")
            if root not in self.networks:
                raise PluginError(f'A phase trains "{name}", but the networks are {", ".join(self.networks)}.')
            part: Any = self.networks[root]
            if path:
                try:
                    part = operator_get(part, path)
                except AttributeError as error:
                    raise PluginError(f'A phase trains "{name}", but "{root}" has no part "{path}".') from error
            for parameter in [part] if isinstance(part, nn.Parameter) else part.parameters():
                if parameter.requires_grad:
                    found[id(parameter)] = parameter
        if not found:
            raise PluginError(
                f"A phase trains {', '.join(names)}, but no parameter there requires a gradient. "
                "Leave the phase out, or let the networks builder return trainable ones."
            )
        return list(found.values())

    def _build_optimizers(self, schedule: Schedule, stage: int, classes: Mapping[str, Any]) -> dict[str, Any]:
        members: dict[str, dict[int, nn.Parameter]] = {}
        for phase in schedule.phases(stage):
            if phase.optimizer not in schedule.optimizers:
                raise PluginError(
                    f'Phase "{phase.name}" uses optimizer "{phase.optimizer}", '
                    f"but the schedule has {', '.join(schedule.optimizers)}."
                )
            members.setdefault(phase.optimizer, {}).update({id(p): p for p in self.groups[phase.name]})
        return {
            name: make_optimizer(schedule.optimizers[name], list(parameters.values()), classes)
            for name, parameters in members.items()
            if parameters
        }

    def name_of(self, parameter: Tensor) -> str:
        """Return a parameter's full name ("G.down.0.weight")."""
        return self._owner[id(parameter)]

    def count_step(self, phase: str) -> None:
        """Note that the networks a phase trains have stepped, whole or in part."""
        for name in self._touched[phase]:
            self.steps[name] += 1

    def mixing(self) -> list[str]:
        """Return the names of networks with layers that take statistics over the batch."""
        return [
            name
            for name, net in self.networks.items()
            if isinstance(net, nn.Module) and any(isinstance(module, MIXING) for module in net.modules())
        ]

    def _containing(self, parameters: list[nn.Parameter]) -> set[str]:
        """Return the networks that hold any of these parameters; a trunk may be part of several."""
        wanted = {id(parameter) for parameter in parameters}
        return {name for name, net in self.networks.items() if wanted & {id(t) for t in _parameters(net)}}

    # -- averages -------------------------------------------------------------------------------------------------

    def start_averages(self) -> None:
        """Begin the averages at the networks as they are."""
        if self._ema[0] > 0:
            modules = {name: self.networks.get(name) for name in self.schedule.averaged}
            self.averages = {name: Average(net) for name, net in modules.items() if isinstance(net, nn.Module)}

    def update_averages(self, images: int, batch: int) -> None:
        """Move every average towards its network."""
        decay = decay_at(images, batch, *self._ema)
        for average in self.averages.values():
            average.update(decay)

    def sampling(self) -> dict[str, Any]:
        """Return the networks to sample with: averaged ones where there are any."""
        return {name: self.averages[name].network if name in self.averages else net for name, net in self.items()}

    def items(self) -> Iterator[tuple[str, Any]]:
        """Iterate over names and networks."""
        yield from self.networks.items()

    # -- state ----------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of networks and averages, by the names that a checkpoint uses ("G/...", "G_ema/...")."""
        found = network_tensors(self.networks)
        return found | network_tensors({f"{name}_ema": average.network for name, average in self.averages.items()})

    def optimizer_state(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the optimizers' state by optimizer and parameter name; tensors contiguous."""
        return {
            name: {
                self.name_of(parameter): {
                    key: value.detach().clone(memory_format=torch.contiguous_format)
                    if isinstance(value, Tensor)
                    else value
                    for key, value in optimizer.state[parameter].items()
                }
                for parameter in optimizer.param_groups[0]["params"]
                if parameter in optimizer.state
            }
            for name, optimizer in self.optimizers.items()
        }

    def load_optimizer_state(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take over optimizer state by parameter name; moments get the parameter's own strides.

        Raises:
            ValueError: a moment has another shape or dtype than a fused optimizer reads.
        """
        for name, optimizer in self.optimizers.items():
            saved = state.get(name, {})
            for parameter in optimizer.param_groups[0]["params"]:
                entry = saved.get(self.name_of(parameter))
                if entry is None:
                    continue
                for key, value in entry.items():
                    if isinstance(optimizer, FUSED) and not _is_moment(value, parameter):
                        raise ValueError(f"{key} of {self.name_of(parameter)} has another shape or dtype than it")
                    # Fused optimizers ignore strides: a moment in another layout would be read in the wrong order.
                    if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0:
                        value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                    elif isinstance(value, Tensor):
                        value = value.clone()
                    optimizer.state[parameter][key] = value

    def take_over(self, old: Players, stage: Stage) -> None:
        """Hand the older stage's parameters, averages and moments over by name, as `stage.hand_over` says.

        A tensor whose shape has changed starts anew, and so do its moments.

        Raises:
            PluginError: a rule names nothing.
        """
        mine, theirs = ({n.replace("/", ".", 1): t for n, t in p.tensors().items()} for p in (self, old))
        for new, source in stage.hand_over.items():
            for prefix, tensors in ((new, mine), (source, theirs)):
                if not any(_under(name, prefix) for name in tensors):
                    raise PluginError(
                        f'Stage "{stage.name}": hand_over "{new}" <- "{source}": nothing is called "{prefix}" there.'
                    )
        handed = {name: _origin(name, stage.hand_over) for name in mine}
        handed = {n: o for n, o in handed.items() if o in theirs and theirs[o].shape == mine[n].shape}
        with torch.no_grad():
            for name, origin in handed.items():
                mine[name].copy_(theirs[origin])
        if not stage.reset_optimizers:
            renamed = {
                old.name_of(theirs[origin]): self.name_of(mine[name])
                for name, origin in handed.items()
                if id(mine[name]) in self._owner and id(theirs[origin]) in old._owner
            }
            self.load_optimizer_state(
                {
                    optimizer: {renamed[name]: entry for name, entry in state.items() if name in renamed}
                    for optimizer, state in old.optimizer_state().items()
                }
            )
        self.steps.update({name: old.steps.get(name, 0) for name in self.steps})


def _is_moment(value: Any, parameter: Tensor) -> bool:
    """Whether an optimizer's state fits its parameter; a fused step reads memory without looking."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return True
    return value.shape == parameter.shape and value.dtype == parameter.dtype


def operator_get(module: Any, path: str) -> Any:
    """Return the part of `module` at a dotted path, indices included."""
    for word in path.split("."):
        module = getattr(module, word)
    return module


def _origin(name: str, rules: Mapping[str, str]) -> str:
    """Return the older name of tensor `name` ("G.skip.weight") under rules like {"G.skip": "G.to_rgb"}, or "".

    What a rule moves elsewhere is not taken over under its old name too. Rules hold for the averages as well.
    """
    rules = {**rules, **{_averaged(new): _averaged(old) for new, old in rules.items()}}
    for new, old in rules.items():
        if _under(name, new):
            return old + name[len(new) :]
    return "" if any(_under(name, old) for old in rules.values()) else name


def _averaged(prefix: str) -> str:
    root, dot, path = prefix.partition(".")
    return f"{root}_ema{dot}{path}"


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _parameters(network: nn.Module | nn.Parameter) -> Iterator[nn.Parameter]:
    if isinstance(network, nn.Parameter):
        yield network
    else:
        yield from network.parameters()


def build_networks(
    settings: Settings, spec: DataSpec, stage: Stage, index: int, hardware: Hardware
) -> dict[str, nn.Module | nn.Parameter]:
    """Call the variant's builder under a seed of its own and put what it returns on the device."""
    seed = draws.key(settings.engine.seed, "init", index)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = settings.variant.builder("networks")(settings.config, spec, stage)
    networks: dict[str, nn.Module | nn.Parameter] = {}
    spectral = words(settings.engine.spectral_norm)
    origin = f'The networks builder of "{settings.variant.name}"'
    for name, network in named(built, origin, '{name: Module or Parameter}, such as {"G": ..., "D": ...}').items():
        if isinstance(network, nn.Parameter):
            networks[name] = nn.Parameter(network.detach().to(hardware.device), network.requires_grad)
        elif isinstance(network, nn.Module):
            if name in spectral:
                with_spectral_norm(name, network, draws.generator(seed, "spectral norm", name))
            network.to(hardware.device)
            if hardware.channels_last:
                to_channels_last(network)
                if hardware.device.type == "cpu" and settings.engine.layers == "auto":
                    adopt(network)
            if ranks.world() > 1:
                share_statistics(network)
            networks[name] = network
        else:
            raise PluginError(
                f'{origin} returned {type(network).__name__} as "{name}"; expected a torch Module or Parameter.'
            )
    name_modules(networks)
    return networks


def with_spectral_norm(name: str, network: nn.Module, generator: torch.Generator) -> None:
    """Normalise the weights of a network spectrally.

    Raises:
        UserError: it has none, or has that normalisation already.
    """
    if not spectral_norm(network, generator):
        raise UserError(
            f'--spectral-norm: expected a network with plain weights, got "{name}", which has none. '
            "It may be normalised already: leave it out."
        )


def to_channels_last(network: nn.Module) -> None:
    """Give every tensor [N, C, H, W] of a network channels-last strides; torch's own `to` fails on volumes."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = channels_last(tensor.data)


def network_tensors(networks: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return parameters and buffers of networks as "name/path" -> tensor; a bare parameter is "name/value"."""
    found: dict[str, Tensor] = {}
    for name, network in networks.items():
        if isinstance(network, nn.Parameter):
            found[f"{name}/value"] = network
        else:
            found.update({f"{name}/{path}": t for path, t in network.state_dict(keep_vars=True).items()})
    return found


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape lie in memory in the same order."""
    return all(n <= 1 or i == j for n, i, j in zip(a.shape, a.stride(), b.stride(), strict=True))
