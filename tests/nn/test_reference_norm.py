"""Reference and virtual batch norm, by hand and by what they promise: no sample sees its batch mates."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ganengine.nn import ReferenceNorm, WithReference
from ganengine.nn.context import hold

SAMPLE = torch.empty(2, 3, 3, dtype=torch.float64)


def pictures(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(virtual: bool = True, rows: int = 4) -> WithReference:
    torch.manual_seed(5)
    inner = nn.Sequential(
        nn.Conv2d(2, 3, 2), ReferenceNorm(3, virtual=virtual), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5),
        ReferenceNorm(5, virtual=virtual), nn.Linear(5, 1),
    )  # fmt: skip
    return WithReference(inner, rows, SAMPLE).double()


@pytest.mark.parametrize("virtual", [True, False])
def test_statistics_are_those_of_the_reference_and_the_sample_by_hand(virtual: bool) -> None:
    norm = ReferenceNorm(2, virtual=virtual).double()
    norm.rows = 3
    x = pictures(5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, -2.0]))
        norm.bias.copy_(torch.tensor([0.25, 1.0]))
    found = norm(x).detach()
    for n in range(5):
        for c in range(2):
            # The sample weighs as much as each sample of the reference.
            values = torch.cat((x[:3, c].flatten(), x[n, c].flatten() if virtual and n >= 3 else torch.empty(0)))
            mean = sum(values) / len(values)
            var = sum((v - mean) ** 2 for v in values) / len(values)
            expected = (x[n, c] - mean) / (var + 1e-5) ** 0.5 * norm.weight[c] + norm.bias[c]
            torch.testing.assert_close(found[n, c], expected.detach())


@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_sample_does_not_see_its_batch_mates(virtual: bool, training: bool) -> None:
    net = network(virtual)
    net(pictures(4))
    net.train(training)
    x, others = pictures(6, 2), 9 * pictures(6, 3)
    together = net(x)
    torch.testing.assert_close(net(torch.cat((x[:1], others))).detach()[:1], together[:1].detach())
    torch.testing.assert_close(net(x[2:3]).detach(), together[2:3].detach())


def test_the_first_batch_in_training_is_the_reference_for_good() -> None:
    net, x = network(), pictures(6)
    alone = net.eval()(x)  # before there is one: every sample by itself
    assert not bool(net.filled)
    torch.testing.assert_close(net(x[:1]), alone[:1])
    net.train()
    with hold([net]):
        net(9 * x)
    assert not bool(net.filled)
    net(x)
    assert torch.equal(net.reference_0, x[:4])
    net(pictures(6, 2))
    assert torch.equal(net.reference_0, x[:4])


def test_a_small_first_batch_is_taken_over_and_over() -> None:
    net, x = network(rows=5), pictures(2)
    net(x)
    assert torch.equal(net.reference_0, x[[0, 1, 0, 1, 0]])


def test_the_reference_is_part_of_the_state() -> None:
    net, other = network(), network()
    net(pictures(6))
    other.load_state_dict(net.state_dict())
    twin = copy.deepcopy(net)
    x = pictures(3, 2)
    expected = net.eval()(x)
    assert torch.equal(other.eval()(x), expected)
    assert torch.equal(twin.eval()(x), expected)


def test_labels_go_along() -> None:
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm = nn.Embedding(3, 2), ReferenceNorm(2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            result: Tensor = self.norm(x + self.embed(y)[..., None, None])
            return result

    net = WithReference(Labelled(), 2, SAMPLE, torch.empty((), dtype=torch.long))
    labels = torch.tensor([2, 0, 1])
    assert net(pictures(3), labels).shape == (3, 2, 3, 3)
    assert net.reference_1.tolist() == [2, 0]
    with pytest.raises(ValueError, match="expected 2 inputs, got 1"):
        net(pictures(3))


def test_gradients_are_right_to_second_order() -> None:
    norm = ReferenceNorm(2).double()
    norm.rows = 1
    x = pictures(2)[..., :2].requires_grad_()
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected x \[N, 3, ...\], got \[4, 2\]"):
        ReferenceNorm(3)(torch.ones(4, 2))
    with pytest.raises(ValueError, match="expected a row and an example or more, got 0 and 1"):
        WithReference(nn.Identity(), 0, SAMPLE)
