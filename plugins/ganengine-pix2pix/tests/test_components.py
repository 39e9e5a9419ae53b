"""The engine's components on pix2pix: each option trains, changes what D sees or is, and goes on exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.errors import UserError
from ganengine.losses.adversarial import Adversarial
from ganengine.runfolder import RunFolder
from ganengine.testing.repeat import difference, trained
from ganengine.testing.subject import Subject, machine_kept
from torch import Tensor


def subject(arm: str = "l1+cgan", **options: Any) -> Subject:
    """Pix2pix at its smallest, on noise."""
    found = Subject("pix2pix", None)
    settings = found.settings
    config = dataclasses.replace(settings.config, arm=arm)
    engine = dataclasses.replace(settings.engine, **options)
    found.__dict__["settings"] = dataclasses.replace(settings, engine=engine, config=config)
    return found


COMPONENTS: list[dict[str, Any]] = [
    {"augment": "diffaugment"},
    {"augment": "diffaugment", "augment_policy": "translation"},
    {"augment": "ada", "ada_images": 8, "ada_target": -0.9},
    {"instance_noise": 0.2},
    {"spectral_norm": "D"},
    {"spectral_norm": "D,G", "augment": "ada", "instance_noise": 0.1, "accumulate": 2},
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run of two steps without any of them."""
    with machine_kept():
        return trained(subject(), tmp_path_factory.mktemp("runs") / "plain", 2, foreign=1)


@pytest.mark.parametrize("options", COMPONENTS, ids=[" ".join(map(str, o.values())) for o in COMPONENTS])
def test_each_component_trains_and_goes_on_exactly(options: dict[str, Any], plain: RunFolder, tmp_path: Path) -> None:
    with machine_kept():
        unbroken = trained(subject(**options), tmp_path / "unbroken", 2, foreign=1)
        broken = trained(subject(**options), tmp_path / "broken", 1, 2, foreign=2)
    assert difference(unbroken, broken) == ""
    assert difference(plain, unbroken) != ""


def test_ada_reads_d_on_every_update_and_moves_p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[float] = []

    def signs(game: Adversarial, logits: Tensor) -> Tensor:
        read.append(1.0)
        return torch.ones(())

    monkeypatch.setattr(Adversarial, "signs", signs)
    ada = subject(augment="ada", ada_images=64)
    with machine_kept():
        folder = trained(ada, tmp_path / "run", 4, foreign=1)
    assert len(read) == 4
    last = folder.log.read_text(encoding="utf-8").splitlines()[-1]
    assert '"ada_r": 0.5' in last  # a tick of two steps, before and after p has moved
    assert f'"ada_p": {4 * ada.settings.engine.batch / 64 / 2}' in last


def test_an_arm_without_d_has_nothing_to_augment() -> None:
    with (
        machine_kept(),
        pytest.raises(UserError, match="--augment: expected a game with a critic"),
        subject("l1", augment="diffaugment").trainer(),
    ):
        pass
