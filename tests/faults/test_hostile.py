"""Files of a run that somebody prepared: refused with one plain message, nothing run, nothing touched elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ganengine.checkpoint import listed
from ganengine.config import parse_yaml

Go = Callable[..., Any]

LAST = "checkpoints/step-000000006"


@pytest.fixture
def victim(run: Path) -> Path:
    """Return a run with one checkpoint, so that there is no other to take."""
    listed(run / "checkpoints")[1].rename(run.parent / "away")
    return run


@pytest.fixture
def refused(go: Go, victim: Path, tree: Any) -> Callable[..., None]:
    """Check that a run is refused by all who would use it: refused("part of the message", ...)."""

    def check(*told: str, commands: tuple[str, ...] = ("resume", "sample")) -> None:
        place = victim.parent
        before = tree(place)
        for command in commands:
            more = ("--max-steps", 14) if command == "resume" else ("--out", place / "pictures")
            done = go(command, victim, *more)
            assert done.status == 2, done.out
            assert done.err.count("\n") == 1, "one message"
            assert len(done.err) < 1200
            for words in told:
                assert words in done.err
            assert tree(place) == before

    return check


def restate(path: Path, change: Callable[[dict[str, Any]], None] = lambda meta: None) -> None:
    """Make the checksums of a checkpoint true, after changing what it states."""
    meta = json.loads((path / "meta.json").read_text())
    del meta["own_sha256"]
    change(meta)
    if isinstance(meta.get("sha256"), dict):
        files = ("networks.safetensors", "state.pt")
        meta["sha256"] |= {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in files}
    (path / "meta.json").write_text(json.dumps(meta))


# -- meta.json ------------------------------------------------------------------------------------------------------

NUMBERS = ("step", "images", "stage", "horizon", "threads")
NO_NUMBERS = [float("nan"), float("inf"), -1, 1e308, 10**30, 1.5, "12", True, None, [], {}, "9" * 3000]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_make_no_sense(refused: Any, victim: Path, name: str, value: Any) -> None:
    restate(victim / LAST, lambda meta: meta.update({name: value}))
    refused(f"meta.json: {name}: expected a whole number from", commands=("resume",))


FACTS: dict[str, tuple[Any, str]] = {
    "a step that is not the folder's": ({"step": 5}, "step: expected that of the folder's name, got 5"),
    "more threads than there are": ({"threads": 5000}, "threads: expected a whole number from 1 to 4096, got 5000"),
    "a stage that is not there": ({"stage": 7}, ""),
    "a precision": ({"precision": "fp8; rm -rf"}, "precision: expected fp32|bf16|fp16"),
    "a device": ({"device": "../../cpu"}, "device: expected"),
    "a name that is none": ({"variant": 7}, "it cannot be read"),
    "time that is none": ({"time": {"elapsed_s": float("nan")}}, "time: expected seconds, got nan"),
    "time that runs back": ({"time": {"elapsed_s": -5}}, "time: expected seconds, got -5"),
    "no time": ({"time": 3}, "it cannot be read"),
    "versions": ({"versions": "all"}, "it cannot be read"),
    "data": ({"data": []}, "it cannot be read"),
    "a huge sample": (
        {"data": {"count": 1, "fields": {"real": {"kind": "image", "shape": [10**12, 8, 8], "num_classes": None}}}},
        "data: expected the form of a sample",
    ),
    "a sample of less than nothing": (
        {"data": {"count": 1, "fields": {"real": {"kind": "image", "shape": [3, -8, 8], "num_classes": None}}}},
        "data: expected the form of a sample",
    ),
    "checksums": ({"sha256": None}, "it cannot be read"),
    "a format": ({"format": "one"}, "it cannot be read"),
}


@pytest.mark.parametrize("changes", FACTS.values(), ids=FACTS)
def test_facts_that_make_no_sense(refused: Any, go: Go, victim: Path, changes: tuple[Any, str]) -> None:
    restate(victim / LAST, lambda meta: meta.update(changes[0]))
    if changes[1]:
        refused(changes[1])
    else:  # the stage is what state.pt says
        assert go("resume", victim, "--max-steps", 7).status == 0


@pytest.mark.parametrize("name", [*NUMBERS, "variant", "precision", "device", "data", "time", "sha256", "versions"])
def test_facts_that_are_missing(refused: Any, victim: Path, name: str) -> None:
    restate(victim / LAST, lambda meta: meta.pop(name))
    refused("it cannot be read", name, commands=("resume",))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"step": ' + "9" * 5000 + "}", '"' + "x" * 10**6, "\0", "7"])
def test_a_meta_file_that_is_nonsense(refused: Any, victim: Path, text: str) -> None:
    (victim / LAST / "meta.json").write_text(text)
    refused("it cannot be read")


def test_paths_in_the_meta_file_lead_nowhere(go: Go, victim: Path, tree: Any) -> None:
    outside = victim.parent / "outside"
    outside.write_text("precious")
    name = "../../../outside"
    digest = hashlib.sha256(b"other").hexdigest()
    restate(victim / LAST, lambda meta: meta.update(path=name, out=name, sha256={name: digest, str(outside): digest}))
    done = go("resume", victim, "--max-steps", 7)
    assert done.status == 0, "only the names that the engine knows are looked at"
    assert outside.read_text() == "precious"
    assert {path.name for path in victim.parent.iterdir()} == {"run", "away", "outside"}


# -- state.pt and networks.safetensors ------------------------------------------------------------------------------


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def as_torch(value: Any) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory)
    return memory.getvalue()


@pytest.mark.parametrize("name", ["state.pt", "networks.safetensors"])
@pytest.mark.parametrize("pack", [pickle.dumps, as_torch])
def test_a_pickle_does_not_run(refused: Any, victim: Path, name: str, pack: Callable[[Any], bytes]) -> None:
    (victim / LAST / name).write_bytes(pack(Bomb(victim.parent / "exploded")))
    restate(victim / LAST)
    refused("refused, since it holds something else than tensors")


def edit_state(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    state = torch.load(path / "state.pt", weights_only=True)
    other = change(state)
    torch.save(other if isinstance(other, list) else state, path / "state.pt")
    restate(path)


def moment(state: dict[str, Any], value: Any) -> None:
    state["optimizers"]["critic"]["D.0.weight"]["exp_avg"] = value


STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no dict": (lambda state: [1, 2], "state.pt holds a list"),
    "nothing": (lambda state: state.clear(), "does not say where training stood"),
    "a position that is none": (lambda state: state.update(position=3), "does not say where training stood"),
    "another step": (lambda state: state["position"].update(step=5), "where training stood makes no sense"),
    "a step before the first": (lambda state: state["position"].update(images=-4), "makes no sense"),
    "a huge number": (lambda state: state["position"].update(images=10**400), "makes no sense"),
    "a fraction": (lambda state: state["position"].update(salt=0.5), "makes no sense"),
    "a stage that is not there": (lambda state: state["position"].update(stage=1), "makes no sense"),
    "an unknown place": (lambda state: state["position"].update(planet="Mars"), "does not say where training stood"),
    "no optimizers": (lambda state: state.pop("optimizers"), "state.pt does not fit: KeyError: 'optimizers'"),
    "optimizers of another kind": (lambda state: state.update(optimizers=[1]), "state.pt does not fit: "),
    "means of another kind": (lambda state: state.update(means={"sums": {"g": "x"}}), "state.pt does not fit: "),
    "state of another kind": (lambda state: state.update(state={"k": 1}), "state.pt does not fit: "),
    "steps of another kind": (lambda state: state.update(steps=7), "state.pt does not fit: "),
    "a moment that is too short": (lambda state: moment(state, torch.zeros(1)), "has another shape or dtype"),
    "a moment of bytes": (lambda state: moment(state, torch.zeros(8, 3, 4, 4, dtype=torch.uint8)), "shape or dtype"),
    "a moment that is huge": (lambda state: moment(state, torch.zeros(1).expand(10**13)), "has another shape or dtype"),
    "a sparse moment": (lambda state: moment(state, torch.eye(3).to_sparse()), "checkpoints"),
}


@pytest.mark.parametrize("case", STATES.values(), ids=STATES)
def test_a_state_that_does_not_fit(refused: Any, victim: Path, case: tuple[Callable[[Any], Any], str]) -> None:
    edit_state(victim / LAST, case[0])
    refused(case[1], commands=("resume",))


def header(text: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], offsets: list[int], dtype: str = "F32") -> bytes:
    return json.dumps({"G/0.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


LIES = {
    "a header longer than the file": header(tensor([1], [0, 4]), 10**15, bytes(4)),
    "a header of all there is": header(tensor([1], [0, 4]), (1 << 64) - 1, bytes(4)),
    "a tensor past the end": header(tensor([1000], [0, 4000]), data=bytes(4)),
    "a shape that its bytes do not fill": header(tensor([1 << 40, 1 << 40], [0, 4]), data=bytes(4)),
    "a shape that overflows": header(tensor([1 << 63, 2], [0, 4]), data=bytes(4)),
    "offsets that run back": header(tensor([1], [4, 0]), data=bytes(4)),
    "negative offsets": header(tensor([1], [-4, 0]), data=bytes(4)),
    "a hole": header(tensor([1], [8, 12]), data=bytes(12)),
    "an unknown dtype": header(tensor([1], [0, 4], "F31"), data=bytes(4)),
    "bytes behind": header(tensor([1], [0, 4]), data=bytes(400)),
    "no JSON": header(b"{{{{{{{{"),
    "deep JSON": header(b"[" * 100_000),
    "nothing": b"",
}


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_a_header_that_lies(refused: Any, victim: Path, data: bytes) -> None:
    (victim / LAST / "networks.safetensors").write_bytes(data)
    restate(victim / LAST)
    refused("step-000000006", "refused, since it holds something else than tensors")


# -- config.yaml ----------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
CONFIGS = {
    "a tag that runs a command": ("variant: !!python/object/apply:os.mkdir [exploded]", "python/object/apply"),
    "a tag that makes an object": ("variant: tiny-gan\nlr: !!python/name:os.system", "python/name"),
    "a tag of its own": ("variant: !Bomb {path: exploded}", "!Bomb"),
    "a billion laughs": (f"variant: tiny-gan\n{LAUGHS}batch: *a11", "aliases are not read here"),
    "a mapping that holds itself": ("variant: tiny-gan\nlr: &a [*a]", "aliases are not read here"),
    "deep nesting": ("variant: tiny-gan\nlr: " + "[" * 1_000, "cannot be read"),
    "a day that is none": ("variant: tiny-gan\nlr: 2026-99-99", "cannot be read"),
    "a number of thousands of digits": ("variant: tiny-gan\nseed: " + "9" * 9000, ""),
    "an option stated twice": ("variant: tiny-gan\nlr: 1\nlr: 2", "stated twice"),
    "code to load": ("variant: tiny-gan\nplugin: exploded.py", "--plugin belongs on the command line"),
    "another file of options": ("variant: tiny-gan\nconfig: exploded.yaml", "--config belongs on the command line"),
    "a list for a variant": ("variant: [tiny-gan]", ""),
    "no mapping": ("- variant", "it holds a list"),
    "nothing": ("", "cannot be read"),
    "no text": ("\x00\x01", "cannot be read"),
}


@pytest.mark.parametrize("case", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_is_no_config(
    go: Go, victim: Path, tree: Any, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str]
) -> None:
    monkeypatch.chdir(victim.parent)
    (victim / "config.yaml").write_text(case[0])
    before = tree(victim.parent)
    for command in (("resume", victim, "--max-steps", 7), ("sample", victim, "--out", "pictures")):
        done = go(*command)
        assert done.status == 2, done.out
        assert "Traceback" not in done.err
        assert case[1] in " ".join(done.err.split())
        assert len(done.err) < 20_000
        assert tree(victim.parent) == before


def test_what_a_config_needs_is_still_read() -> None:
    text = "a: 1\nb: [0.5, 0.9]\nc: {d: 1e-3, e: null}\nf: true\ng: 2026-11-22\n"
    assert parse_yaml(text)["c"] == {"d": "1e-3", "e": None}


# -- links and things that are no files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.jsonl", "notes.jsonl", "environment.json", "config.yaml"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_file(refused: Any, victim: Path, name: str, there: bool) -> None:
    outside = victim.parent / "outside"
    content = (victim / name).read_text()
    (victim / name).unlink()
    if there:
        outside.write_text(content)
    (victim / name).symlink_to(outside)
    refused("" if name == "config.yaml" and not there else f"{name}: expected a file of the run's own, got a link")


@pytest.mark.parametrize("name", ["checkpoints", "samples"])
def test_a_link_in_place_of_a_folder(refused: Any, victim: Path, name: str) -> None:
    (victim / name).rename(victim.parent / "outside")
    (victim / name).symlink_to("../outside", target_is_directory=True)
    refused(f"{name}: expected a folder of the run's own, got a link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of Unix")
@pytest.mark.parametrize("name", ["log.jsonl", f"{LAST}/meta.json", f"{LAST}/state.pt", f"{LAST}/networks.safetensors"])
def test_a_pipe_is_not_waited_for(go: Go, victim: Path, name: str) -> None:
    (victim / name).unlink()
    os.mkfifo(victim / name)
    done = go("resume", victim, "--max-steps", 7)
    assert done.status == 2
    assert "got a link or something else" in done.err or "got something else" in done.err


@pytest.mark.parametrize("name", ["meta.json", "state.pt", "networks.safetensors"])
def test_a_link_in_a_checkpoint(refused: Any, victim: Path, name: str) -> None:
    (victim / LAST / name).unlink()
    (victim / LAST / name).symlink_to("/dev/zero")  # to read it would never end
    refused(f"{name} is refused: expected a file, got a link")
