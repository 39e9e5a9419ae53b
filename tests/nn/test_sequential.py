"""Layers in one operation with what stands beside them: the same numbers as one by one, and who still sees what."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganengine.nn import BatchNorm2d, InstanceNorm2d, convolution, norm, sequential, spectral_norm
from ganengine.nn.adopt import adopt
from ganengine.nn.context import hold
from ganengine.nn.convolution import Form
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


# ----------------------------------------------------------------------------------------------------------------
# An activation or a reflection with the convolution behind it


@pytest.fixture
def along(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, bool]]:
    """Take the op of our own (it needs no AMX), and tell what it took along: the slope, whether it reflects."""
    taken: list[tuple[float, bool]] = []
    original = convolution.convolved

    def told(x: Tensor, weight: Tensor, bias: Tensor, form: Form, ways: tuple[str, str], slope: float = 1.0) -> Tensor:
        taken.append((slope, form.reflect))
        return original(x, weight, bias, form, ways, slope)  # type: ignore[arg-type]

    monkeypatch.setattr(convolution, "convolved", told)
    monkeypatch.setattr(convolution, "kernels_pay", lambda dtype: dtype == torch.bfloat16)
    return taken


def features(*shape: int, seed: int = 1) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return x.contiguous(memory_format=torch.channels_last)


def filled(*layers: nn.Module) -> nn.Sequential:
    """Return layers as torch has them, with weights that bfloat16 holds."""
    network = nn.Sequential(nn.Identity(), *layers)  # in front: what a Sequential itself is given may be others' too
    draw = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        drawn = torch.randn(parameter.shape, generator=draw) / parameter[0].numel() ** 0.5
        parameter.data = drawn.bfloat16().float()
    return network.to(memory_format=torch.channels_last)


def after_a_pass(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the result, the gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        y = network(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.dtype))
    assert x.grad is not None
    found = [y.detach(), x.grad]
    for parameter in network.parameters():
        assert parameter.grad is not None
        found.append(parameter.grad)
        parameter.grad = None
    return found


def assert_rounded_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == other.dtype
        assert (mine.double() - other.double()).abs().max() <= 2**-6 * other.double().abs().max()


JOINED: dict[str, tuple[Callable[[], nn.Sequential], tuple[float, bool]]] = {
    "relu": (lambda: filled(nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1)), (0.0, False)),
    "leaky": (lambda: filled(nn.LeakyReLU(0.2), nn.Conv2d(16, 24, 4, 2, 1, bias=False)), (0.2, False)),
    "other-slope": (lambda: filled(nn.LeakyReLU(0.05), nn.Conv2d(16, 8, 1)), (0.05, False)),
    "relu-up": (lambda: filled(nn.ReLU(), nn.ConvTranspose2d(16, 8, 4, 2, 1)), (0.0, False)),
    "leaky-up": (lambda: filled(nn.LeakyReLU(0.2), nn.ConvTranspose2d(16, 8, 3, 2, 1, 1)), (0.2, False)),
    "reflect": (lambda: filled(nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3)), (1.0, True)),
    "reflect-uneven": (lambda: filled(nn.ReflectionPad2d((2, 2, 1, 1)), nn.Conv2d(16, 16, 3)), (1.0, True)),
    "reflect-nothing": (lambda: filled(nn.ReflectionPad2d(0), nn.Conv2d(16, 16, 3)), (1.0, True)),
}


@pytest.mark.parametrize("name", JOINED)
def test_a_convolution_takes_along_what_stands_in_front(name: str, along: list[tuple[float, bool]]) -> None:
    build, what = JOINED[name]
    theirs = build()
    ours = copy.deepcopy(theirs)
    adopt(ours)
    x = features(2, 16, 10, 12)
    found = after_a_pass(ours, x)
    assert along == [what]
    assert_rounded_alike(found, after_a_pass(theirs, x))

    def one_by_one(x: Tensor) -> Tensor:
        for layer in ours:
            x = layer(x)
        return x

    single = nn.Module()
    single.forward = one_by_one  # type: ignore[method-assign, assignment]
    single.layers = ours
    assert_rounded_alike(found, after_a_pass(single, x))
    assert along == [what, (1.0, False)]


@pytest.mark.parametrize("name", JOINED)
def test_the_same_where_there_are_no_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = JOINED[name][0]()
    ours = copy.deepcopy(theirs)
    adopt(ours)
    monkeypatch.setattr(convolution, "kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "small_kernels_pay", lambda _: False)
    monkeypatch.setattr(convolution, "few_kernels_pay", lambda _: False)
    x = features(2, 16, 10, 12)
    assert_rounded_alike(after_a_pass(ours, x), after_a_pass(theirs, x))
    ours, theirs, x = ours.double(), theirs.double(), x.double()
    for mine, other in zip(after_a_pass(ours, x), after_a_pass(theirs, x), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["relu", "leaky-up", "reflect"])
def test_a_normalised_weight_moves_on_once_in_each_pass(name: str, along: list[tuple[float, bool]]) -> None:
    build, what = JOINED[name]
    theirs, ours = build(), build()  # no copies, which would share the class of a normalised layer
    for network in (theirs, ours):
        spectral_norm(network, torch.Generator().manual_seed(0))
    adopt(ours)
    for seed in (1, 2, 3):
        x = features(2, 16, 10, 12, seed=seed)
        assert_rounded_alike(after_a_pass(ours, x), after_a_pass(theirs, x))
    assert along == [what] * 3
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


def test_several_in_a_row(along: list[tuple[float, bool]]) -> None:
    theirs = filled(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3),
        nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3), nn.ReLU(),
    )  # fmt: skip
    ours = copy.deepcopy(theirs)
    adopt(ours)
    x = features(1, 3, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        y, truth = ours(x), theirs.double()(x.double())
    assert (y.double() - truth).abs().max() <= 0.02 * truth.abs().max()
    assert along == [(1.0, False), (1.0, True), (0.2, False), (0.0, False)]


class Loud(nn.ReLU):
    """A layer of somebody's own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


