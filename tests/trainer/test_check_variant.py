"""The conformance kit: it passes a good variant and names what is wrong with each of many bad ones."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import ops
from ganengine.errors import DataError, PluginError
from ganengine.losses.adversarial import adversarial
from ganengine.plugins import Entry, Origin, registry
from ganengine.step import Step
from ganengine.testing import CHECKS, Synthetic, check_variant, synthetic_spec
from ganengine.testing.game import logits_stay_logits
from ganengine.testing.subject import Subject
from ganengine.variant import Group, Optimizer, Phase, Schedule, Stage, Variant, View

from .lab import Terms
from .test_growth import growing
from .test_growth import losses as growing_losses
from .test_growth import networks as growing_networks
from .tiny_gan import VARIANT, game

HERE = Path(__file__).parent


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register the tiny GAN, with parts of it replaced, for the time of one test; return its name."""
    monkeypatch.syspath_prepend(HERE)

    def register(**parts: Any) -> str:
        module = ModuleType("changed_gan")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        for what in Variant.BUILDERS:
            if callable(parts.get(what)):
                setattr(module, what, parts[what])
                parts[what] = f"{module.__name__}:{what}"
        record = dataclasses.replace(VARIANT, **parts)
        entry = Entry(record, Origin("tiny_gan", "tests", "", "tiny_gan"))
        monkeypatch.setitem(registry().entries["variant"], record.name, entry)
        return record.name

    return register


def test_a_good_variant_passes_every_check(tiny: Callable[..., str]) -> None:
    threads, mode = torch.get_num_threads(), ops.mode()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    report = check_variant(tiny())
    assert report.variant == "tiny-gan"
    assert report.passed == tuple(check.name for check in CHECKS)
    assert (torch.get_num_threads(), ops.mode()) == (threads, mode)
    assert torch.equal(torch.get_rng_state(), before)


