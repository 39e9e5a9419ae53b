"""What a run chooses of the machine."""

from __future__ import annotations

import pytest
import torch

from ganengine import hardware, ranks
from ganengine.config import RunOptions


@pytest.mark.parametrize(
    ("option", "world", "here", "cores", "device", "ahead"),
    [
        ("auto", 1, 1, 1, "cpu", True),
        ("auto", 1, 1, 2, "cpu", True),
        ("auto", 2, 2, 2, "cpu", False),
        ("auto", 4, 4, 2, "cpu", False),
        ("auto", 2, 2, 4, "cpu", True),
        ("auto", 2, 1, 1, "cpu", False),
        ("auto", 2, 1, 2, "cpu", True),
        ("auto", 2, 2, 2, "cuda", True),
        ("on", 2, 2, 2, "cpu", True),
        ("off", 1, 1, 8, "cpu", False),
    ],
)
def test_batches_are_assembled_in_the_step_where_ranks_have_one_core_each(
    monkeypatch, option, world, here, cores, device, ahead
):
    monkeypatch.setattr(ranks, "world", lambda: world)
    monkeypatch.setattr(ranks, "on_this_machine", lambda: (0, here))
    monkeypatch.setattr(hardware, "cores", lambda: cores)
    assert hardware._load_ahead(RunOptions(load_ahead=option), torch.device(device)) is ahead
