"""Initialisers: moments and bounds from the papers, and that the seed alone decides."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganengine.errors import UserError
from ganengine.nn.init import INITIALISERS, initialise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        layers = {
            "conv": nn.Conv2d(64, 96, 3),
            "up": nn.ConvTranspose2d(96, 32, 4),
            "norm": nn.BatchNorm2d(4000),
            "fc": nn.Linear(300, 200),
        }
        for name in sorted(layers, reverse=reverse):
            self.add_module(name, layers[name])


def initialised(name: str, seed: int = 0, reverse: bool = False, **options: float) -> Net:
    net = Net(reverse)
    initialise(net, name, generator(seed), **options)
    return net


def near(values: torch.Tensor, mean: float, std: float) -> bool:
    """Mean and deviation within five standard errors of a normal or uniform sample."""
    values, n = values.detach(), values.numel()
    return abs(float(values.mean()) - mean) < 5 * std / n**0.5 and abs(float(values.std()) - std) < 5 * std / n**0.5


def largest(values: torch.Tensor) -> float:
    return float(values.detach().abs().max())


def test_normal():
    net = initialised("normal")
    assert near(net.conv.weight, 0.0, 0.02)
    assert near(net.up.weight, 0.0, 0.02)
    assert near(net.fc.weight, 0.0, 0.02)
    assert near(net.norm.weight, 1.0, 0.02)
    assert near(initialised("normal", gain=0.5).fc.weight, 0.0, 0.5)


def test_glorot():
    net = initialised("glorot")
    bound = math.sqrt(6 / (300 + 200))
    assert 0.999 * bound < largest(net.fc.weight) <= bound
    assert near(net.fc.weight, 0.0, bound / math.sqrt(3))
    bound = math.sqrt(6 / ((64 + 96) * 9))
    assert 0.999 * bound < largest(net.conv.weight) <= bound
    assert 1.99 * bound < largest(initialised("glorot", gain=2.0).conv.weight) <= 2 * bound


def test_he():
    net = initialised("he")
    assert near(net.fc.weight, 0.0, math.sqrt(2 / 300))
    assert near(net.conv.weight, 0.0, math.sqrt(2 / (64 * 9)))
    assert near(initialised("he", gain=1.0).fc.weight, 0.0, math.sqrt(1 / 300))


def test_orthogonal():
    net = initialised("orthogonal", gain=3.0)
    for weight in (net.fc.weight, net.conv.weight.flatten(1)):
        torch.testing.assert_close(weight @ weight.T, 9 * torch.eye(len(weight)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", INITIALISERS)
def test_biases_and_norm_gains(name):
    net = initialised(name)
    for layer in (net.conv, net.up, net.norm, net.fc):
        assert not layer.bias.any()
    if name != "normal":
        assert bool((net.norm.weight == 1).all())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", INITIALISERS)
def test_the_seed_alone_decides(name):
    reference = initialised(name).state_dict()
    torch.manual_seed(99)
    other = Net(reverse=True).to(memory_format=torch.channels_last).double()
    before = torch.get_rng_state()
    initialise(other, name, generator())
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in other.state_dict().items():
        assert torch.equal(value.to(reference[key].dtype), reference[key]), key
    assert not torch.equal(initialised(name, seed=1).fc.weight, reference["fc.weight"])


def test_spectral_norm_counts_under_its_plain_name():
    plain, normed = nn.Sequential(nn.Linear(30, 20)), nn.Sequential(spectral_norm(nn.Linear(30, 20)))
    initialise(plain, "glorot", generator())
    initialise(normed, "glorot", generator())
    assert torch.equal(normed[0].parametrizations.weight.original, plain[0].weight)


def test_a_shared_weight_is_drawn_once():
    tied = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    tied["b"].weight = tied["a"].weight
    alone = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False)})
    initialise(tied, "he", generator())
    initialise(alone, "he", generator())
    assert torch.equal(tied["b"].weight, alone["a"].weight)


def test_other_parameters_keep_their_value():
    module = nn.PReLU()
    module.alpha = nn.Parameter(torch.full((3, 3), 0.7))
    initialise(module, "normal", generator())
    assert bool((module.alpha == 0.7).all())


def test_unknown_name():
    with pytest.raises(UserError, match=r'expected one of .*, got "glorod"\. Did you mean glorot'):
        initialise(nn.Linear(1, 1), "glorod", generator())
