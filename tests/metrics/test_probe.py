"""Taps on convolutions, and the linear classifier on what they give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ganengine.errors import UserError
from ganengine.metrics.probe import conv_features, linear_probe


def test_features_are_the_maxima_of_all_layers() -> None:
    layers = (nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 2, 2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 1))
    pictures = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    features = conv_features(network, pictures)
    assert features.shape == (300, 16 * (2 + 3))
    with torch.no_grad():
        first = network[0](pictures)
    assert torch.equal(features[:, :32], torch.nn.functional.max_pool2d(first, 2).flatten(1))
    assert network.training
    assert network[1].training
    assert int(network[1].num_batches_tracked) == 0
    assert not network[0]._forward_hooks


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(UserError, match="no convolution"):
        conv_features(nn.Linear(2, 2), torch.zeros(1, 2))


def test_the_probe_finds_what_is_linear_and_nothing_else() -> None:
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 3
    told = torch.randn(200, 5, generator=source) + 4 * torch.eye(5)[labels]
    noise = torch.randn(200, 5, generator=source)
    assert linear_probe(told[:120], labels[:120], told[120:], labels[120:], 3) >= 0.95
    assert linear_probe(noise[:120], labels[:120], noise[120:], labels[120:], 3) <= 0.6
    same = linear_probe(told[:120], labels[:120], told[120:], labels[120:], 3)
    assert same == linear_probe(told[:120], labels[:120], told[120:], labels[120:], 3)
