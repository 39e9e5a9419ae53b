"""What the parts for many ranks give on one: torch's own numbers, and nothing of their own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ganengine import ranks
from ganengine.errors import UserError
from ganengine.nn.norm import batch_norm_over_ranks, share_statistics

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


@pytest.mark.parametrize(("norm", "shape"), NORMS.values(), ids=NORMS)
def test_batch_norm_is_torchs_to_the_second_derivative(norm: Any, shape: tuple[int, ...]) -> None:
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
        (ranks.TIMEOUT, "soon", f"{ranks.TIMEOUT}: expected seconds above 0, got 'soon'"),
        (ranks.TIMEOUT, "-1", f"{ranks.TIMEOUT}: expected seconds above 0, got '-1'"),
        ("RANK", "", "expected 2 processes that find each other"),
    ],
)
def test_an_environment_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told.replace(".", r"\.")), ranks.group():
        pass
