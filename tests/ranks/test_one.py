"""What the parts for many ranks give on one: torch's own numbers, and nothing of their own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganengine import ops, ranks
from ganengine.errors import UserError
from ganengine.nn.norm import batch_norm_over_ranks, follow, norm_over_ranks, share_statistics
from ganengine.ops import conditional_batch_norm

NORMS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "1d": (nn.BatchNorm1d(3), (6, 3)),
    "2d": (nn.BatchNorm2d(3, momentum=None), (2, 3, 2, 2)),
    "3d": (nn.BatchNorm3d(3, affine=False), (2, 3, 2, 1, 2)),
    "untracked": (nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 2, 2)),
}


def test_one_process_is_one_rank() -> None:
    x = torch.arange(6.0)
    with ranks.group():
        assert (ranks.rank(), ranks.world(), ranks.first(), ranks.speaks()) == (0, 1, True, True)
        assert ranks.whole(x) is x
        assert ranks.share(x) is x
        assert ranks.agreed(3, 0) == (3, 0)
        assert ranks.from_first("here") == "here"
        assert ranks.odd_one({"a": x[0]}) is None
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize(("norm", "shape"), NORMS.values(), ids=NORMS)
def test_batch_norm_is_torchs_to_the_second_derivative(norm: Any, shape: tuple[int, ...], mode: str) -> None:
    ops.set_mode(mode)
    ours, theirs = (copy.deepcopy(norm).double() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for number in range(2):
        x = 3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        found, wanted = batch_norm_over_ranks(ours, x), theirs(x)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12, msg=str(number))
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=0, atol=1e-12, msg=name)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    ours.track_running_stats = False
    assert torch.autograd.gradcheck(lambda x: batch_norm_over_ranks(ours, x), x)
    assert torch.autograd.gradgradcheck(lambda x: batch_norm_over_ranks(ours, x), x)


class Mirror:
    """A board between two ranks that hold the same."""

    def __init__(self) -> None:
        self.messages: list[list[int]] = []
        """Shapes."""

    def takes(self, x: Tensor) -> bool:
        return x.is_contiguous()

    def sum_(self, x: Tensor) -> None:
        self.messages.append(list(x.shape))
        x.mul_(2)

    def gather(self, x: Tensor) -> Tensor:
        self.messages.append(list(x.shape))
        return torch.stack((x, x))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """Two ranks, the other one a mirror of this."""
    board = Mirror()
    monkeypatch.setattr(ranks, "_world", 2)
    monkeypatch.setattr(ranks, "_board", board)
    return board


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("classes", [3, None])
def test_two_ranks_with_one_share_are_one_with_the_batch_twice(
    mirror: Mirror, mode: str, dtype: torch.dtype, classes: int | None
) -> None:
    ops.set_mode(mode)
    draw = torch.Generator().manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, grad = (torch.randn(4, 5, 3, 3, generator=draw).to(dtype) for _ in range(2))
    x = x.contiguous(memory_format=torch.channels_last)
    tables = torch.randn(2, classes or 4, 5, generator=draw).to(wide)
    labels = None if classes is None else torch.tensor([0, 2, 2, 1])
    running = [(torch.zeros(5), torch.ones(5)) for _ in range(2)]

    leaves = [x.requires_grad_(), *(table.clone().requires_grad_() for table in tables)]
    y, shared = norm_over_ranks(*leaves, labels, 1e-5, 0.2)
    follow(*running[0], shared, 0.1)
    found = [y, *torch.autograd.grad(y, leaves, grad, retain_graph=True)]
    # By the formula in plain PyTorch, as it is where gradients are differentiated again.
    again = torch.autograd.grad(y, leaves, grad, create_graph=True)
    assert mirror.messages == [[3, 5], [2, 5], [3, 5], [2, 3, 5]]

    twice = [torch.cat((x, x)).double().detach().requires_grad_()]
    rows = tables if classes is not None else torch.cat((tables, tables), 1)
    twice += [table.double().requires_grad_() for table in rows]
    both = None if labels is None else torch.cat((labels, labels))
    whole = conditional_batch_norm(
        *twice, both, running_mean=running[1][0], running_var=running[1][1], activation="leaky_relu"
    )
    truth = [whole, *torch.autograd.grad(whole, twice, torch.cat((grad, grad)).double())]
    truth = [part[: len(part) // 2] for part in truth[:2]] + [
        part[:4] if classes is None else part / 2 for part in truth[2:]
    ]
    close = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 5e-3}[dtype]
    for name, one, two in zip(("y", "x", "gamma", "beta"), found, truth, strict=True):
        torch.testing.assert_close(
            one.double(), two, rtol=close, atol=5 * close, msg=lambda told, n=name: f"{n}: {told}"
        )
    torch.testing.assert_close(again, tuple(found[1:]), rtol=2 * close, atol=10 * close)
    torch.testing.assert_close(running[0], running[1])


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize("wanted", ["x", "gamma", "beta"])
def test_ranks_compute_and_tell_no_more_than_is_needed(mirror: Mirror, mode: str, wanted: str) -> None:
    ops.set_mode(mode)
    leaves = {"x": torch.randn(4, 5, 3, 3), "gamma": torch.randn(1, 5), "beta": torch.randn(1, 5)}
    leaves[wanted].requires_grad_()
    y, _ = norm_over_ranks(*leaves.values(), torch.zeros(4, dtype=torch.int64), 1e-5)
    y.square().sum().backward()
    assert [name for name, leaf in leaves.items() if leaf.grad is not None] == [wanted]
    assert mirror.messages == ([[3, 5], [2, 5]] if wanted == "x" else [[3, 5]])


def test_torchs_own_norms_take_part_and_so_do_their_copies() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    share_statistics(network)
    other = copy.deepcopy(network)
    other(torch.ones(4, 3) * torch.arange(4.0)[:, None])
    assert network[0].num_batches_tracked == 0
    assert other[0].num_batches_tracked == 1
    assert torch.equal(other.eval()(torch.ones(1, 3)), copy.deepcopy(other)(torch.ones(1, 3)))
    plain = nn.BatchNorm1d(3).eval()
    plain.load_state_dict(other[0].state_dict())
    assert torch.equal(other[0](torch.ones(1, 3)), plain(torch.ones(1, 3)))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WORLD_SIZE", "two", "WORLD_SIZE: expected a whole number, as torchrun sets it; got 'two'"),
        *[
            (ranks.TIMEOUT, stated, f"{ranks.TIMEOUT}: expected seconds above 0, got '{stated}'")
            for stated in ("soon", "-1", "0", "nan", "inf")
        ],
        ("RANK", "", "expected 2 processes that find each other"),
    ],
)
def test_an_environment_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told.replace(".", r"\.")), ranks.group():
        pass


@pytest.mark.parametrize(("stated", "seconds"), [(None, 600.0), ("", 600.0), ("20", 20.0), ("0.5", 0.5)])
def test_how_long_a_rank_waits(stated: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ranks.TIMEOUT, raising=False)
    if stated is not None:
        monkeypatch.setenv(ranks.TIMEOUT, stated)
    assert ranks._patience() == seconds
