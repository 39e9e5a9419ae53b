"""A newest checkpoint that is damaged, missing in part, or of something else: the last good one is used, and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganengine.checkpoint import listed, newest

Go = Callable[..., Any]

FILES = ("networks.safetensors", "state.pt", "meta.json")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) * 2 // 3] ^= 4
    file.write_bytes(data)


def restate(path: Path, **changes: Any) -> None:
    """Change facts of meta.json, as another program would that writes no checksum of its own."""
    file = path / "meta.json"
    meta = {**json.loads(file.read_text()), **changes}
    del meta["own_sha256"]
    file.write_text(json.dumps(meta))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_damaged_checkpoint_is_passed_over(
    go: Go, run: Path, whole: Any, remains: Any, damage: Callable[[Path], None], name: str
) -> None:
    damage(run / "checkpoints" / "step-000000006" / name)
    done = go("resume", run, "--max-steps", 14)
    assert done.status == 0, done.err
    assert "Passed over a checkpoint:" in done.out
    assert "step-000000006" in done.out
    assert "Going on at step 4, 16 images." in done.out
    assert "Passed over" in (run / "notes.jsonl").read_text()
    assert remains(run) == whole


def test_the_name_of_a_checksum_counts_too(run: Path) -> None:
    folder = run / "checkpoints"
    file = listed(folder)[0] / "meta.json"
    file.write_bytes(file.read_bytes().replace(b"own_sha256", b"nwn_sha256"))
    found, faults = newest(folder)
    assert (found.step, len(faults)) == (4, 1)
    assert "damaged" in faults[0]


@given(data=st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bit_can_flip_unseen(run: Path, data: st.DataObject) -> None:
    folder = run / "checkpoints"
    file = listed(folder)[0] / data.draw(st.sampled_from(FILES))
    before = file.read_bytes()
    truth = newest(folder)[0]
    at = data.draw(st.integers(0, len(before) - 1))
    flipped = bytes([before[at] ^ 1 << data.draw(st.integers(0, 7))])
    tail = b"" if data.draw(st.booleans()) else before[at + 1 :]
    try:
        file.write_bytes(before[:at] + flipped + tail)
        found, faults = newest(folder)
    finally:
        file.write_bytes(before)
    if found.step == truth.step:  # a last newline was hit
        assert found.meta == truth.meta
        assert found.state["position"] == truth.state["position"]
    else:
        assert (found.step, len(faults)) == (4, 1)
        assert "step-000000006" in faults[0]


def test_a_checkpoint_of_another_run_is_passed_over_and_left_alone(
    go: Go, run: Path, made: Path, whole: Any, remains: Any, tree: Any
) -> None:
    foreign = run / "checkpoints" / "step-000000010"
    shutil.copytree(made / "other" / "checkpoints" / "step-000000010", foreign)
    before = tree(foreign)
    done = go("resume", run, "--max-steps", 9)
    assert done.status == 0, done.err
    assert f'Passed over a checkpoint: {foreign}: it belongs to another run (of "tiny-gan")' in done.out
    assert "Going on at step 6" in done.out
    # It counts as none of those to be kept, and is told of again.
    assert [path.name for path in listed(run / "checkpoints")] == [f"step-{n:09d}" for n in (10, 9, 8)]
    assert tree(foreign) == before
    done = go("resume", run, "--max-steps", 14)
    assert "Going on at step 9" in done.out
    assert remains(run) == whole


def test_a_damaged_newest_is_not_what_is_kept(go: Go, run: Path, whole: Any, remains: Any) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("keep-checkpoints: 2", "keep-checkpoints: 1"))
    flip(run / "checkpoints" / "step-000000006" / "state.pt")
    assert go("resume", run, "--max-steps", 5).status == 0
    done = go("resume", run, "--max-steps", 14)
    assert "Going on at step 5" in done.out, "the one written after the damaged one must not be pruned"
    assert remains(run) == whole


def test_checkpoints_of_another_run_alone_are_refused(go: Go, run: Path, made: Path, tree: Any) -> None:
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(made / "other" / "checkpoints", run / "checkpoints")
    before = tree(run)
    for command in (("resume", run, "--max-steps", 14), ("sample", run, "--out", run / "new")):
        done = go(*command)
        assert done.status == 2
        assert "it belongs to another run" in done.err
        assert tree(run) == before


def test_a_checkpoint_of_another_variant_is_refused(go: Go, run: Path, tree: Any) -> None:
    for path in listed(run / "checkpoints"):
        restate(path, variant="stylegan9")
    before = tree(run)
    done = go("resume", run, "--max-steps", 14)
    assert done.status == 2
    assert 'belongs to variant "stylegan9", not "tiny-gan"' in done.err
    assert tree(run) == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ganengine": "0.0.7"}, "was written by ganengine 0.0.7, this is 0.1.0: bits may differ"),
        ({"versions": {"torch": "1.0"}}, "was written with torch 1.0, this is "),
        ({"fingerprint": "x"}, "The data has changed since the checkpoint"),
        ({"device": "cuda"}, "was written on cuda, this is cpu"),
        ({"threads": 3}, "was written by 3 thread(s), this is 1: the same numbers, but for rounding"),
    ],
)
def test_what_another_version_wrote_is_told(go: Go, run: Path, changes: dict[str, Any], told: str) -> None:
    restate(run / "checkpoints" / "step-000000006", **changes)
    done = go("resume", run, "--max-steps", 7)
    assert done.status == 0, done.err
    assert told in done.out


def reconfigure(run: Path, **changes: Any) -> None:
    options = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**options, **changes}))


def test_options_that_were_changed_are_told(go: Go, run: Path) -> None:
    reconfigure(run, lr=0.5, preview=0)
    done = go("resume", run, "--max-steps", 7)
    assert done.status == 0, done.err
    assert "Options have changed since the checkpoint (lr was 0.01, is 0.5): going on with the new ones" in done.out
    assert "Options have changed" not in go("resume", run, "--max-steps", 8).out


def test_more_threads_than_cores_are_told(go: Go, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of two threads goes on with two, as it said nothing of them itself, also where there is one core now."""
    reconfigure(run, threads=None)
    restate(run / "checkpoints" / "step-000000006", threads=2)
    monkeypatch.setattr("ganengine.session.cores", lambda: 1)
    done = go("resume", run, "--max-steps", 7)
    assert done.status == 0, done.err
    assert (
        'has 2 threads, but there are 1 core(s): a step can take several times as long. With "threads: 1"' in done.out
    )


