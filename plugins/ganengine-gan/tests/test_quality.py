"""Quality bars of docs/results.md: minutes of training, samples judged by a classifier, modes counted.

Run by hand or nightly: pytest -m quality plugins/ganengine-gan. The data sets are small public ones; their folder is
GANENGINE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.runfolder import RunFolder
from ganengine.trained import Trained

pytestmark = pytest.mark.quality

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GANENGINE_DATA") or Path(__file__).parents[4] / "shared" / "data")
DIGITS = DATA / "digits-mnist10k" / "mnist10k.zip"

needs_digits = pytest.mark.skipif(
    not DIGITS.is_file(), reason=f"{DIGITS} is not there (digits of MNIST in class folders); set GANENGINE_DATA"
)


def ganengine(*words: str) -> str:
    command = [sys.executable, "-m", "ganengine", *words, "--plugin", str(ROOT)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@functools.cache
def trained(folder: Path, *words: str) -> Path:
    """Return a run on the digits that is trained once for all tests."""
    run = folder / "-".join(words).replace("--", "")
    ganengine("run", words[0], str(DIGITS), *words[1:], "--out", str(run))
    return run


@functools.cache
def judged(run: Path) -> dict[str, float]:
    """Return coverage and fd-judge of a run, the latter of the untrained G too, and the images it was shown."""
    result = json.loads(
        ganengine("eval", str(run), "--metrics", "coverage,fd-judge", "--baseline", "untrained", "--json")
    )
    found = {name: metric["value"] for name, metric in result["metrics"].items()}
    found |= {"untrained": result["baseline"]["metrics"]["fd-judge"]["value"], "images": result["images"]}
    print(f"{run.name}: {found}")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quality")


@needs_digits
def test_gan_covers_eight_classes_in_five_minutes(folder: Path) -> None:
    found = judged(trained(folder, "gan", "--max-minutes", "5"))
    assert found["coverage"] >= 8
    assert found["fd-judge"] <= 0.3 * found["untrained"]


@needs_digits
def test_dcgan_covers_all_classes_and_is_better_than_perceptrons_after_equally_many_images(folder: Path) -> None:
    found = judged(trained(folder, "dcgan", "--max-minutes", "10"))
    assert found["coverage"] == 10
    images = str(int(found["images"]))
    perceptrons = judged(trained(folder, "gan", "--preset", "doc-deep", "--max-images", images))
    assert found["fd-judge"] < perceptrons["fd-judge"]


@needs_digits
def test_features_of_dcgans_discriminator_beat_pixels_and_an_untrained_one(folder: Path) -> None:
    run = trained(folder, "dcgan", "--max-minutes", "10")
    script = Path(__file__).parents[3] / "benches" / "linear_probe.py"
    command = [sys.executable, str(script), str(run), "--labels", "1000", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    accuracy = json.loads(output)["accuracy"]
    print(f"linear probe, 1,000 labels: {accuracy}")
    assert accuracy["D, trained"] >= accuracy["pixels"] + 0.02
    assert accuracy["D, trained"] > accuracy["D, untrained"]


@needs_digits
def test_least_squares_are_nearly_as_good_as_dcgan_or_better(folder: Path) -> None:
    dcgan = judged(trained(folder, "dcgan", "--max-minutes", "10"))
    assert judged(trained(folder, "lsgan", "--max-minutes", "10"))["fd-judge"] <= 1.2 * dcgan["fd-judge"]


@needs_digits
def test_gradient_penalty_covers_all_classes(folder: Path) -> None:
    assert judged(trained(folder, "wgan-gp", "--max-minutes", "10"))["coverage"] == 10


@needs_digits
def test_the_critics_estimate_follows_quality(folder: Path) -> None:
    """Rank correlation of E D(x) - E D(G(z)) with fd-judge over ten snapshots, 40 steps apart.

    They begin when the critic no longer takes 100 steps for each of G's: until then it catches up while G stands still.
    """
    run = folder / "wgan"
    words = ("--max-steps", "30", "--tick-every", "10")
    ganengine("run", "wgan", str(DIGITS), *words, "--out", str(run))
    snapshots = []
    for number in range(1, 11):
        ganengine("resume", str(run), "--max-steps", str(30 + 40 * number))
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        told = [line["d"] for line in lines if "d" in line][-2:]
        estimate = sum(line["real"] - line["fake"] for line in told) / len(told)
        result = json.loads(ganengine("eval", str(run), "--metrics", "fd-judge", "--json"))
        snapshots.append((estimate, result["metrics"]["fd-judge"]["value"]))
    correlation = spearman(*zip(*snapshots, strict=True))
    print(f"wgan: {snapshots}, rank correlation {correlation:.3f}")
    assert correlation >= 0.7


def spearman(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Return the correlation of the ranks, which have no ties."""
    ranks = [torch.tensor(column).argsort().argsort().double() for column in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def modes(folder: Path, *variants: str, data: str = "ring", minutes: int = 5) -> dict[str, list[Any]]:
    """Train variants on a mixture and return what each covered, tick by tick."""
    words = ("--data", data, "--minutes", str(minutes), "--out", str(folder / f"modes-{data}"), "--json")
    result = json.loads(ganengine("diagnose", "modes", *variants, *words))
    for each in result["variants"]:
        last = each["ticks"][-1]
        print(f"{data}, {minutes} minutes, {each['name']}: {last['covered']} modes, {last['good']:.1%} good")
    return {each["name"]: each["ticks"] for each in result["variants"]}


def test_the_ring(folder: Path) -> None:
    """A gradient penalty and least squares reach the modes; the plain game's collapse is seen and flagged."""
    found = modes(folder, "wgan-gp", "lsgan", "gan", "wgan")
    assert found["wgan-gp"][-1]["covered"] == 8
    assert found["wgan-gp"][-1]["good"] >= 0.8
    assert found["lsgan"][-1]["covered"] >= 7
    assert any(tick["collapsed"] for tick in found["gan"])


def test_the_critics_gradient_is_near_one_between_real_and_generated_points(folder: Path) -> None:
    run = folder / "toy"
    words = ("--preset", "toy", "--penalty-weight", "10", "--max-minutes", "2")
    ganengine("run", "wgan-gp", "ring", *words, "--out", str(run))
    sampler = Trained(RunFolder.open(run), precision="fp32").sampler
    view = sampler.view("sample")
    fake = sampler.sample(view, sampler.latents(view, 1000))
    angle = torch.arange(1000) % 8 * torch.pi / 4
    real = 2 * torch.stack((angle.cos(), angle.sin()), 1) + 0.02 * torch.randn(1000, 2, generator=torch.manual_seed(0))
    share = torch.rand(1000, 1, generator=torch.manual_seed(1))
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(sampler.networks["D"](between).sum(), between)
    norm = float(slope.norm(dim=1).mean())
    print(f"mean norm of the critic's gradient: {norm:.3f}")
    assert 0.8 <= norm <= 1.2
