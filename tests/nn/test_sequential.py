"""A norm and the activation behind it in one operation: the same numbers as layer by layer, and who still sees what."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganengine.nn import BatchNorm2d, InstanceNorm2d, norm, sequential
from ganengine.nn.adopt import adopt
from ganengine.nn.context import hold
from ganengine.nn.sequential import Sequential
from ganengine.ops import dispatch

pytestmark = pytest.mark.skipif(not dispatch.compiled("instance_norm", "cpu"), reason="no compiled CPU kernels")

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm2d,
    "torch batch": nn.BatchNorm2d,
    "instance": InstanceNorm2d,
    "affine instance": lambda channels: InstanceNorm2d(channels, affine=True),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.2)}


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm, "LEAST_OF_ONE", 0)
    monkeypatch.setattr(sequential, "LEAST_ELEMENTS", 0)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell which operations were taken."""
    taken: list[str] = []
    for name in ("instance_norm", "conditional_batch_norm"):
        original = getattr(sequential, name)

        def told(
            *given: object, name: str = name, original: Callable[..., Tensor] = original, **more: object
        ) -> Tensor:
            taken.append(name)
            return original(*given, **more)

        monkeypatch.setattr(sequential, name, told)
    return taken


def network(kind: str, activation: str) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), NORMS[kind](8), ACTIVATIONS[activation](), nn.Conv2d(8, 2, 1)).double()
    for parameter in layers.parameters():
        nn.init.normal_(parameter)
    return layers.to(memory_format=torch.channels_last)


def pictures() -> Tensor:
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", NORMS)
def test_numbers_and_state_are_those_of_the_layers(
    kind: str, activation: str, training: bool, joined: list[str]
) -> None:
    theirs = network(kind, activation).train(training)
    ours = copy.deepcopy(theirs)
    adopt(ours)
    assert type(ours) is Sequential
    results = []
    for layers in (theirs, ours):
        x = pictures().requires_grad_()
        y = layers(x)
        y.sin().sum().backward()
        results.append([y, x.grad, *(p.grad for p in layers.parameters()), *layers.buffers()])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    instance = "instance" in kind
    assert joined == (["instance_norm"] if instance else ["conditional_batch_norm"] if training else [])


def test_held_statistics_stay(joined: list[str]) -> None:
    ours = network("batch", "relu")
    adopt(ours)
    with hold([ours]):
        ours(pictures())
    assert joined == ["conditional_batch_norm"]
    assert float(ours[1].running_mean.abs().sum()) == 0
    assert int(ours[1].num_batches_tracked) == 0


def test_who_listens_hears_each_layer(joined: list[str]) -> None:
    ours = network("instance", "relu")
    adopt(ours)
    heard: list[Tensor] = []
    handle = ours[1].register_forward_hook(lambda _, __, y: heard.append(y))
    whole = ours(pictures())
    assert joined == []
    assert float(heard[0].detach().min()) < 0, "the norm's own result, before the activation"
    handle.remove()
    torch.testing.assert_close(ours(pictures()), whole)
    assert joined == ["instance_norm"]
    assert float(ours[:2](pictures()).detach().min()) < 0, "a part of the layers is that part"


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("kind", ["full_backward_hook", "full_backward_pre_hook"])
def test_who_listens_to_gradients_hears_each_layer(kind: str, place: int, joined: list[str]) -> None:
    ours = network("instance", "relu")
    adopt(ours)
    heard: list[nn.Module] = []
    getattr(ours[place], f"register_{kind}")(lambda layer, *_: heard.append(layer))
    ours(pictures()).sum().backward()
    assert heard == [ours[place]]
    assert joined == []


def test_who_listens_to_all_modules_hears_each_layer(joined: list[str]) -> None:
    ours = network("batch", "leaky")
    adopt(ours)
    heard: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda layer, *_: heard.append(layer))
    try:
        ours(pictures())
    finally:
        handle.remove()
    assert heard == [*ours, ours]
    assert joined == []


@pytest.mark.parametrize(
    "layers",
    [
        nn.Sequential(InstanceNorm2d(3), nn.LeakyReLU(0.1)),
        nn.Sequential(InstanceNorm2d(3, track_running_stats=True), nn.ReLU()),
        nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.ReLU()),
        nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.ReLU()),
        nn.Sequential(nn.GroupNorm(1, 3), nn.ReLU()),
        nn.Sequential(InstanceNorm2d(3)),
        nn.Sequential(),
    ],
    ids=str,
)
def test_what_is_left_to_the_layers(layers: nn.Sequential, joined: list[str]) -> None:
    theirs = copy.deepcopy(layers)
    adopt(layers)
    x = pictures().float()
    assert torch.allclose(layers(x), theirs(x), atol=1e-6)
    assert joined == []


def test_one_position_passes_unchanged(joined: list[str]) -> None:
    layers = nn.Sequential(InstanceNorm2d(2), nn.LeakyReLU(0.2))
    adopt(layers)
    x = torch.tensor([[[[-1.0]], [[2.0]]]]).expand(2, 2, 1, 1)
    assert layers(x).flatten(1).tolist() == [[pytest.approx(-0.2), 2.0]] * 2
    assert joined == []
