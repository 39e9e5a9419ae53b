"""Spectral norm against singular values, and when its vectors move."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Generator, Tensor, nn

from ganengine.nn import Maxout, spectral_norm
from ganengine.nn.context import hold
from ganengine.nn.init import initialise


@pytest.fixture(autouse=True)
def _same_weights() -> Iterator[None]:
    """Give every test the same weights each time: how fast the vectors settle depends on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def generator(seed: int = 1) -> Generator:
    return torch.Generator().manual_seed(seed)


def sigma(layer: nn.Module) -> float:
    """Largest singular value of a layer's weight, outputs in rows."""
    weight: Tensor = layer.weight.detach()  # type: ignore[assignment,operator]
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    return float(torch.linalg.matrix_norm(weight.movedim(axis, 0).flatten(1), 2))


def vectors(layer: nn.Module) -> list[Tensor]:
    return [buffer.clone() for name, buffer in layer.named_buffers() if name.endswith(("u", "v"))]


LAYERS: list[tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = [
    (lambda: nn.Linear(6, 4), lambda: torch.ones(2, 6)),
    (lambda: nn.Conv2d(3, 5, 3), lambda: torch.ones(2, 3, 4, 4)),
    (lambda: nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last), lambda: torch.ones(2, 3, 4, 4)),  # type: ignore[call-overload]
    (lambda: nn.ConvTranspose2d(3, 5, 3), lambda: torch.ones(2, 3, 4, 4)),
    (lambda: nn.Embedding(7, 4), lambda: torch.tensor([0, 3])),
    (lambda: Maxout(6, 4, 2), lambda: torch.ones(2, 6)),
]


@pytest.mark.parametrize(("make", "x"), LAYERS)
def test_the_largest_singular_value_becomes_one_and_the_weight_keeps_its_direction(
    make: Callable[[], nn.Module], x: Callable[[], Tensor]
) -> None:
    layer = make()
    kind, before = type(layer), layer.weight.detach().clone()  # type: ignore[operator]
    assert spectral_norm(layer, generator()) == 1
    for _ in range(400):
        layer(x())
    assert sigma(layer) == pytest.approx(1.0, abs=1e-4)
    assert isinstance(layer, kind)
    ratio = before / layer.weight.detach()  # type: ignore[operator]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=1e-6)


def test_an_iteration_is_the_papers_algorithm() -> None:
    layer = nn.Linear(3, 2, bias=False).double()
    spectral_norm(layer, generator())
    weight = layer.parametrizations.weight.original.detach()  # type: ignore[union-attr]
    u, _ = vectors(layer)
    layer(torch.ones(1, 3, dtype=torch.float64))
    v = weight.T @ u / (weight.T @ u).norm()
    u = weight @ v / (weight @ v).norm()
    torch.testing.assert_close(vectors(layer), [u, v])
    torch.testing.assert_close(layer.weight.detach(), weight / (u @ weight @ v))


def test_vectors_move_once_in_a_training_pass_and_never_else() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    spectral_norm(net, generator())
    x, moves = torch.ones(1, 4), []

    def moved() -> bool:
        before = vectors(net)
        net(x)
        return not all(torch.equal(a, b) for a, b in zip(before, vectors(net), strict=True))

    with torch.no_grad():  # far from where the vectors are
        for layer in (net[0], net[2]):
            layer.parametrizations.weight.original.add_(torch.eye(*layer.weight.shape) * 3)  # type: ignore[union-attr]
    moves.append(moved())
    net.eval()
    moves.append(moved())
    net.train()
    with hold([net]):
        moves.append(moved())
    moves.append(moved())
    assert moves == [True, False, False, True]
    before = vectors(net)
    _ = net[0].weight, net[2].weight  # looking at a weight is no pass
    assert all(torch.equal(a, b) for a, b in zip(before, vectors(net), strict=True))


class Twice(nn.Linear):
    """A layer that looks at its weight twice in a pass."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T - x @ self.weight.T


def test_in_a_pass_all_see_the_same_weight() -> None:
    net = Twice(4, 3)
    spectral_norm(net, generator())
    before = vectors(net)
    with torch.no_grad():
        net.parametrizations.weight.original.add_(torch.eye(3, 4))  # type: ignore[union-attr,operator]
    assert not net(torch.ones(2, 4)).any()
    moved = vectors(net)
    assert not any(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    net.parametrizations.weight[0].due = True  # type: ignore[union-attr,index,assignment]
    net.eval()(torch.ones(2, 4))  # after a pass that ended before it had looked at the weight
    assert all(torch.equal(a, b) for a, b in zip(moved, vectors(net), strict=True))


def test_two_passes_before_one_backward_and_gradients_to_second_order() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Softplus(), nn.Flatten(), nn.Linear(8, 1)).double()
    spectral_norm(net, generator())
    (net(torch.ones(1, 1, 3, 3, dtype=torch.float64)) - net(torch.zeros(1, 1, 3, 3, dtype=torch.float64))).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    weight = net[0].parametrizations.weight.original  # type: ignore[union-attr]
    rule = net[0].parametrizations.weight[0]  # type: ignore[union-attr,index]
    assert torch.autograd.gradcheck(rule, weight)
    assert torch.autograd.gradgradcheck(rule, weight)


def test_what_has_no_weight_or_has_the_norm_already_is_left_alone() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert spectral_norm(net, generator()) == 1
    names = list(net.state_dict())
    assert spectral_norm(net, generator()) == 0
    assert list(net.state_dict()) == names
    assert names[:4] == [
        "0.bias", "0.parametrizations.weight.original", "0.parametrizations.weight.0.u",
        "0.parametrizations.weight.0.v",
    ]  # fmt: skip


def test_copies_and_loaded_states_go_on_alike() -> None:
    net = nn.Linear(5, 5)
    spectral_norm(net, generator())
    net(torch.ones(1, 5))
    twin, other = copy.deepcopy(net), nn.Linear(5, 5)
    spectral_norm(other, generator(2))
    other.load_state_dict(net.state_dict())
    for one in (net, twin, other):
        one(torch.ones(1, 5))
    assert torch.equal(net.weight, twin.weight)
    assert torch.equal(net.weight, other.weight)
    kept = vectors(net)
    twin(torch.ones(1, 5))
    assert all(torch.equal(a, b) for a, b in zip(kept, vectors(net), strict=True))


def test_initialisers_reach_the_weight_below() -> None:
    net = nn.Linear(4, 4)
    spectral_norm(net, generator())
    initialise(net, "orthogonal", generator())
    for _ in range(3):
        net(torch.ones(1, 4))
    assert sigma(net) == pytest.approx(1.0, abs=1e-5)


def test_under_autocast_sigma_is_a_product_in_full_precision() -> None:
    net = nn.Linear(64, 64)
    spectral_norm(net, generator())
    for _ in range(400):
        net(torch.ones(1, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(torch.ones(1, 64))
        weight = net.weight.detach()
    assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1.0, abs=1e-4)