def test_data_may_be_given_as_a_data_set_or_by_name(tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from .tiny_gan import ganengine_data_sources

    (source,) = ganengine_data_sources()
    monkeypatch.setitem(registry().entries["data source"], source.name, Entry(source, Origin("t", "t", "", "t")))
    check_variant(tiny(), data="tiny-noise")
    check_variant(tiny(), data=Synthetic(synthetic_spec(("real",), 8, 6)))


def test_a_growing_variant_passes(tiny: Callable[..., str]) -> None:
    check_variant(
        tiny(
            networks=growing_networks,
            losses=lambda config: growing_losses([]),
            schedule=lambda config: growing(),
            views=lambda config: {},
        )
    )


def test_an_unknown_name_is_an_error_of_its_own() -> None:
    with pytest.raises(PluginError, match='No variant is called "tiny-gam"'):
        check_variant("tiny-gam")


# -- each check finds its fault -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Silent:
    """Options of which one has no help."""

    width: int = 8
    """Features."""
    lr: float = 1e-2


def with_last(network: str, layer: Callable[[], nn.Module]) -> Callable[..., dict[str, nn.Module]]:
    """The tiny GAN's networks, one of which has a further layer, made anew in each build."""

    def networks(config: Any, spec: Any, stage: Any) -> dict[str, nn.Module]:
        built = game.networks(config, spec, stage)
        built[network] = nn.Sequential(*built[network].children(), layer())
        return built

    return networks


def critic_with(sigmoid: bool, loss: str) -> dict[str, Any]:
    """Networks called G and C, whose C gives what `loss` takes or, with a sigmoid, what it must not get."""

    def networks(config: Any, spec: Any, stage: Any) -> dict[str, nn.Module]:
        built = game.networks(config, spec, stage)
        return {"G": built["G"], "C": built["D"]}

    def judge(step: Step, pictures: Tensor) -> Tensor:
        logits = step.C(pictures)
        return (torch.sigmoid(logits) if sigmoid else logits).flatten(1)

    def losses(config: Any) -> Any:
        def c(step: Step) -> Terms:
            real, made = judge(step, step.batch.real), judge(step, game.fake(step).detach())
            if loss == "torch":
                ones, zeros = torch.ones_like(real), torch.zeros_like(made)
                both = F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(made, zeros)
                return {"c": both}
            return {"c": adversarial(loss).d(real, made)}

        return {"c": c, "g": lambda step: {"g": -judge(step, game.fake(step)).mean(1)}}

    def schedule(config: Any) -> Schedule:
        phases = Phase("c", ("C",), "c", "c"), Phase("g", ("G",), "g", "g")
        return Schedule((Stage(phases),), {"c": Optimizer(1e-3), "g": Optimizer(1e-3)})

    return {"networks": networks, "losses": losses, "schedule": schedule}


class Probing(nn.Module):
    """A layer that does what it is given to do."""

    def __init__(self, act: Callable[[Probing, Tensor], Tensor]) -> None:
        super().__init__()
        self.act, self.calls = act, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.act(self, x)


class Spare(nn.Module):
    """A layer with a weight that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Touching(nn.Module):
    """A layer that writes to its own weight in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.scale.clone()
        with torch.no_grad():
            self.scale.mul_(0.5)
        return y


def losses_with(**changed: Callable[[Step], Terms]) -> Any:
    return lambda config: {**game.losses(config), **changed}


def backward_inside(step: Step) -> Terms:
    loss = F.softplus(-game.judge(step, step.batch.real))
    loss.mean().backward(retain_graph=True)
    return {"generator": F.softplus(-game.judge(step, game.fake(step)))}


def schedule_with(*phases: Phase | Group, **more: Any) -> Any:
    adam = Optimizer(1e-3)
    return lambda config: Schedule((Stage(phases),), {"critic": adam, "generator": adam}, **more)


CRITIC = Phase("critic", ("D",), "critic", "critic")
GENERATOR = Phase("generator", ("G",), "generator", "generator")


def grid_of(make: Callable[[Step, int], dict[str, Tensor]]) -> Any:
    return lambda config: {"grid": View(make, "a grid")}


def plain(step: Step, n: int) -> Tensor:
    made: Tensor = step.G(step.randn("view", (4, 1, 1)))
    return made[:n]


def translator(act: Callable[[Step, Tensor], Tensor], **options: Any) -> Any:
    return lambda config: {"translate": View(act, "", kind="translate", source="real", target="real", **options)}


class Memory:
    """State outside parameters, buffers and the schedule: what a resumed run loses."""

    def __init__(self) -> None:
        self.count = 0

    def loss(self, step: Step) -> Terms:
        self.count += 1
        return {"generator": F.softplus(-game.judge(step, game.fake(step))) * (1 + self.count % 7)}


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    # what is wrong: (check that finds it, parts of the variant, words of the message)
    "name": ("record", {"name": "Tiny_GAN"}, "kebab case"),
    "summary": ("record", {"summary": " "}, "expected a summary"),
    "fields": ("record", {"fields": ()}, "there are none"),
    "help": ("record", {"config": Silent}, "lr have no docstring"),
    "builder": ("record", {"views": "tiny_gan.game:nothing"}, 'has no "nothing"'),
    "no function": ("record", {"views": "tiny_gan:VARIANT"}, "expected a function, got a Variant"),
    "preset": ("record", {"presets": {"odd": {"width": "wide"}}}, "refuses it"),
    "stray option": ("record", {"smallest": {"widht": 4}}, "refuses it"),
    "unknown field": ("builds", {"fields": ("real", "points")}, 'field "points" has no synthetic form'),
    "averaged": ("builds", {"schedule": schedule_with(CRITIC, GENERATOR, averaged=("F",))}, "averaged names F"),
    "loss missing": ("builds", {"losses": lambda config: {}}, 'uses loss "critic"'),
    "range": (
        "views",
        {"networks": with_last("G", lambda: Probing(lambda me, x: 2 * x.sign()))},
        r"expected pictures in \[-1, 1\]",
    ),
    "shape": (
        "views",
        {"views": grid_of(lambda step, n: {"x": plain(step, n)[0]})},
        r"expected a Tensor \[N, C, H, W\]",
    ),
    "columns": (
        "views",
        {"views": grid_of(lambda step, n: {"a": plain(step, n), "b": plain(step, 1)})},
        "columns of one length",
    ),
    "empty view": ("views", {"views": grid_of(lambda step, n: {})}, "expected named columns"),
    "random view": (
        "views",
        {"views": grid_of(lambda step, n: {"x": torch.rand(n, 3, 8, 8)})},
        "another result when it is made again",
    ),
    "view of nothing": (
        "views",
        {"views": lambda config: {"t": View(lambda step, x: x, "", kind="translate")}},
        'its source "A" is no picture',
    ),
    "channels": ("views", {"views": translator(lambda step, x: x[:, :1])}, r"expected \[2, 3, H, W\]"),
    "batch mates": ("batch-mates", {"views": translator(lambda step, x: x / 2 - x.mean())}, "translated beside it"),
    "detached": (
        "phases",
        {"losses": losses_with(generator=lambda step: {"g": game.fake(step).detach().mean() + _zero(step)})},
        'nothing in "G" changed',
    ),
    "backward": (
        "phases",
        {"losses": losses_with(generator=backward_inside)},
        "got a gradient though the phase trains G",
    ),
    "written weights": ("phases", {"networks": with_last("D", Touching)}, "changed though the phase trains G"),
    "nothing to train": (
        "phases",
        {
            "networks": lambda *a: {**game.networks(*a), "H": nn.Linear(1, 1).requires_grad_(False)},
            "schedule": schedule_with(CRITIC, Phase("generator", ("G", "H"), "generator", "generator")),
        },
        'its group "H" has no parameter',
    ),
    "not finite": (
        "phases",
        {"losses": losses_with(generator=lambda step: {"g": game.judge(step, game.fake(step)) / 0.0})},
        "not finite",
    ),
    "spare weight": ("gradients", {"networks": with_last("D", Spare)}, "D.3.spare never get a gradient"),
    "player without a phase": (
        "gradients",
        {"schedule": schedule_with(GENERATOR)},
        "D.0.bias, .* never get a gradient",
    ),
    "sigmoid in D": ("logits", {"networks": with_last("D", nn.Sigmoid)}, r"D returns probabilities \(sigmoid\)"),
    "sigmoid, then a new shape": (
        "logits",
        {"networks": with_last("D", lambda: nn.Sequential(nn.Sigmoid(), nn.Flatten()))},
        r"D returns probabilities \(sigmoid\)",
    ),
    "softmax in D": (
        "logits",
        {"networks": with_last("D", lambda: Probing(lambda me, x: softmax(x)))},
        r"D returns probabilities \(softmax\)",
    ),
    "sigmoid before torch's loss": ("logits", critic_with(True, "torch"), 'term "c" starts from logits'),
    "sigmoid before the engine's loss": ("logits", critic_with(True, "nonsaturating"), 'term "c" starts from logits'),
    "global generator": (
        "deterministic",
        {"networks": with_last("D", lambda: Probing(lambda me, x: x * (1 + torch.rand(())) if me.training else x))},
        "two runs of one seed differ",
    ),
    "numpy's generator": (
        "deterministic",
        {"losses": losses_with(generator=lambda step: _scaled(step, float(np.random.rand())))},
        "two runs of one seed differ: networks: ",
    ),
    "hidden state in a module": (
        "resume",
        {"networks": with_last("D", lambda: Probing(lambda me, x: x / (1 + me.calls)))},
        "differs from an unbroken one",
    ),
    "hidden state in a loss": (
        "resume",
        {"losses": lambda config: {**game.losses(config), "generator": Memory().loss}},
        "differs from an unbroken one",
    ),
    "a field that was not declared": (
        "phases",
        {"losses": losses_with(generator=lambda step: {"g": step.batch.label + 0.0})},
        "this batch has no field 'label'",
    ),
}


