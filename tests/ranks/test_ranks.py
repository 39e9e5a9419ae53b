"""Two and four ranks train as one does; they stop, go on, fail and die together."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganengine import checkpoint
from ganengine.board import fcntl
from ganengine.cli import main
from ganengine.ops import library

from .conftest import GAMES
from .launch import GAME, SECONDS, ended, free_port, start, together

MESSAGES = "gloo" if fcntl is None or library.load().reason is not None else "shared memory"
"""What carries messages where nobody says."""
Told = dict[str, list[dict[str, Any]]]


def newest(run: Path) -> checkpoint.Checkpoint:
    return checkpoint.read(checkpoint.listed(run / "checkpoints")[0])


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def tensors_of(saved: checkpoint.Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a checkpoint but for what is kept in float32 (readings)."""
    yield from saved.networks.items()
    for optimizer, parameters in saved.state["optimizers"].items():
        for name, entries in parameters.items():
            yield from ((f"{optimizer} {name} {key}", value) for key, value in entries.items())


def losses_of(line: dict[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in line["loss"].items()}


def assert_same(run: Path, expected: Path) -> None:
    """Same networks, averages, pools, moments and losses, to 1e-9."""
    found, wanted = newest(run), newest(expected)
    assert found.step == wanted.step
    theirs = dict(tensors_of(wanted))
    assert dict(tensors_of(found)).keys() == theirs.keys()
    for name, tensor in tensors_of(found):
        torch.testing.assert_close(
            tensor, theirs[name], rtol=0, atol=1e-9, msg=lambda told, name=name: f"{name}: {told}"
        )
    lines, others = log_of(run), log_of(expected)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, other in zip(lines, others, strict=True):
        assert losses_of(line) == pytest.approx(losses_of(other), rel=0, abs=1e-9, nan_ok=True)
        assert line["d"] == pytest.approx(other["d"], abs=1e-6)  # float32
        assert line["state"] == other["state"]
        assert line.get("skipped") == other.get("skipped")


@pytest.mark.parametrize("name", GAMES)
def test_two_ranks_train_as_one_does(place: Path, ones: Path, twos: Told, name: str) -> None:
    assert [told["status"] for told in twos[name]] == [0, 0], twos[name]
    assert_same(place / "two" / name, ones / name)


def test_the_games_hold_what_they_are_there_for(ones: Path, twos: Told, place: Path) -> None:
    assert log_of(ones / "broken")[-1]["skipped"] == 1
    assert log_of(ones / "augmented")[-1]["d"]["ada_p"] != 0
    assert newest(ones / "alternating").networks["pool/count"] == 3
    assert "D/layers.0.parametrizations.weight.0.u" in newest(ones / "alternating").networks
    idle = newest(place / "two" / "alternating")
    assert "D/idle" in idle.networks
    assert "D.idle" not in idle.state["optimizers"]["d"]  # no gradient on any rank: none, rather than zeros


def test_the_first_rank_prints_and_writes_alone(place: Path, twos: Told) -> None:
    first, second = twos["alternating"]
    assert f"2 ranks (messages by {MESSAGES}), each on cpu" in first["out"]
    assert (first["err"], second["err"], second["out"]) == ("", "", "")
    assert newest(place / "two" / "alternating").meta["ranks"] == 2
    assert len(list((place / "two" / "alternating" / "samples").iterdir())) == 4  # at steps 0, 2, 4, 6


def test_messages_of_the_process_group_are_the_same_to_the_last_bit(place: Path, twos: Told) -> None:
    run = place / "gloo"
    command = ["run", "many-ranks", "--out", run, *GAMES["alternating"]]
    told = together(2, [command], GANENGINE_RANK_MESSAGES="gloo")
    assert "2 ranks (messages by gloo)" in told[0][0]["out"]
    for name in ("networks.safetensors", "state.pt"):
        assert (newest(run).path / name).read_bytes() == (newest(place / "two/alternating").path / name).read_bytes()


def test_going_on_is_byte_for_byte(place: Path, twos: Told) -> None:
    """Channels-last, a fused optimizer, averaging and resuming together."""
    assert [told["status"] for told in twos["half"] + twos["other half"]] == [0] * 4
    for name in ("networks.safetensors", "state.pt"):
        one, other = (newest(place / run).path / name for run in ("halves", "two/alternating"))
        assert one.read_bytes() == other.read_bytes(), name
    assert log_of(place / "halves") == log_of(place / "two" / "alternating")


def test_a_run_goes_on_with_more_ranks(place: Path, ones: Path, twos: Told) -> None:
    assert "written by 1 rank(s), this is 2" in twos["two of one"][0]["out"]
    assert_same(place / "one-then-two", ones / "alternating")


def test_a_run_goes_on_with_fewer_ranks(
    place: Path, ones: Path, twos: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", str(place / "two-then-one"), "--max-steps", "6"]) == 0
    assert "written by 2 rank(s), this is 1" in capsys.readouterr().out
    assert_same(place / "two-then-one", ones / "alternating")


def test_minutes_stop_all_ranks_at_one_step(place: Path, twos: Told) -> None:
    assert [told["status"] for told in twos["minutes"]] == [0, 0]
    assert "0.001 minutes reached" in twos["minutes"][0]["out"]


def test_what_ranks_cannot_share_is_refused(place: Path, twos: Told) -> None:
    for told in twos["share"]:
        assert told["status"] == 2
        assert 'Term "spread" of phase "d" belongs to the whole batch' in told["err"]
    for told in twos["odd"]:
        assert told["status"] == 2
        assert "--batch: expected a multiple of 2" in told["err"]
    assert not (place / "share").exists()
    assert not (place / "odd").exists()


@pytest.mark.quality
def test_torchrun_starts_four(place: Path, ones: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "4",
        "--master-port",
        str(free_port()),
    ]
    command += ["-m", "ganengine", "run", "many-ranks", "--plugin", str(GAME), "--out", str(place / "four")]
    done = subprocess.run(
        [*command, *GAMES["contiguous"]], capture_output=True, text=True, timeout=SECONDS, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training time") == 1
    assert_same(place / "four", ones / "contiguous")


def waiting_for(run: Path, step: int) -> None:
    """Wait until a checkpoint of at least this step is there."""
    deadline = time.monotonic() + SECONDS
    while not any(int(path.name[5:]) >= step for path in checkpoint.listed(run / "checkpoints")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def endless(place: Path, name: str, *more: str) -> list[subprocess.Popen[str]]:
    """Start two ranks of a run that does not end by itself."""
    options = ["--max-steps", "100000", "--pause", "0.02", *more]
    command = ["-m", "ganengine", "run", "many-ranks", "--plugin", GAME, "--out", place / name, *options]
    return start(2, command, GANENGINE_RANK_TIMEOUT="20")


def test_a_signal_to_one_rank_saves_and_stops_all(place: Path) -> None:
    with ended(endless(place, "signalled")) as (first, second):
        waiting_for(place / "signalled", 3)
        second.send_signal(signal.SIGTERM)
        told = [process.communicate(timeout=SECONDS) for process in (first, second)]
    assert [first.returncode, second.returncode] == [143, 143], told
    assert "Stopped: SIGTERM" in told[0][0]
    assert told[1] == ("", "")
    assert newest(place / "signalled").step == log_of(place / "signalled")[-1]["step"]


def test_a_lost_rank_ends_the_run_with_a_message_and_it_resumes(place: Path) -> None:
    with ended(endless(place, "lost")) as (first, second):
        waiting_for(place / "lost", 3)
        second.kill()
        _, err = first.communicate(timeout=SECONDS)
        second.communicate()
    assert first.returncode == 1
    assert err.count("Another of the 2 ranks was lost") == 1
    assert "Traceback" not in err
    assert f"`ganengine resume {place / 'lost'} --plugin " in err
    reached = newest(place / "lost").step
    assert main(["resume", str(place / "lost"), "--max-steps", str(reached + 2)]) == 0
    assert newest(place / "lost").step == reached + 2


def test_a_first_rank_that_dies_in_its_preview_ends_the_run_and_it_resumes(place: Path) -> None:
    run = place / "lost-first"
    with ended(endless(place, "lost-first", "--stuck-at", "4")) as (first, second):
        waiting_for(run, 3)
        deadline = time.monotonic() + SECONDS
        while log_of(run)[-1]["step"] < 4:  # written just before the preview
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [first.poll(), second.poll()] == [None, None]
        first.kill()
        first.communicate()
        _, err = second.communicate(timeout=SECONDS)
    assert second.returncode == 1
    assert err.count("Another of the 2 ranks was lost") == 1
    assert "Traceback" not in err
    assert main(["resume", str(run), "--max-steps", "6"]) == 0
    assert newest(run).step == 6