APART: dict[str, Callable[[], nn.Sequential]] = {
    "in-place": lambda: filled(nn.ReLU(inplace=True), nn.Conv2d(16, 8, 3)),
    "leaky-in-place": lambda: filled(nn.LeakyReLU(0.2, inplace=True), nn.ConvTranspose2d(16, 8, 3)),
    "another-activation": lambda: filled(nn.Tanh(), nn.Conv2d(16, 8, 3)),
    "of-somebodys-own": lambda: filled(Loud(), nn.Conv2d(16, 8, 3)),
    "another-order": lambda: filled(nn.Conv2d(16, 8, 3), nn.ReLU()),
    "asymmetric": lambda: filled(nn.ReflectionPad2d((1, 2, 1, 1)), nn.Conv2d(16, 8, 3)),
    "asymmetric-down": lambda: filled(nn.ReflectionPad2d((1, 1, 0, 1)), nn.Conv2d(16, 8, 3)),
    "padding-of-its-own": lambda: filled(nn.ReflectionPad2d(1), nn.Conv2d(16, 8, 3, padding=1)),
    "zeros": lambda: filled(nn.ZeroPad2d(1), nn.Conv2d(16, 8, 3)),
    "reflection-before-a-transposed-one": lambda: filled(nn.ReflectionPad2d(1), nn.ConvTranspose2d(16, 8, 3)),
}


@pytest.mark.parametrize("name", APART)
def test_what_a_convolution_leaves_to_the_layers(name: str, along: list[tuple[float, bool]]) -> None:
    theirs = APART[name]()
    ours = copy.deepcopy(theirs)
    adopt(ours)
    x = features(2, 16, 9, 8)
    results = []
    for network in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16):
            results.append([network(x * 1)])
    assert_rounded_alike(*results)
    assert along == [(1.0, False)]


def test_what_a_sequential_is_given_may_be_changed_in_place_afterwards() -> None:
    layers = filled(nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))[1:]
    adopt(layers)
    x = features(2, 16, 9, 8).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        passed = x * 1
        passed += layers(passed)
    passed.float().sum().backward()
    assert x.grad is not None


def test_a_convolution_of_somebodys_own_keeps_its_forward(along: list[tuple[float, bool]]) -> None:
    class Doubled(convolution.Conv2d):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return 2 * super().forward(x)

    layers = Sequential(nn.Identity(), nn.ReLU(), Doubled(16, 8, 3))
    x = features(2, 16, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert_rounded_alike([layers(x)], [layers[2](x.relu())])
    assert along == [(1.0, False)] * 2


def test_a_reflection_that_crops() -> None:
    theirs = filled(nn.ReflectionPad2d(-1), nn.Conv2d(16, 8, 3))
    ours = copy.deepcopy(theirs)
    adopt(ours)
    x = features(2, 16, 9, 8)
    assert_rounded_alike(after_a_pass(ours, x), after_a_pass(theirs, x))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
@pytest.mark.parametrize("name", ["relu", "reflect"])
def test_who_listens_gets_the_layers_one_by_one(
    name: str, kind: str, layer: int, along: list[tuple[float, bool]]
) -> None:
    build, what = JOINED[name]
    ours = build()
    adopt(ours)
    heard: list[nn.Module] = []
    layer += 1
    handle = getattr(ours[layer], f"register_{kind}")(lambda module, *_: heard.append(module))
    after_a_pass(ours, features(2, 16, 10, 12))
    assert heard == [ours[layer]]
    assert along == [(1.0, False)]
    handle.remove()
    after_a_pass(ours, features(2, 16, 10, 12))
    assert along[1:] == [what]


def test_who_listens_to_all_modules_gets_convolutions_one_by_one(along: list[tuple[float, bool]]) -> None:
    ours = JOINED["relu"][0]()
    adopt(ours)
    heard: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda layer, *_: heard.append(layer))
    try:
        after_a_pass(ours, features(2, 16, 10, 12))
    finally:
        handle.remove()
    assert heard == [*ours, ours]
    assert along == [(1.0, False)]


@pytest.mark.parametrize("padding", [(1, 1, 9, 9), (8, 8, 1, 1)])
def test_a_padding_as_large_as_the_picture_is_torchs_error(
    padding: tuple[int, int, int, int], along: list[tuple[float, bool]]
) -> None:
    ours = filled(nn.ReflectionPad2d(padding), nn.Conv2d(16, 8, 3))
    adopt(ours)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="Padding size should be less than"):
        ours(features(2, 16, 9, 8))
    assert along == []


@pytest.mark.parametrize("name", ["relu", "reflect"])
def test_one_picture_without_a_batch(name: str, along: list[tuple[float, bool]]) -> None:
    theirs = JOINED[name][0]()
    ours = copy.deepcopy(theirs)
    adopt(ours)
    x = features(1, 16, 10, 12)[0]
    assert_rounded_alike(after_a_pass(ours, x), after_a_pass(theirs, x))
    assert along == []
