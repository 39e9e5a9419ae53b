"""The averaged network: its half-life in images, its ramp-up, its buffers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganengine.ema import Average, decay_at
from ganengine.nn import BatchNorm2d


@pytest.mark.parametrize(
    ("images", "batch", "half_life", "rampup", "expected"),
    [
        (10**6, 1000, 1000, 0.05, 0.5),  # after one half-life half is left
        (10**6, 2000, 1000, 0.05, 0.25),
        (10**6, 0, 1000, 0.05, 1.0),
        (1000, 50, 10_000, 0.05, 0.5),  # the window is 5 % of what was shown
        (10**6, 500, 1000, 0.0, 0.5**0.5),  # no ramp-up
        (0, 8, 1000, 0.05, 0.0),  # nothing shown: take the network as it is
    ],
)
def test_decay_by_hand(images: int, batch: int, half_life: int, rampup: float, expected: float) -> None:
    assert decay_at(images, batch, half_life, rampup) == pytest.approx(expected)


@given(images=st.integers(10**6, 10**7), half_life=st.integers(1, 10**4), batch=st.integers(1, 512))
def test_the_batch_does_not_bend_the_average(images: int, half_life: int, batch: int) -> None:
    whole = decay_at(images, batch * 4, half_life, 0.05)
    assert decay_at(images, batch, half_life, 0.05) ** 4 == pytest.approx(whole, rel=1e-9)


@given(images=st.integers(0, 10**7), batch=st.integers(1, 512), half_life=st.integers(1, 10**5))
def test_a_decay_is_a_share(images: int, batch: int, half_life: int) -> None:
    assert 0.0 <= decay_at(images, batch, half_life, 0.05) < 1.0


def test_an_average_follows_its_network_and_copies_its_buffers() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), BatchNorm2d(2)).to(memory_format=torch.channels_last)
    average = Average(network)
    first = [p.detach().double().clone() for p in network.parameters()]
    for mine, theirs in zip(average.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
        assert not mine.requires_grad
    expected = first
    for decay in (0.9, 0.5, 0.0, 0.75):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.5).add_(0.25)
        network(torch.randn(4, 1, 3, 3))
        average.update(decay)
        now = [p.detach().double() for p in network.parameters()]
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, now, strict=True)]
        for mine, wanted in zip(average.network.parameters(), expected, strict=True):
            torch.testing.assert_close(mine.double(), wanted, rtol=1e-6, atol=1e-7)
    for mine, theirs in zip(average.network.buffers(), network.buffers(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


def test_buffers_are_copied_when_somebody_looks_after_an_update() -> None:
    network = BatchNorm2d(2)
    average = Average(network)
    first = average.network.running_mean
    network(torch.randn(4, 2, 3, 3))
    assert float(average.network.running_mean.abs().sum()) == 0  # type: ignore[union-attr,operator]
    average.update(0.5)
    assert average.network.running_mean is first
    assert torch.equal(first, network.running_mean)  # type: ignore[arg-type]
    with torch.no_grad():
        first.fill_(7.0)  # type: ignore[operator,union-attr]
    assert float(average.network.running_mean[0]) == 7.0, "what is put there stays until the next update"  # type: ignore[index]


def test_averaging_is_not_recorded_for_gradients() -> None:
    network = nn.Linear(2, 2)
    average = Average(network)
    average.update(0.5)
    assert all(p.grad_fn is None for p in average.network.parameters())
    assert all(p.grad is None for p in network.parameters())
