"""Fused and reference maxout train alike: two hundred steps, same dropout masks, losses within rounding that grows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ganengine import ops
from ganengine.plugins import add_path
from ganengine.testing.subject import Subject, machine_kept

STEPS = 200

add_path(Path(__file__).parents[1])


def curve(mode: str) -> list[float]:
    """Return D's loss at each step."""
    subject = Subject("cgan", None)
    settings = subject.settings
    settings = dataclasses.replace(settings, config=dataclasses.replace(settings.config, lr=2e-4))
    losses = []
    with machine_kept():
        ops.set_mode(mode)
        with subject.trainer(settings) as trainer:
            ops.set_mode(mode)
            for _ in range(STEPS):
                trainer.means.clear()
                trainer.round()
                losses.append(trainer.means.read()["d"])
    return losses


@pytest.mark.skipif(not all(k.compiled for k in ops.kernels() if k.device == "cpu"), reason="no compiled kernels here")
def test_fused_and_reference_ops_train_alike() -> None:
    fused, reference = curve("fused"), curve("reference")
    assert fused[:30] == pytest.approx(reference[:30], rel=1e-3)
    assert fused == pytest.approx(reference, rel=2e-2)
    assert fused[0] != fused[-1]
