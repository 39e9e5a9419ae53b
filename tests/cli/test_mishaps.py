"""What happens to people: a full disk, two commands on one run, a run among the data, a reader that goes away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ganengine.runfolder import RunFolder

TRAIN = [sys.executable, "-m", "ganengine", "run", "pix2pix"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and locks of Unix")


def test_a_run_among_its_data_is_no_data(go: Any, pairs: Path, smallest: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in sorted((pairs / "train").glob("*.png")):
        (data / path.name).write_bytes(path.read_bytes())
    run = data / "run"
    assert go("run", "pix2pix", data, *smallest, "--max-steps", 2, "--out", run).status == 0
    resumed = go("resume", run, "--max-steps", 3)
    assert resumed.status == 0
    assert "data has changed" not in resumed.out + resumed.err
    found = json.loads(go("data", "inspect", data, "--json").out)
    assert found["splits"] == {"train": len(list(data.glob("*.png")))}


def test_two_commands_cannot_train_one_run(go: Any, trained: Path) -> None:
    with RunFolder.open(trained).locked():
        done = go("resume", trained, "--max-steps", 10_000)
    assert done.status == 2
    assert "another process trains this run" in done.err


def test_a_full_disk_is_one_message(go: Any, pairs: Path, smallest: list[str], tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        done = go("run", "pix2pix", pairs, *smallest, "--max-steps", 2, "--preview", 0, "--out", tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert done.status == 2
    assert "cannot be written" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["plugins", "doctor"]], ids=" ".join)
def test_standard_output_that_takes_no_more_is_told(words: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ganengine", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=environment,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.endswith(": standard output: No space left on device.\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("data", "inspect", "DATA"),
        ("translate", "RUN", "DATA", "OUT"),
        ("run", "pix2pix", "DATA", "--max-steps", 4, "--out", "OUT"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("kept", [0, 200], ids=["empty", "cut off"])
def test_a_name_does_not_steer_the_terminal(
    go: Any, pairs: Path, trained: Path, smallest: list[str], tmp_path: Path, command: tuple[Any, ...], kept: int
) -> None:
    data = Path(shutil.copytree(pairs, tmp_path / "data"))
    whole = (data / "train" / "0.png").read_bytes()
    (data / "train" / "a\x1b[31m\nred.png").write_bytes(whole[:kept])
    words = [{"DATA": data, "RUN": trained, "OUT": tmp_path / "out"}.get(word, word) for word in command]
    done = go(*words, *(smallest if command[0] == "run" else ()))
    told = done.out + done.err
    assert "\\x1b[31m\\nred.png" in told
    assert "\x1b" not in told
    assert "\nred.png" not in told


def test_an_empty_word_is_not_the_default_data(go: Any, smallest: list[str], tmp_path: Path) -> None:
    done = go("run", "pix2pix", "", *smallest, "--out", tmp_path / "run")
    assert done.status == 2
    assert "not empty" in done.err
    assert not (tmp_path / "run").exists()


def test_a_reader_that_goes_away_does_not_end_a_run(pairs: Path, smallest: list[str], tmp_path: Path) -> None:
    words = [*TRAIN, str(pairs), *smallest, "--max-steps", "12", "--tick-every", "1", "--out", str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(120)
    assert (tmp_path / "run" / "checkpoints" / "step-000000012").is_dir()


def test_what_comes_next_after_an_interruption_has_the_goal_of_before(
    pairs: Path, smallest: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    words = [*TRAIN, str(pairs), *smallest, "--max-steps", "100000", "--out", str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        while not list(run.glob("checkpoints/step-*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"ganengine resume '{run}'" in out


def test_only_png_is_written(go: Any, trained: Path, pairs: Path, tmp_path: Path) -> None:
    picture = next((pairs / "test").glob("*.png"))
    done = go("translate", trained, picture, tmp_path / "x.jpg")
    assert done.status == 2
    assert "expected a .png file or a folder" in done.err
    assert not (tmp_path / "x.jpg").exists()


def test_results_inside_the_input_are_not_translated_again(go: Any, trained: Path, pairs: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for path in sorted((pairs / "test").glob("*.png"))[:2]:
        (source / path.name).write_bytes(path.read_bytes())
    for extra in ([], ["--overwrite"]):
        assert go("translate", trained, source, source / "out", *extra).status == 0
    assert sorted(path.name for path in (source / "out").rglob("*")) == sorted(p.name for p in source.glob("*.png"))


def test_a_plugin_that_prints_does_not_break_json(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("print('NOISE')\nGANENGINE_API = 1\n")
    (tmp_path / "loud-1.dist-info").mkdir()
    (tmp_path / "loud-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1\n")
    (tmp_path / "loud-1.dist-info" / "entry_points.txt").write_text("[ganengine]\nloud = loud\n")
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, "-m", "ganengine", "list", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": places})
    assert json.loads(done.stdout)["schema"] == 1
    assert "NOISE" in done.stderr
