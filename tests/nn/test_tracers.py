"""Tracers take our layers and the networks of all variants, for batches of any size."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fx
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from ganengine import nn as engine
from ganengine.layout import channels_last
from ganengine.nn.adopt import adopt
from ganengine.nn.context import Context, draw_context
from ganengine.plugins import registry
from ganengine.testing.subject import Subject
from ganengine.variant import DataSpec

# torch's own words about torch.jit, about sizes that a traced network asks for, and about its recurrent layers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The tensor attributes self.gru._flat_weights"),
]


def exported(network: nn.Module, inputs: tuple[Tensor, ...], free: tuple[int, ...] = (0,)) -> Callable[..., Any]:
    shapes = tuple({axis: Dim.DYNAMIC for axis in free if axis < x.dim()} for x in inputs)
    return torch.export.export(network, inputs, dynamic_shapes=shapes).module()


def traced(network: nn.Module, inputs: tuple[Tensor, ...], free: tuple[int, ...] = (0,)) -> Callable[..., Any]:
    return torch.jit.trace(network, inputs)


TRACERS = {"export": exported, "trace": traced}


def drawing() -> draw_context:
    """Return a context in which every sample has the same draws, however many there are."""
    return draw_context(Context(seed=3, sample_seeds=[5]))


# ----------------------------------------------------------------------------------------------------------------
# Networks of all variants

Inputs = dict[str, tuple[Tensor, ...]]
K = 10


def _pictures(spec: DataSpec, n: int, field: str = "real") -> Tensor:
    return torch.randn(n, *spec.fields[field].shape)


def _unconditional(config: Any, spec: DataSpec, n: int) -> Inputs:
    return {"G": (torch.randn(n, config.latent),), "D": (_pictures(spec, n),)}


def _by_class(config: Any, spec: DataSpec, n: int) -> Inputs:
    y = torch.arange(n) % (spec.classes("label") or 1)
    return {"G": (torch.randn(n, config.latent), y), "D": (_pictures(spec, n), y)}


def _by_codes(config: Any, spec: DataSpec, n: int) -> Inputs:
    return {"G": (torch.randn(n, *config.prior.shape),), "D": (_pictures(spec, n),)}


def _pairs(config: Any, spec: DataSpec, n: int) -> Inputs:
    a, b = _pictures(spec, n, "A"), _pictures(spec, n, "B")
    return {"G": (a,), "D": (torch.cat((a, b), 1),)}


def _unpaired(config: Any, spec: DataSpec, n: int) -> Inputs:
    a, b = _pictures(spec, n, "A"), _pictures(spec, n, "B")
    return {"G": (a,), "F": (b,), "D_A": (a,), "D_B": (b,)}


def _texts(config: Any, spec: DataSpec, n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(1, 20, (n, 12)), torch.randn(n, config.embedding)


def _by_text(config: Any, spec: DataSpec, n: int) -> Inputs:
    ids, texts = _texts(config, spec, n)
    return {"E": (ids,), "G": (torch.randn(n, config.latent), texts), "D": (_pictures(spec, n), texts)}


def _in_stages(config: Any, spec: DataSpec, n: int) -> Inputs:
    ids, texts = _texts(config, spec, n)
    low = torch.randn(n, spec.fields["real"].shape[0], config.low, config.low)
    e = torch.randn(n, config.condition)
    return {
        "E": (ids,),
        "G0": (torch.randn(n, config.latent + config.condition), texts),
        "G": (low, e, texts),
        "D": (_pictures(spec, n), texts),
    }


VARIANTS: dict[str, Callable[[Any, DataSpec, int], Inputs]] = {
    **dict.fromkeys(("gan", "dcgan", "lsgan", "wgan", "wgan-gp", "began", "progan"), _unconditional),
    **dict.fromkeys(("cgan", "cbn-gan"), _by_class),
    "infogan": _by_codes,
    "pix2pix": _pairs,
    "cyclegan": _unpaired,
    "gan-int-cls": _by_text,
    "stackgan": _in_stages,
}


def networks(variant: str, layers: str) -> tuple[dict[str, nn.Module], Callable[[int], Inputs]]:
    """Return the networks of a variant's last stage in eval mode, and what they take by batch size."""
    subject = Subject(variant, None)
    engine_options = dataclasses.replace(subject.settings.engine, layers=layers)
    subject.settings = dataclasses.replace(subject.settings, engine=engine_options)
    players = subject.players(len(subject.schedule.stages) - 1)
    made = {name: network.eval() for name, network in players.items() if isinstance(network, nn.Module)}
    return made, lambda n: VARIANTS[variant](subject.settings.config, subject.dataset.spec, n)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_networks_of_variants(variant: str, tracer: str) -> None:
    made, inputs = networks(variant, "plain")
    examples, others = inputs(3), inputs(5)
    for name, example in examples.items():
        with drawing():
            copied = TRACERS[tracer](made[name], example)
        with drawing():
            expected = made[name](*others[name])
        torch.testing.assert_close(copied(*others[name]), expected, rtol=1e-4, atol=1e-5)
        assert "ganengine::" not in written(copied)
        assert "ops.ganengine" not in written(copied)