def softmax(logits: Tensor) -> Tensor:
    return torch.cat((logits, torch.zeros_like(logits)), 1).softmax(1)[:, :1]


def _zero(step: Step) -> Tensor:
    total: Tensor = 0.0 * sum(p.sum() for p in step.G.parameters())
    return total


def _scaled(step: Step, factor: float) -> Terms:
    return {"generator": factor * F.softplus(-game.judge(step, game.fake(step)))}


@pytest.mark.parametrize(("check", "parts", "message"), BAD.values(), ids=BAD)
def test_a_bad_variant_is_named_with_the_check_and_the_remedy(
    tiny: Callable[..., str], check: str, parts: dict[str, Any], message: str
) -> None:
    name = tiny(**parts)
    with pytest.raises(AssertionError, match=f'^Variant "{name}", check "{check}"') as caught:
        check_variant(name)
    assert caught.match(f"(?s){message}")


@pytest.mark.parametrize("loss", ["torch", "nonsaturating", "ls", "hinge", "wasserstein"])
def test_logits_of_a_critic_by_another_name_pass(tiny: Callable[..., str], loss: str) -> None:
    logits_stay_logits(Subject(tiny(**critic_with(False, loss)), None))


def test_every_check_has_a_variant_that_fails_it() -> None:
    assert {check for check, *_ in BAD.values()} | {"torch-free"} == {check.name for check in CHECKS}


def test_a_plugin_that_imports_torch_is_named(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tiny()
    heavy = tmp_path / "heavy_gan.py"
    heavy.write_text("import torch\nGANENGINE_API = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = Entry(VARIANT, Origin("heavy", "tests", "", "heavy_gan"))
    monkeypatch.setitem(registry().entries["variant"], name, entry)
    with pytest.raises(AssertionError, match=r'check "torch-free" .* importing "heavy_gan" imports torch'):
        check_variant(name)
    heavy.write_text("raise OSError('no disk')\n")
    with pytest.raises(AssertionError, match=r'"heavy_gan" does not import(?s:.*)no disk'):
        check_variant(name)


# -- synthetic data -------------------------------------------------------------------------------------------------


def test_synthetic_data_has_the_form_of_its_spec() -> None:
    spec = synthetic_spec(("real", "A", "mask", "label", "attributes", "weight"), 8, 5)
    data = Synthetic(spec)
    assert dict(data.splits) == {"train": 5, "test": 4}
    sample, again, other = data.read("train", 3, 8), data.read("train", 3, 8), data.read("test", 3, 8)
    assert {name: array.shape for name, array in sample.items()} == {
        "real": (8, 8, 3), "A": (8, 8, 3), "mask": (8, 8, 1), "label": (), "attributes": (8,), "weight": (),
    }  # fmt: skip
    assert all(np.array_equal(sample[name], again[name]) for name in sample)
    assert not np.array_equal(sample["real"], other["real"])
    assert not np.array_equal(sample["real"], sample["A"])
    assert data.read("train", 0, 12)["real"].shape == (12, 12, 3)
    assert sorted(int(data.read("train", i, 8)["label"]) for i in range(4)) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r'"landmarks" has no synthetic form; .* data=DATASET'):
        synthetic_spec(("landmarks",), 8)
