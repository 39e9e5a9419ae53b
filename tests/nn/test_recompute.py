"""Activation checkpointing: less is kept, and no bit of a gradient or of the state is another."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointError

from ganengine.losses.penalties import r1_penalty
from ganengine.nn import BatchNorm2d, ConditionalBatchNorm2d, Dropout, InstanceNorm2d, spectral_norm
from ganengine.nn import recompute as module_under_test
from ganengine.nn.context import Context, draw_context, hold, name_modules
from ganengine.nn.recompute import recompute


class Counting(nn.Module):
    """A layer whose next pass depends on how often it ran, by a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x * self.passes


class Skips(nn.Module):
    """Encoder and decoder with a skip connection, activations in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [nn.Conv2d(3, 4, 4, 2, 1), nn.Sequential(nn.Conv2d(4, 8, 4, 2, 1), InstanceNorm2d(8, affine=True))]
        )
        self.up = nn.ModuleList(
            [nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2, 1), BatchNorm2d(4), Dropout(0.5, always=True))]
        )
        self.end = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down[0](x)
        x = self.up[0](F.relu(self.down[1](F.leaky_relu(first, 0.2))))
        painted: Tensor = self.end(F.relu(torch.cat((x, first), 1)))
        return painted


class Block(nn.Module):
    """A residual block with conditional batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = ConditionalBatchNorm2d(4, 3, activation="relu")
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor, *, y: Tensor) -> Tensor:
        refined: Tensor = x + self.conv(self.norm(x, y))
        return refined


class Conditional(nn.Module):
    """A stem and two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, y=torch.arange(len(x)) % 3)
        return x


def chain(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), BatchNorm2d(8), *between, nn.LeakyReLU(0.2),
        nn.Conv2d(8, 8, 3, padding=1), BatchNorm2d(8, momentum=None), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3),
    )  # fmt: skip


def normalised() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3))
    spectral_norm(network, torch.default_generator)
    return network


CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "chain": (chain, 2),
    "keyed dropout": (lambda: chain(Dropout(0.3)), 2),
    "torch's dropout": (lambda: chain(nn.Dropout(0.3)), 2),
    "counting": (lambda: chain(Counting()), 2),
    "skips": (Skips, 2),
    "conditional batch norm": (Conditional, 2),
    "spectral norm": (normalised, 2),
    "chain in chain": (lambda: nn.Sequential(chain(), nn.Tanh(), nn.Conv2d(1, 1, 1), nn.ReLU()), 3),
}
MOVING = ("chain", "keyed dropout", "torch's dropout", "counting", "spectral norm")
"""What a plain repetition of the forward pass would get wrong."""


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    """Return two equal networks, of which the second computes its activations again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = CASES[name][0]()
    again = copy.deepcopy(plain)
    assert recompute(again) == CASES[name][1]
    for network in (plain, again):
        name_modules({"N": network})
    return plain, again


def play(network: nn.Module, penalty: bool = False) -> list[Tensor]:
    """Return gradients and state after three passes in turn, of which the second moves no state."""
    source = torch.Generator().manual_seed(1)
    first, second, third = (torch.randn(4, 3, 12, 12, generator=source) for _ in range(3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        with draw_context(Context(seed=5, first_sample=3)):
            outputs = [network(first)]
            with hold([network]):
                outputs.append(network(second))
            outputs.append(network(third.requires_grad_()))
            total = sum((output.square().mean() for output in outputs), torch.zeros(()))
            if penalty:
                total = total + r1_penalty(lambda x: network(x).flatten(1).mean(1), third).mean()
        network.eval()  # what runs again must not notice
        total.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        total.backward()  # type: ignore[no-untyped-call]
    assert third.grad is not None
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return [third.grad, *gradients, *network.buffers(), *outputs]


@pytest.mark.parametrize("penalty", [False, True], ids=["once", "twice differentiated"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_and_state_are_the_same_to_the_bit(name: str, penalty: bool) -> None:
    compare(name, penalty)


def compare(name: str, penalty: bool = False) -> None:
    plain, again = (play(network, penalty) for network in networks(name))
    assert len(plain) == len(again) > 4
    assert all(map(torch.equal, plain, again))


@pytest.mark.parametrize("name", MOVING)
def test_a_plain_repetition_would_be_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test._Moment, "__enter__", lambda self: None)
    monkeypatch.setattr(module_under_test._Moment, "__exit__", lambda self, *_: None)
    if name == "torch's dropout":
        monkeypatch.setattr(module_under_test, "checkpoint", forgetful(module_under_test.checkpoint))
    with pytest.raises((AssertionError, CheckpointError)):
        compare(name)


def forgetful(checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: checkpoint(*args, preserve_rng_state=False, **options)


def kept(network: nn.Module, x: Tensor) -> int:
    """Return how many bytes of activations a pass keeps for the gradients."""
    held: dict[int, int] = {}
    inside = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), x)}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inside:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(x)
    assert output.requires_grad
    return sum(held.values())


def test_less_is_kept() -> None:
    plain, again = networks("chain")
    x = torch.randn(4, 3, 12, 12)
    # Of eight maps only what goes into the last convolution: what goes into a block is held by the block itself.
    assert kept(again, x) < kept(plain, x) / 3


def test_without_gradients_nothing_is_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, again = networks("skips")
    monkeypatch.delattr(module_under_test, "checkpoint")
    with torch.no_grad(), draw_context(Context(seed=0)):
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(plain(x), again(x))


def test_a_copy_has_blocks_of_its_own() -> None:
    _, network = networks("skips")
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    with draw_context(Context(seed=0)):
        assert not twin(torch.randn(2, 3, 8, 8)).any()
        assert network(torch.randn(2, 3, 8, 8)).any()


@pytest.mark.parametrize("name", ["chain", "conditional"])
def test_a_saved_network_has_blocks_of_its_own(name: str) -> None:
    network = chain() if name == "chain" else Conditional()
    blocks = recompute(network)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    x = torch.randn(2, 3, 8, 8)
    assert blocks
    assert torch.equal(twin(x), network(x))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(x).any()
    assert network(x).any()


def test_a_part_of_two_networks_is_divided_once() -> None:
    trunk = chain()
    assert recompute(nn.Sequential(trunk, nn.Flatten())) == 2
    assert recompute(nn.Sequential(trunk, nn.Tanh())) == 0
    assert recompute(nn.Linear(2, 2)) == 0
