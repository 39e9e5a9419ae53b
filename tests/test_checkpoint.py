"""Checkpoints: whole or not at all, verified, unable to run code, the same bytes for the same tensors."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ganengine import checkpoint
from ganengine.checkpoint import FORMAT, listed, load_tensors, newest, prune, read, write
from ganengine.errors import CheckpointError
from ganengine.players import network_tensors

NETWORKS = {"G/weight": torch.arange(6.0).view(2, 3), "G/bias": torch.zeros(2)}
STATE = {"position": {"step": 7, "images": 28}, "moments": {"G.weight": torch.ones(2, 3)}, "names": ["a", None, 1.5]}


META: dict[str, Any] = {
    "variant": "tiny", "ganengine": "0.1.0", "versions": {"torch": "2.13.0"}, "precision": "fp32", "device": "cpu",
    "fingerprint": "", "images": 28, "stage": 0, "horizon": 1000, "threads": 1, "ranks": 1, "time": {"elapsed_s": 1.5},
    "data": {"count": 16, "fields": {"real": {"kind": "image", "shape": [3, 8, 8], "num_classes": None}}},
}  # fmt: skip


def saved(folder: Path, step: int = 7, networks: Any = None, state: Any = None, **meta: Any) -> Path:
    networks, state = NETWORKS if networks is None else networks, STATE if state is None else state
    return write(folder, networks, state, {**META, "step": step, **meta})


def restate(path: Path, **changes: Any) -> None:
    """Make the stated checksums true again after a file was changed on purpose."""
    meta = json.loads((path / "meta.json").read_text())
    del meta["own_sha256"]
    meta["sha256"] = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in meta["sha256"]}
    (path / "meta.json").write_text(json.dumps({**meta, **changes}))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert path == tmp_path / "step-000000007"
    assert sorted(file.name for file in path.iterdir()) == ["meta.json", "networks.safetensors", "state.pt"]
    found = read(path)
    assert found.step == 7
    assert found.meta["format"] == FORMAT
    assert set(found.networks) == set(NETWORKS)
    assert all(torch.equal(found.networks[name], tensor) for name, tensor in NETWORKS.items())
    assert found.state["position"] == STATE["position"]
    assert found.state["names"] == STATE["names"]
    assert torch.equal(found.state["moments"]["G.weight"], torch.ones(2, 3))


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_may_be_read_by_whom_the_umask_says(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        path = saved(tmp_path)
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()} == dict.fromkeys(
        ("networks.safetensors", "state.pt", "meta.json"), mode
    )


def test_networks_open_with_safetensors_alone(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert torch.equal(safetensors.torch.load_file(path / "networks.safetensors")["G/weight"], NETWORKS["G/weight"])
    stated = json.loads((path / "meta.json").read_text())["sha256"]
    for name, digest in stated.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest


# -- tensors of every kind ------------------------------------------------------------------------------------------

BASE = torch.arange(24.0)

KINDS: dict[str, dict[str, Tensor]] = {
    "channels last": {"w": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)},
    "transposed": {"w": BASE.view(4, 6).t()},
    "a slice": {"w": BASE[3:9]},
    "the beginning of something larger": {"w": BASE[:5]},
    "every other one": {"w": BASE[::2]},
    "expanded": {"w": torch.ones(1, 3).expand(4, 3)},
    "aliased": {"a": BASE, "b": BASE, "c": BASE.view(4, 6)},
    "overlapping": {"a": BASE[:10], "b": BASE[5:15]},
    "zero-size": {"a": torch.empty(0), "b": torch.empty(0, 3), "c": torch.empty(2, 0, 4)},
    "scalars": {"a": torch.tensor(1.5), "b": torch.tensor(3), "c": torch.tensor(True)},
    "dtypes": {str(d): torch.ones(3, dtype=d) for d in (torch.float64, torch.bfloat16, torch.float16, torch.uint8)},
    "parameters": {"w": nn.Parameter(torch.ones(2, 2)), "v": nn.Parameter(torch.ones(()))},
    "none at all": {},
}


@pytest.mark.parametrize("tensors", KINDS.values(), ids=KINDS)
def test_tensors_of_every_kind_come_back_as_values(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    found = read(saved(tmp_path, networks=tensors)).networks
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
        assert found[name].is_contiguous()


def test_a_file_holds_no_more_than_its_tensors(tmp_path: Path) -> None:
    large = torch.zeros(1_000_000)
    path = saved(tmp_path, networks={"w": large[:10]}, state={"w": large[:10].clone()})
    assert sum(file.stat().st_size for file in path.iterdir()) < 20_000


def test_what_was_tied_stays_tied_and_keeps_its_strides(tmp_path: Path) -> None:
    def make(value: float) -> nn.Module:
        network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)).to(memory_format=torch.channels_last)
        network[1].weight = network[0].weight
        for parameter in network.parameters():
            parameter.data.fill_(value).view(-1) if parameter.dim() == 1 else parameter.data.normal_()
        return network

    source, target = make(1.0), make(2.0)
    strides = target[0].weight.stride()  # type: ignore[index, union-attr, operator]
    found = read(saved(tmp_path, networks=network_tensors({"G": source, "z": nn.Parameter(torch.ones(2))})))
    bare = nn.Parameter(torch.zeros(2))
    load_tensors(network_tensors({"G": target, "z": bare}), found)
    assert set(found.networks) == {"G/0.weight", "G/0.bias", "G/1.weight", "G/1.bias", "z/value"}
    assert torch.equal(target[0].weight, source[0].weight)  # type: ignore[index, arg-type]
    assert target[0].weight is target[1].weight  # type: ignore[index]
    assert target[0].weight.stride() == strides  # type: ignore[index, union-attr, operator]
    assert torch.equal(bare, torch.ones(2))


@pytest.mark.parametrize(
    ("into", "message"),
    [
        ({"G/weight": torch.zeros(2, 3)}, r"1 unknown \(such as G/bias\)"),
        ({**NETWORKS, "D/w": torch.zeros(1)}, r"1 missing \(such as D/w\)"),
        ({**NETWORKS, "G/bias": torch.zeros(3)}, r"1 of another shape \(such as G/bias\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, into: dict[str, Tensor], message: str) -> None:
    found = read(saved(tmp_path))
    before = {name: tensor.clone() for name, tensor in into.items()}
    with pytest.raises(CheckpointError, match=message):
        load_tensors(into, found)
    assert all(torch.equal(into[name], before[name]) for name in into), "nothing is taken over then"


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    name = "critic"
    other = "".join(["cri", "tic"])
    assert name is not other
    one = saved(tmp_path / "a", state={name: 1, "sums": {name: torch.ones(2)}, "pair": (1, 2)})
    two = saved(tmp_path / "b", state={name: 1, "sums": {other: torch.ones(4)[:2].clone()}, "pair": [1, 2]})
    assert (one / "state.pt").read_bytes() == (two / "state.pt").read_bytes()
    assert (one / "networks.safetensors").read_bytes() == (two / "networks.safetensors").read_bytes()


# -- atomic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["torch.save", "os.replace", "safetensors.torch.save_file"])
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    saved(tmp_path, 1)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(fails, fail)
    with pytest.raises(OSError, match="no space left"):
        saved(tmp_path, 2)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_what_a_killed_writer_left_is_ignored_and_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)

    # As SIGKILL between writing and renaming leaves it: neither the rename nor the clean-up took place.
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr("ganengine.checkpoint.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path, 2)
    assert any(path.name.startswith(".step-000000002.") for path in tmp_path.iterdir())
    assert [path.name for path in listed(tmp_path)] == ["step-000000001"]
    found, faults = newest(tmp_path)
    assert (found.step, faults) == (1, [])
    prune(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_a_checkpoint_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = checkpoint._sync, os.replace

    def watched_sync(path: Path) -> None:
        events.append(path.name)
        sync(path)

    def watched_rename(a: Path, b: Path) -> None:
        events.append("rename")
        rename(a, b)

    monkeypatch.setattr(checkpoint, "_sync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_rename)
    saved(tmp_path / "checkpoints")
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert {"networks.safetensors", "state.pt", "meta.json"} <= set(before)
    assert any(name.endswith(".tmp") for name in before)
    assert after == ["checkpoints"]


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    saved(tmp_path, 3, networks={"w": torch.ones(1)})
    assert list(read(tmp_path / "step-000000003").networks) == ["w"]
    assert len(list(tmp_path.iterdir())) == 1


# -- listing --------------------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_by_number_and_pruned_from_the_oldest(tmp_path: Path) -> None:
    for step in (5, 1_234_567_890, 40, 0):
        saved(tmp_path, step)
    (tmp_path / "step-12").mkdir()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in listed(tmp_path)] == [
        "step-1234567890", "step-000000040", "step-000000005", "step-000000000",
    ]  # fmt: skip
    prune(tmp_path, 2)
    assert [path.name for path in listed(tmp_path)] == ["step-1234567890", "step-000000040"]
    assert (tmp_path / "notes.txt").exists()
    assert listed(tmp_path / "nowhere") == []


# -- damaged --------------------------------------------------------------------------------------------------------


def flip(path: Path, name: str) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)


def shorten(path: Path, name: str) -> None:
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])


def remove(path: Path, name: str) -> None:
    (path / name).unlink()


FILES = ("networks.safetensors", "state.pt", "meta.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, shorten, remove])
def test_damage_is_found_and_the_one_before_is_taken(
    tmp_path: Path, damage: Callable[[Path, str], None], name: str
) -> None:
    saved(tmp_path, 1)
    path = saved(tmp_path, 2)
    if (damage, name) == (flip, "meta.json"):
        (path / name).write_text((path / name).read_text().replace('"sha256"', '"sha255"'))
    else:
        damage(path, name)
    with pytest.raises(CheckpointError, match="step-000000002"):
        read(path)
    found, faults = newest(tmp_path)
    assert found.step == 1
    assert len(faults) == 1
    assert "step-000000002" in faults[0]
    if name != "meta.json" and damage is not remove:
        assert f"{name} is damaged" in faults[0]
    if damage is remove:
        assert f"{name} is missing" in faults[0]


def test_where_all_are_damaged_each_is_told(tmp_path: Path) -> None:
    for step in (1, 2):
        flip(saved(tmp_path, step), "state.pt")
    with pytest.raises(CheckpointError, match=r"expected a checkpoint to go on from; .*000002.*000001"):
        newest(tmp_path)
    with pytest.raises(CheckpointError, match="there is none"):
        newest(tmp_path / "nowhere")


def test_a_newer_format_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = saved(tmp_path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "format": FORMAT + 1}))
    with pytest.raises(CheckpointError, match=rf"newer ganengine \(format {FORMAT + 1}.* Upgrade"):
        read(path)


# -- unable to run code ---------------------------------------------------------------------------------------------


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def as_pickle(file: Path, bomb: Bomb) -> None:
    file.write_bytes(pickle.dumps(bomb, protocol=2))


def as_torch(file: Path, bomb: Bomb) -> None:
    torch.save({"x": bomb}, file)


@pytest.mark.parametrize("name", ["state.pt", "networks.safetensors"])
@pytest.mark.parametrize("plant", [as_pickle, as_torch])
def test_a_planted_pickle_is_refused_and_does_not_run(
    tmp_path: Path, plant: Callable[[Path, Bomb], None], name: str
) -> None:
    path = saved(tmp_path / "checkpoints")
    plant(path / name, Bomb(tmp_path / "exploded"))
    restate(path)
    with pytest.raises(CheckpointError, match="refused, since it holds something else than tensors"):
        read(path)
    assert not (tmp_path / "exploded").exists()
    # The bomb is live: without the protection it would have gone off.
    if plant is as_pickle:
        pickle.loads((path / name).read_bytes())
        assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "meta",
    ["", "[]", "null", "{}", '{"format": 1}', '{"format": "x", "sha256": {}}', '{"format": 1, "sha256": 3}', "\xff"],
)
def test_a_meta_file_that_is_nonsense_is_a_plain_error(tmp_path: Path, meta: str) -> None:
    path = saved(tmp_path)
    (path / "meta.json").write_bytes(meta.encode("latin-1"))
    with pytest.raises(CheckpointError, match="step-000000007"):
        read(path)