def written(copied: Any) -> str:
    """Return the operations of a traced network, in words."""
    return str(copied.inlined_graph) if isinstance(copied, torch.jit.ScriptModule) else str(copied.code)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("variant", ["dcgan", "pix2pix", "cyclegan"])
def test_networks_with_adopted_layers(variant: str, tracer: str) -> None:
    made, inputs = networks(variant, "auto")
    example, other = (tuple(map(channels_last, inputs(n)["D" if variant == "dcgan" else "G"])) for n in (3, 5))
    network = made["D" if variant == "dcgan" else "G"]
    with drawing():
        copied = TRACERS[tracer](network, example)
    with drawing():
        torch.testing.assert_close(copied(*other), network(*other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("side", [32, 37], ids=["fits", "is padded"])
@pytest.mark.parametrize("variant", ["pix2pix", "cyclegan"])
def test_translators_take_pictures_of_any_size(variant: str, side: int, tracer: str) -> None:
    made, inputs = networks(variant, "plain")
    G = made["G"]
    channels = inputs(1)["G"][0].shape[1]
    # Noise has the form of the picture, so that of another form is no part of this.
    for module in G.modules():
        if isinstance(module, engine.Dropout):
            module.p = 0.0
    copied = TRACERS[tracer](G, (torch.randn(3, channels, side, side + 1),), (0, 2, 3))
    for shape in ((5, 48, 40), (1, 33, 57), (2, 64, 64), (3, 20, 31)):
        x = torch.randn(shape[0], channels, *shape[1:])
        torch.testing.assert_close(copied(x), G(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tracer", TRACERS)
def test_dropout_that_stays_on_is_drawn_by_the_copy(tracer: str) -> None:
    """Outside of a context: a seed of the moment of tracing would drop the same elements for ever."""
    network, x = nn.Sequential(engine.Dropout(0.5, always=True)).eval(), torch.ones(3, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.jit, "trace", lambda f, x, trace=torch.jit.trace: trace(f, x, check_trace=False))
        copied = TRACERS[tracer](network, (x,))
    torch.manual_seed(0)
    first, second = copied(torch.ones(5, 100)), copied(torch.ones(5, 100))
    assert first.shape == (5, 100)
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(first, second)


# ----------------------------------------------------------------------------------------------------------------
# Layers, by torch.fx

LAYERS: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "BatchNorm2d": lambda: (engine.BatchNorm2d(4), (torch.randn(3, 4, 6, 6),)),
    "InstanceNorm2d": lambda: (engine.InstanceNorm2d(4, affine=True), (channels_last(torch.randn(3, 4, 6, 6)),)),
    "Dropout": lambda: (engine.Dropout(0.5, always=True), (torch.randn(3, 4, 6, 6),)),
    "PixelNorm": lambda: (engine.PixelNorm(), (torch.randn(3, 4, 6, 6),)),
    "MinibatchStd": lambda: (engine.MinibatchStd(), (torch.randn(3, 4, 6, 6),)),
    "ReferenceNorm": lambda: (engine.ReferenceNorm(4), (torch.randn(3, 4, 6, 6),)),
    "Maxout": lambda: (engine.Maxout(4, 3, 2), (torch.randn(3, 4),)),
    "ConditionalBatchNorm2d": lambda: (
        engine.ConditionalBatchNorm2d(4, K),
        (torch.randn(3, 4, 6, 6), torch.tensor([1, 0, 7])),
    ),
    "adopted": lambda: (
        nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(4, 8, 3), engine.InstanceNorm2d(8), nn.ReLU(), nn.Flatten(),
            nn.Unflatten(1, (8, 6, 6)), nn.ReLU(), nn.Conv2d(8, 4, 1),
        ),
        (channels_last(torch.randn(3, 4, 6, 6)),),
    ),
    "resampled": lambda: (_Resampled(), (torch.randn(3, 4, 32, 32),)),
    "padded": lambda: (_Padded(), (torch.randn(3, 4, 7, 9),)),
}  # fmt: skip


class _Resampled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return engine.conv_pool2d(self.second, engine.up_conv2d(self.first, x), 0.2)


class _Around(nn.Module):
    """torch.fx never takes the root for a leaf."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        return made


class _AroundTwo(_Around):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        made: Tensor = self.layer(x, y)
        return made


class _Padded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return engine.crop_like(engine.pad_to_multiple(x, 4) + 1, x)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_fx_traces_layers(name: str, training: bool) -> None:
    layer, inputs = LAYERS[name]()
    network = (_Around if len(inputs) == 1 else _AroundTwo)(layer)
    network.train(training)
    adopt(network)
    again = torch.fx.symbolic_trace(copy.deepcopy(network))
    with drawing():
        expected = network(*inputs)
    with drawing():
        found = again(*inputs)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again.state_dict(), network.state_dict())  # running statistics have moved


@pytest.mark.parametrize("variant", ["dcgan", "pix2pix", "cyclegan"])
def test_fx_traces_networks(variant: str) -> None:
    made, inputs = networks(variant, "auto")
    for name, given in inputs(3).items():
        with drawing():
            expected = made[name](*given)
        with drawing():
            torch.testing.assert_close(torch.fx.symbolic_trace(made[name])(*given), expected, rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------------------------------
# Padding of pictures


@pytest.mark.parametrize(
    ("shape", "multiple", "minimum", "padded"),
    [((8, 12), 4, 1, (8, 12)), ((9, 12), 4, 1, (12, 12)), ((3, 5), 4, 8, (8, 8)), ((1, 1), 1, 1, (1, 1))],
)
def test_pictures_are_padded_by_their_last_row_and_column(
    shape: tuple[int, int], multiple: int, minimum: int, padded: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    made = engine.pad_to_multiple(x, multiple, minimum)
    below, right = padded[0] - shape[0], padded[1] - shape[1]
    assert torch.equal(made, F.pad(x, (0, right, 0, below), mode="replicate"))
    assert torch.equal(engine.crop_like(made, x), x)
    for tracer in TRACERS.values():
        copied = tracer(_Padding(multiple, minimum), (torch.zeros(3, 3, 32, 33, dtype=torch.float64),), (0, 2, 3))
        assert torch.equal(copied(x), made)


class _Padding(nn.Module):
    def __init__(self, multiple: int, minimum: int) -> None:
        super().__init__()
        self.to = multiple, minimum

    def forward(self, x: Tensor) -> Tensor:
        return engine.pad_to_multiple(x, *self.to)


def test_every_variant_has_a_row() -> None:
    entries = registry().entries["variant"].items()
    ours = {name for name, entry in entries if entry.origin.distribution.startswith("ganengine-")}
    assert ours - set(VARIANTS) <= {"social-gan"}  # whose scenes have any number of people: docs/export.md
