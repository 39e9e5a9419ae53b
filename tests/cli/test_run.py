"""`ganengine run` and `resume`: where a run goes, which options hold, and that a start that fails leaves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ganengine.plugins import registry

Go = Callable[..., Any]
Tree = Callable[[Path], dict[str, Any]]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(go: Go, pairs: Path, smallest: list[str]) -> Callable[..., Any]:
    """Train the smallest pix2pix for a step: run("--seed", 1)."""

    def command(*argv: object, data: Path | str = pairs) -> Any:
        done = go("run", "pix2pix", data, *smallest, "--max-steps", "1", "--preview", "0", *argv)
        assert done.status == 0, done.err
        return done

    return command


def options(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return record


def test_runs_without_a_place_of_their_own_are_numbered(run: Go, work: Path) -> None:
    for _ in range(3):
        run()
    assert sorted(path.name for path in (work / "runs").iterdir()) == ["pix2pix", "pix2pix-2", "pix2pix-3"]


def test_a_run_leaves_what_the_design_names_and_tells_what_to_do_next(run: Go, work: Path) -> None:
    done = run("--out", "there", "--preview", "2")
    names = {path.relative_to(work / "there").as_posix() for path in (work / "there").rglob("*") if path.is_file()}
    assert {"config.yaml", "log.jsonl", "environment.json", "samples/000000000.png", "samples/000000002.png"} <= names
    checkpoint = "checkpoints/step-000000001/"
    assert {checkpoint + name for name in ("networks.safetensors", "state.pt", "meta.json")} <= names
    for command in ("resume", "sample", "translate", "eval"):
        assert f"ganengine {command} there" in done.out


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_first_lines_say_what_parts_of_a_batch_change(run: Go, norm: str) -> None:
    told = run("--batch", "4", "--accumulate", "2", "--norm", norm).out
    line = "--accumulate 2: batch statistics in G, D are those of 2 samples, not of 4"
    assert (line in told) == (norm == "batch")
    assert "--accumulate" not in run("--batch", "4", "--norm", "batch").out


def test_the_first_lines_say_that_there_are_no_kernels(run: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganengine import ops

    there = any(kernel.compiled for kernel in ops.kernels() if kernel.device == "cpu")
    assert ("no compiled kernels" in run("--device", "cpu", "--ops", "auto").out) == (not there)
    monkeypatch.setattr(ops, "kernels", lambda: ())
    assert "ops auto (no compiled kernels: slower; `ganengine doctor` says why)" in run("--ops", "auto").out
    assert "no compiled kernels" not in run("--ops", "reference").out


def test_the_config_of_a_run_makes_the_same_run_again(run: Go, go: Go, work: Path) -> None:
    run("--out", "first", "--seed", "7", "--lambda-l1", "50")
    done = go("run", "pix2pix", "--config", "first/config.yaml", "--out", "second")
    assert done.status == 0, done.err
    assert (work / "second" / "config.yaml").read_bytes() == (work / "first" / "config.yaml").read_bytes()
    weights = "checkpoints/step-000000001/networks.safetensors"
    assert (work / "second" / weights).read_bytes() == (work / "first" / weights).read_bytes()
    third = go("run", "pix2pix", "--config", "first/config.yaml", "--seed", "8", "--out", "third")
    assert third.status == 0
    assert options(work / "third") == {**options(work / "first"), "seed": 8}


def test_command_line_over_file_over_preset_over_defaults(run: Go, work: Path) -> None:
    (work / "mine.yaml").write_text("lambda-l1: 50\nflip: false\nhorizon: 400\n")
    stated = ("--no-flip", "--lr", "0.001", "--load-size", "None")
    run("--preset", "paper", "--config", "mine.yaml", *stated, "--out", "there")
    found = options(work / "there")
    assert (found["lr"], found["lambda-l1"], found["flip"]) == (0.001, 50.0, False)
    assert found["ema-images"] == 0  # the preset's
    assert found["tick-every"] == 100  # nobody's
    assert found["horizon"] == 400  # in place of the preset's epochs
    assert "epochs" not in found


def test_a_run_is_found_from_any_folder(
    run: Go, go: Go, work: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs.parent)
    run("--out", work / "there", data="pairs")
    monkeypatch.chdir(work / "there")
    done = go("resume", ".", "--max-steps", "2")
    assert done.status == 0, done.err
    assert (work / "there" / "checkpoints" / "step-000000002").is_dir()


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("", "Choose another."),
        ("notes.txt", "Choose another."),
        ("config.yaml", "Choose another, or go on with it by `ganengine resume 'my run'`."),
    ],
)
def test_only_a_run_is_one_to_go_on_with(go: Go, work: Path, pairs: Path, file: str, advice: str) -> None:
    (work / "my run").mkdir()
    if file:
        (work / "my run" / file).write_text("")
    done = go("run", "pix2pix", pairs, "--out", "my run")
    assert done.status == 2
    assert done.err == f"ganengine run: --out my run: expected a name that is free; it exists. {advice}\n"


def test_resume_says_when_there_is_nothing_left(run: Go, go: Go, work: Path, tree: Tree) -> None:
    run("--out", "there")
    before = tree(work)
    done = go("resume", "there")
    assert done.status == 0
    assert done.out.endswith("there is complete: 1 steps reached. `ganengine resume there --max-images 4` goes on.\n")
    assert tree(work) == before
    done = go("resume", "there", "--max-images", "4")
    assert "Stopped: 4 images reached" in done.out


FAILING = """
from dataclasses import dataclass

from ganengine.errors import UserError
from ganengine.hookspecs import hookimpl
from ganengine.variant import Optimizer, Phase, Schedule, Stage, Variant

GANENGINE_API = 1


@dataclass(frozen=True)
class Config:
    pass


def networks(config, data_spec, stage):
    from torch import nn

    return {"G": nn.Conv2d(3, 3, 1)}


def losses(config):
    def g(step):
        raise UserError("--batch: expected something else.")

    return {"g": g}


def schedule(config):
    return Schedule((Stage((Phase("g", ("G",), "g", "g"),)),), {"g": Optimizer(0.1)})


def views(config):
    return {}


@hookimpl
def ganengine_variants():
    here = "failing_at_first_step:"
    builders = [here + name for name in ("networks", "losses", "schedule", "views")]
    return [Variant("failing", "Fails.", Config, *builders, fields=("A",))]
"""


@pytest.fixture
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a plugin whose variant finds fault with its options at the first step."""
    path = tmp_path_factory.mktemp("plugin") / "failing_at_first_step.py"
    path.write_text(FAILING)
    before = sys.path[:]
    yield path
    sys.path[:] = before
    registry.cache_clear()
    sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("out", [[], ["--out", "a/b/c"], ["--out", "kept/c"]])
def test_a_run_that_fails_at_its_first_step_leaves_nothing(
    go: Go, work: Path, pairs: Path, failing: Path, tree: Tree, out: list[str]
) -> None:
    (work / "kept").mkdir()
    before = tree(work)
    done = go("run", "failing", pairs, "--plugin", failing, "--batch", "2", "--threads", "1", *out)
    assert done.status == 2
    assert done.err == "ganengine run: --batch: expected something else.\n"
    assert tree(work) == before
