"""Phase.hold: the state of a network that moves in its forward pass stands still in a phase that says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ganengine.errors import PluginError
from ganengine.step import Step
from ganengine.variant import Phase

from .lab import MakeLab, Rows, Terms, one_stage, sgd

DATA = Rows(real=[[float(i), 1.0] for i in range(16)])


def networks(*_: Any) -> dict[str, nn.Module]:
    return {"G": nn.Linear(2, 2), "D": nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))}


def g(step: Step) -> Terms:
    return {"g": step.D(step.G(step.batch.real)).mean(1)}


@pytest.mark.parametrize("held", [(), ("D",)])
def test_running_statistics_move_unless_they_are_held(lab: MakeLab, held: tuple[str, ...]) -> None:
    phase = Phase("g", ("G",), "g", "g", hold=held)
    trainer = lab(networks, {"g": g}, one_stage(phase, optimizers={"g": sgd(0.1)}), data=DATA).trainer()
    D = trainer.players.networks["D"]
    before = {name: tensor.clone() for name, tensor in D.state_dict().items()}
    trainer.round()
    moved = {name for name, tensor in D.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == (set() if held else {"0.running_mean", "0.running_var", "0.num_batches_tracked"})


def test_a_name_that_is_no_network_is_refused(lab: MakeLab) -> None:
    phase = Phase("g", ("G",), "g", "g", hold=("E",))
    with pytest.raises(PluginError, match='holds "E", but the networks are G, D'):
        lab(networks, {"g": g}, one_stage(phase, optimizers={"g": sgd(0.1)}), data=DATA).run(1)
