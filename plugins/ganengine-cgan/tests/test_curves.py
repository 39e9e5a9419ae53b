"""Fused and reference maxout train alike: same dropout masks, same penalties, losses within rounding that grows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ganengine import ops
from ganengine.plugins import add_path
from ganengine.testing.subject import Subject, machine_kept

add_path(Path(__file__).parents[1])


def curve(mode: str, steps: int, **options: Any) -> list[float]:
    """Return D's loss at each step."""
    subject = Subject("cgan", None)
    settings = subject.settings
    settings = dataclasses.replace(settings, config=dataclasses.replace(settings.config, lr=2e-4, **options))
    losses = []
    with machine_kept():
        ops.set_mode(mode)
        with subject.trainer(settings) as trainer:
            ops.set_mode(mode)
            for _ in range(steps):
                trainer.means.clear()
                trainer.round()
                losses.append(trainer.means.read()["d"])
    return losses


@pytest.mark.skipif(not all(k.compiled for k in ops.kernels() if k.device == "cpu"), reason="no compiled kernels here")
@pytest.mark.parametrize(
    ("options", "steps"), [({"dropout": 0.5, "penalty": "none"}, 80), ({}, 40)], ids=["dropout", "penalty"]
)
def test_fused_and_reference_ops_train_alike(options: dict[str, Any], steps: int) -> None:
    fused, reference = curve("fused", steps, **options), curve("reference", steps, **options)
    assert fused[:30] == pytest.approx(reference[:30], rel=1e-5)
    assert fused == pytest.approx(reference, rel=1e-3)
    assert fused[0] != fused[-1]
