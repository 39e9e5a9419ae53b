"""Stages of several sizes: which are played, for how long, what they read, show and leave on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ganengine.checkpoint import at_step, listed
from ganengine.data import Dataset, Loader
from ganengine.data.options import DataOptions
from ganengine.data.pictures import read_picture
from ganengine.data.store import read_at
from ganengine.errors import CheckpointError, UserError
from ganengine.step import Step
from ganengine.testing import Synthetic, synthetic_spec
from ganengine.variant import DataSpec, Optimizer, Phase, Prior, Schedule, Stage, View

from .lab import Lab, MakeLab

PHASES = (Phase("g", ("G",), "g", "g"),)


class Painter(torch.nn.Module):
    """Draws pictures of one side, as bright as its weight."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.value = torch.nn.Parameter(torch.zeros(3))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        pictures: torch.Tensor = z[:, :1, None, None] + self.value[None, :, None, None]
        return pictures.expand(-1, -1, self.side, self.side).tanh()


def levels(*sizes: int | None, images: int | None = 8) -> Schedule:
    stages = tuple(Stage(PHASES, f"level {size}", images=images, size=size) for size in sizes)
    return Schedule(stages, {"g": Optimizer(1e-2)})


def bench(lab: MakeLab, schedule: Schedule, seen: list[Any] | None = None, **options: Any) -> Lab:
    def loss(step: Step) -> dict[str, torch.Tensor]:
        if seen is not None:
            seen.append((step.progress.stage, step.batch["real"].shape[-1]))
        return {"g": (step["G"](step.randn("z", (2,))).mean((2, 3)) - step.batch["real"].mean((2, 3))).square().mean(1)}

    def networks(config: Any, spec: DataSpec, stage: Stage) -> dict[str, Any]:
        return {"G": Painter(stage.size or 8)}

    view = View(lambda step, z, y: step["G"](z), "samples", kind="sample", prior=Prior((2,)))
    return lab(networks, {"g": loss}, schedule, views={"samples": view}, **options)


@pytest.mark.parametrize(("size", "played"), [(2, [2]), (4, [2, 4]), (8, [2, 4, 8])])
def test_stages_above_the_size_are_left_out(lab: MakeLab, size: int, played: list[int]) -> None:
    seen: list[Any] = []
    # Larger levels stand first too: what is left out is a matter of size, and stages are counted as they are played.
    data = Synthetic(synthetic_spec(("real",), size))
    run = bench(lab, levels(16, 2, 4, 8, 32), seen, size=size, data=data, horizon=None)
    run.run()
    assert seen == [(stage, side) for stage, side in enumerate(played) for _ in range(2)]
    assert run.saved.meta["horizon"] == 8 * len(played)
    assert run.saved.meta["stage"] == len(played) - 1


def test_a_size_of_no_stage_is_refused(lab: MakeLab) -> None:
    with pytest.raises(
        UserError, match=r"--size: expected the size of a stage of tiny \(2, 4, 16\), got 8. Use --size 4"
    ):
        bench(lab, levels(2, 4, 16)).trainer()
    assert len(bench(lab, levels(2, 16, None)).trainer().schedule.stages) == 2  # one takes whatever the size is


@pytest.mark.parametrize(
    ("schedule", "options", "horizon"),
    [
        (levels(4, 8), {"horizon": None}, 16),
        (levels(4, 8), {"horizon": 30}, 30),
        (levels(4, 8), {"horizon": None, "epochs": 2.0}, 32),
        (levels(4, 8, images=None), {"horizon": None}, 20_000),
    ],
)
def test_the_stages_length_is_the_horizon_unless_one_is_stated(
    lab: MakeLab, schedule: Schedule, options: dict[str, Any], horizon: int
) -> None:
    assert bench(lab, schedule, **options).trainer().horizon == horizon


def test_previews_and_samples_of_all_stages_have_the_size_of_the_run(lab: MakeLab) -> None:
    run = bench(lab, levels(2, 4, 8), preview=4, horizon=None)
    trainer = run.run()
    sizes = {read_picture(path).shape[:2] for path in (run.path / "samples").glob("*.png")}
    assert sizes == {(2 * (8 + 2) + 2, 2 * (8 + 2) + 2)}
    assert trainer._to_show()["real"].shape[-1] == 8  # type: ignore[index]


def test_the_last_checkpoint_of_each_stage_is_kept(lab: MakeLab) -> None:
    run = bench(lab, levels(2, 4, 8), horizon=None, checkpoint_every=1, keep_checkpoints=1)
    run.run()
    found = {at.meta["step"]: at.meta["stage"] for at in map(run_read, listed(run.path / "checkpoints"))}
    assert found == {2: 0, 4: 1, 6: 2}
    assert at_step(run.path / "checkpoints", 4).meta["images"] == 16
    with pytest.raises(CheckpointError, match=r"--step: expected the step of a checkpoint in .* \(2, 4, 6\), got 3"):
        at_step(run.path / "checkpoints", 3)


def run_read(path: Any) -> Any:
    return at_step(path.parent, int(path.name.partition("-")[2]))


# -- what a smaller stage reads ----------------------------------------------------------------------------------------


class Counted(Dataset):
    """Random pictures; remembers at which sizes they were asked for."""

    def __init__(self, channels: int = 3) -> None:
        self.spec = synthetic_spec(("real",), 8, 5)
        self._inner = Synthetic(self.spec)
        self.asked: list[int | None] = []

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        self.asked.append(size)
        return self._inner.read(split, index, size)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_smaller_stage_sees_the_averages_of_the_runs_pictures(size: int) -> None:
    data, options = Counted(), DataOptions(size=8, flip=False)
    with Loader(data, options) as loader:
        for batch in (loader.draw(0, 5, size=size), loader.fixed("train", 5, size=size)):
            whole = torch.stack([torch.from_numpy(data.read("train", i, 8)["real"]) for i in batch.index.tolist()])
            expected = torch.nn.functional.avg_pool2d(whole.movedim(-1, 1).double(), 8 // size)
            assert float(((batch["real"].double() + 1) * 127.5 - expected).abs().max()) <= 0.51
    assert set(data.asked) == {8}


def test_a_size_that_does_not_divide_the_runs_is_read_as_it_is() -> None:
    data = Counted()
    assert read_at(data, DataOptions(size=8), "train", 0, 3)["real"].shape == (3, 3, 3)
    assert read_at(data, DataOptions(size=8), "train", 0, 16)["real"].shape == (16, 16, 3)
    assert data.asked == [3, 16]
