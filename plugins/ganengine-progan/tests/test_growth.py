"""A run that is cut inside a fade, at the end of a level or after it goes on as an unbroken one, in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ganengine import checkpoint
from ganengine.cli import main
from ganengine.data.pictures import read_picture
from ganengine.plugins import add_path
from ganengine.runfolder import RunFolder
from ganengine.testing.repeat import difference
from ganengine.trained import Trained
from torch.nn import functional as F

from ganengine_progan.networks import up

ROOT = Path(__file__).parents[1]
WHOLE = 12
"""Steps: two of 4 x 4, four of 8 x 8 (half of them in the fade), six of 16 x 16 (four in the fade)."""
OPTIONS = [
    *("--size", "16", "--latent", "4", "--filters", "16", "--widest", "4", "--fade-images", "8"),
    *("--stable-images", "8", "--level-batch", "4", "4", "2", "--threads", "1", "--device", "cpu"),
    *("--precision", "fp32", "--tick-every", "1", "--preview", "2", "--plugin", str(ROOT)),
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return begun(tmp_path_factory.mktemp("runs") / "unbroken", WHOLE)


def begun(out: Path, steps: int) -> RunFolder:
    add_path(ROOT)
    assert main(["run", "progan", "--out", str(out), "--max-steps", str(steps), *OPTIONS]) == 0
    return RunFolder.open(out)


CUTS = {"at a border": (2, 0, 1.0), "in the first fade": (3, 1, 0.5), "in the second": (8, 2, 0.5)}
"""By where a run is cut: step, stage, and how much of the newest level counts there."""

RESUME = """
import sys
from ganengine.cli import main

for run in sys.argv[1:4]:
    assert main(["resume", run, *sys.argv[4:]]) == 0
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Return runs that were cut here and finished by another process: one for all, as to start it takes most of it."""
    place = tmp_path_factory.mktemp("broken")
    runs = {where: begun(place / where, cut) for where, (cut, *_) in CUTS.items()}
    for where, (_, stage, alpha) in CUTS.items():
        trained = Trained(runs[where])
        assert trained.sampler.progress.stage == stage
        assert trained.settings.config.alpha(trained.sampler.progress) == alpha
    paths = [str(run.path) for run in runs.values()]
    command = [sys.executable, "-c", RESUME, *paths, "--max-steps", str(WHOLE), "--plugin", str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return runs


@pytest.mark.parametrize("where", CUTS)
def test_resume_in_a_new_process_is_byte_for_byte(
    where: str, broken: dict[str, RunFolder], unbroken: RunFolder
) -> None:
    run = broken[where]
    newest = [checkpoint.listed(folder.checkpoints)[0] for folder in (run, unbroken)]
    for name in ("networks.safetensors", "state.pt"):
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes(), name
    assert not difference(run, unbroken)


def test_the_last_checkpoint_of_each_level_stays_and_all_pictures_have_one_size(unbroken: RunFolder) -> None:
    steps = [int(path.name.partition("-")[2]) for path in checkpoint.listed(unbroken.checkpoints)]
    assert steps == [12, 6, 2]
    assert len({read_picture(path).shape for path in unbroken.samples.glob("*.png")}) == 1
    sides = []
    for step in reversed(steps):
        trained = Trained(unbroken, step=step)
        view = trained.sampler.view("sample")
        made = trained.sampler.sample(view, trained.sampler.latents(view, 3))
        assert made.shape == (3, 1, 16, 16)
        side = trained.stage.size
        assert side is not None
        torch.testing.assert_close(F.interpolate(F.avg_pool2d(made, 16 // side), scale_factor=16.0 / side), made)
        sides.append(side)
    assert sides == [4, 8, 16]


def test_where_a_level_begins_pictures_are_those_of_the_level_before_enlarged(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", 2)
    before = Trained(run)
    command = ["resume", str(run), "--max-steps", "3", "--plugin", str(ROOT)]
    assert main(command) == 0
    after = Trained(run)
    z = torch.randn(3, 4)
    with torch.no_grad():
        old, new = (trained.sampler.networks["G"] for trained in (before, after))
        assert after.stage.size == 8
        # One step at alpha = 0 has moved the older layers; the newest ones had no gradient and no part in it.
        torch.testing.assert_close(new(z, 0.0), up(old(z)), rtol=0, atol=0.05)
        torch.testing.assert_close(new(z, 0.0), up(down_to(new, z)), rtol=0, atol=1e-6)


def down_to(G: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
    """Return what the layers of 4 x 4 draw by themselves."""
    picture: torch.Tensor = G.to_rgb["4"](G.blocks["4"](z))  # type: ignore[index,operator]
    return picture