def test_options_that_do_not_fit_the_networks_are_refused(go: Go, run: Path, tree: Any) -> None:
    reconfigure(run, width=4)
    before = tree(run)
    done = go("resume", run, "--max-steps", 7)
    assert done.status == 2
    assert "width was 8, is 4" in done.err
    assert "its tensors do not fit these networks" in done.err
    assert tree(run) == before


def test_who_only_uses_a_run_passes_over_too(go: Go, start: Go, run: Path, tmp_path: Path) -> None:
    flip(run / "checkpoints" / "step-000000006" / "networks.safetensors")
    done = go("sample", run, "--out", tmp_path / "pictures")
    assert done.status == 0, done.err
    assert "Passed over a checkpoint:" in done.err
    done = start(tmp_path / "new", 1, "--init-from", run)
    assert done.status == 0, done.err
    assert "Passed over a checkpoint:" in done.out
    assert "step 4" in done.out


def test_what_does_not_come_from_another_run_is_named(start: Go, run: Path, tmp_path: Path) -> None:
    done = start(tmp_path / "same", 1, "--init-from", run)
    assert "Begun anew" not in done.out
    done = start(tmp_path / "wider", 1, "--init-from", run, "--width", "4", "--ema-images", "0")
    assert done.status == 0, done.err
    told = " ".join(done.out.split())
    assert "Begun anew, as they are not there or have another shape: G/0.weight, G/0.bias, G/1.weight, ...." in told


def test_a_run_without_its_environment_goes_on(go: Go, run: Path, whole: Any, remains: Any) -> None:
    """What an older version made, or somebody put together by hand, has no identity."""
    (run / "environment.json").unlink()
    assert go("resume", run, "--max-steps", 14).status == 0
    assert remains(run) == whole
