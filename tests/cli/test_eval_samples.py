"""`ganengine eval` of a run that makes samples: the judge, what it finds, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganengine.cli import main
from ganengine.data.cache import cache_root
from ganengine.latents import one_hot
from ganengine.metrics.judge import read_judge
from ganengine.plugins import add_path, registry
from ganengine.runfolder import RunFolder
from ganengine.trained import Trained

PLUGINS = Path(__file__).parents[2] / "plugins"
OPTIONS = [
    *("--size", "12", "--batch", "8", "--preview", "0"),
    *("--threads", "1", "--precision", "fp32", "--max-steps", "2"),
]

Go = Callable[..., Any]


def have(variant: str) -> None:
    if variant not in registry().entries["variant"]:
        add_path(PLUGINS / f"ganengine-{variant}")


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return class folders of a bright square in one of three places."""
    folder = tmp_path_factory.mktemp("data") / "squares"
    source = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        for name in ("high", "low", "middle"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = source.integers(0, 60, (12, 12), dtype=np.uint8)
                top = {"high": 1, "low": 8, "middle": 5}[name]
                pixels[top : top + 3, 4:9] += 160
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def trained(variant: str, data: Path, runs: Path, *options: str) -> Path:
    have(variant)
    assert main(["run", variant, str(data), *OPTIONS, *options, "--out", str(runs / variant)]) == 0
    return runs / variant


@pytest.fixture(scope="module")
def plain(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that never reads a label."""
    return trained("gan", classes, tmp_path_factory.mktemp("runs"), "--architecture", "mlp-small", "--latent", "4")


@pytest.fixture(scope="module")
def conditional(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that takes a label."""
    return trained("cgan", classes, tmp_path_factory.mktemp("runs"))


def test_a_run_without_labels_is_judged_beside_its_untrained_self(go: Go, plain: Path) -> None:
    done = go("eval", plain, "--samples", "50", "--baseline", "untrained", "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert (result["schema"], result["variant"], result["step"]) == (1, "gan", 2)
    assert {name: found["n"] for name, found in result["metrics"].items()} == {"coverage": 50, "fd-judge": 50}
    assert result["classes"]["names"] == ["high", "low", "middle"]
    assert sum(result["classes"]["share"]) == pytest.approx(1)
    assert result["judge"]["accuracy"] >= 0.97
    assert (result["judge"]["n"], result["judge"]["split"]) == (60, "test")
    untrained = result["baseline"]["metrics"]["fd-judge"]
    assert untrained["ratio"] == pytest.approx(result["metrics"]["fd-judge"]["value"] / untrained["value"])
    for word in ("50 pictures", "no class asked for", "seed 0", "12 x 12", "not FID", "60 pictures of split test"):
        assert word in result["protocol"]
    assert "EMA" in result["weights"]
    again = json.loads(go("eval", plain, "--samples", "50", "--baseline", "untrained", "--json").out)
    assert again == result
    other = json.loads(go("eval", plain, "--samples", "50", "--seed", "1", "--json").out)
    assert other["metrics"] != result["metrics"]


@pytest.mark.parametrize(
    ("each", "samples", "told"),
    [
        (60, 65, ""),
        (60, 64, "fd-judge: expected more than 64 pictures of each kind, .* got 64 of training and 64 samples"),
        (20, 65, "got 60 of training and 65 samples; of so few the figure says little"),
    ],
)
def test_a_distance_between_too_few_pictures_is_told(
    go: Go,
    classes: Path,
    plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    each: int,
    samples: int,
    told: str,
) -> None:
    monkeypatch.setenv("GANENGINE_CACHE", str(tmp_path / "cache"))  # its judges are nobody else's
    data = Path(shutil.copytree(classes, tmp_path / "data"))
    for name in ("high", "low", "middle"):
        for path in sorted((data / "train" / name).iterdir())[each:]:
            path.unlink()
    done = go("eval", plain, data, "--samples", samples, "--judge-least", "0")
    assert done.status == 0, done.err
    assert re.search(told, done.err) if told else "fd-judge" not in done.err
    done = go("eval", plain, data, "--samples", samples, "--judge-least", "0", "--metrics", "coverage")
    assert "fd-judge" not in done.err


def test_a_run_that_draws_is_told_so_where_it_is_to_translate(
    go: Go, classes: Path, plain: Path, tmp_path: Path
) -> None:
    (picture, *_) = sorted(classes.rglob("*.png"))
    done = go("translate", plain, picture, tmp_path / "out")
    assert done.status == 2
    assert f"{plain}: expected a run that translates pictures; gan does not. Its views are " in done.err
    assert f"(sample): `ganengine sample {plain}" in done.err


def test_class_accuracy_is_that_of_the_samples_asked_for(go: Go, conditional: Path) -> None:
    done = go("eval", conditional, "--samples", "30", "--metrics", "class-accuracy,label-swap", "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    have_kept = [read_judge(path) for path in (cache_root() / "judges").glob("*.safetensors")]
    (judge,) = [kept for kept in have_kept if kept is not None and kept.network.shape == (1, 12, 3)]
    sampler = Trained(RunFolder.open(conditional), precision="fp32", device="cpu").sampler
    view, z = sampler.view("sample"), sampler.latents(sampler.view("sample"), 30)
    asked = torch.arange(30) % 3
    looks = []
    for labels in (asked, (asked + 1) % 3):
        made = sampler.sample(view, z, one_hot(labels, 3))
        looks.append(judge.look(((made + 1) * 127.5).round() / 127.5 - 1).classes)
    assert result["metrics"]["class-accuracy"]["value"] == pytest.approx(float((looks[0] == asked).double().mean()))
    assert result["metrics"]["label-swap"]["value"] == pytest.approx(float((looks[0] != looks[1]).double().mean()))
    assert len(result["classes"]["accuracy"]) == 3
    usual = json.loads(go("eval", conditional, "--samples", "9", "--json").out)
    assert set(usual["metrics"]) == {"coverage", "class-accuracy", "fd-judge"}


def test_the_table_shows_the_baseline_and_its_ratio(go: Go, plain: Path) -> None:
    done = go("eval", plain, "--samples", "20", "--baseline", "untrained")
    for word in ("fd-judge", "untrained", "ratio", "middle", "share"):
        assert word in done.out


def test_untrained_networks_are_those_before_the_first_step(plain: Path) -> None:
    before, after = (Trained(RunFolder.open(plain), untrained=flag, device="cpu").sampler for flag in (True, False))
    first = [next(sampler.networks["G"].parameters()) for sampler in (before, after)]
    assert not torch.equal(*first)
    again = Trained(RunFolder.open(plain), untrained=True, device="cpu").sampler
    assert torch.equal(first[0], next(again.networks["G"].parameters()))


def test_a_metric_of_the_other_kind_is_refused(go: Go, plain: Path, trained: Path) -> None:
    for run, name, told in (
        (plain, "coverage,l1", "l1 is a figure of translations"),
        (plain, "class-accuracy", "class-accuracy is a figure of samples, by a judge, of a stated class"),
        (trained, "fd-judge", "fd-judge is a figure of samples"),
    ):
        done = go("eval", run, "--metrics", name)
        assert (done.status, done.out) == (2, "")
        assert told in done.err
    done = go("eval", trained, "--baseline", "untrained")
    assert done.status == 2
    assert "--baseline" in done.err


def test_a_judge_that_errs_is_refused_but_can_be_accepted(go: Go, plain: Path, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(30):
            pixels = source.integers(0, 256, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    done = go("eval", plain, tmp_path, "--samples", "10")
    assert done.status == 2
    assert "expected at least 97.0%" in done.err
    accepted = go("eval", plain, tmp_path, "--samples", "10", "--judge-least", "0", "--json")
    assert accepted.status == 0, accepted.err
    assert json.loads(accepted.out)["judge"]["split"] == "train"


def test_an_untrained_generator_is_told_of(go: Go, plain: Path, classes: Path, tmp_path: Path) -> None:
    still = trained("gan", classes, tmp_path, "--architecture", "mlp-small", "--latent", "4", "--max-minutes", "0")
    told = "step 0: the weights of G are still the initial ones; these are figures of an untrained network"
    for run, expected in ((still, True), (plain, False)):
        done = go("eval", run, "--samples", "10", "--judge-least", "0", "--json")
        assert done.status == 0, done.err
        assert (told in done.err) == expected
        assert json.loads(done.out)["step"] == (0 if expected else 2)  # standard output stays one JSON object


def test_of_a_staged_run_the_weights_say_whether_the_generator_has_begun(tmp_path: Path) -> None:
    have("stackgan")
    run = tmp_path / "run"
    smallest = [
        word for name, value in registry().variant("gan-int-cls").smallest.items() for word in (f"--{name}", str(value))
    ]
    words = [
        "captioned-glyphs:40",
        *smallest,
        "--size",
        "16",
        "--preview",
        "0",
        "--threads",
        "1",
        "--precision",
        "fp32",
    ]
    assert main(["run", "gan-int-cls", *words, "--max-steps", "1", "--out", str(run)]) == 0
    assert Trained(RunFolder.open(run)).unbegun == ("G",)  # the encoder alone has learned
    assert main(["resume", str(run), "--max-steps", "3"]) == 0
    assert Trained(RunFolder.open(run)).unbegun == ()


def test_data_that_a_judge_cannot_learn_from(go: Go, plain: Path, classes: Path, conditional: Path) -> None:
    flat = classes / "train" / "high"
    for run, data, told in (
        (plain, flat, "A judge learns from pictures with labels"),
        (plain, "ring", "a judge looks at pictures"),
        (plain, classes / "train", None),
    ):
        done = go("eval", run, data, "--samples", "10", "--judge-least", "0")
        assert (done.status == 0) == (told is None), done.err
        assert told is None or told in done.err


@pytest.mark.parametrize("words", [["--samples", "1"], ["--judge-least", "97"]])
def test_numbers_out_of_range(go: Go, plain: Path, words: list[str]) -> None:
    done = go("eval", plain, *words)
    assert done.status == 2
    assert words[0] in done.err
