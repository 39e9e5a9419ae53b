"""Any word, any YAML, any bytes: an answer, never a traceback, and nothing left behind."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ganengine import checkpoint
from ganengine.commands import evaluate, report, sample, translate
from ganengine.config import Budget, RunOptions
from ganengine.errors import CheckpointError
from ganengine.plugins import registry

from .conftest import Go, Tree, tree

HELP = {"-h", "--help"}
WORD = st.sampled_from(
    ["", "0", "-1", "1.5", "1e999", "nan", "true", "None", "[]", "{}", "--", "-", "a b", "\u00e4", "../..", "x" * 300]
) | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
WORDS = st.lists(WORD, max_size=3).filter(lambda words: not HELP & set(words))
FEW = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=40)


def flags(*forms: Any) -> list[str]:
    return sorted({f"--{f.name.replace('_', '-')}" for form in forms for f in dataclasses.fields(form)})


COMMANDS = {
    "resume nowhere": flags(Budget),
    "sample nowhere": flags(sample._Options),
    "translate nowhere in there": flags(translate._Options),
    "eval nowhere": flags(evaluate._Options),
    "report nowhere": flags(report._Options),
}


@pytest.mark.parametrize("command", COMMANDS)
@FEW
@given(data=st.data())
def test_any_value_of_any_option(command: str, wrong: Callable[..., str], data: st.DataObject) -> None:
    flag = data.draw(st.sampled_from([*COMMANDS[command], "--json", "--no-flip", "--nothing"]))
    wrong(command, flag, *data.draw(WORDS))  # one that fits still meets the run that is not there


@FEW
@given(data=st.data())
def test_any_value_of_any_option_of_run(wrong: Callable[..., str], data: st.DataObject) -> None:
    known = flags(RunOptions, registry().variant("pix2pix").config)
    wrong("run pix2pix nowhere", data.draw(st.sampled_from(known)), *data.draw(WORDS))


NAMES = st.sampled_from(["batch", "betas", "flip", "lr", "arm", "data", "variant", "device", "out", "lambda_l1", "3"])
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
)
VALUE = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3), max_leaves=6
)
DOCUMENT = st.dictionaries(NAMES | st.text(max_size=8), VALUE, max_size=4) | VALUE


def write(wrong: Callable[..., str], file: Path, content: bytes, line: str) -> str:
    """Run a line that must be refused beside a file that is written before and taken away after it."""
    file.write_bytes(content)
    try:
        return wrong(line)
    finally:
        file.unlink()


@MANY
@given(document=DOCUMENT)
def test_any_document_as_a_file_of_options(document: Any, wrong: Callable[..., str], place: Path) -> None:
    if isinstance(document, dict) and document.get("out") is not None:
        del document["out"]
    text = yaml.safe_dump(document, allow_unicode=True)
    write(wrong, place / "any.yaml", text.encode("utf-8", "surrogatepass"), "run pix2pix nowhere --config any.yaml")


@MANY
@given(text=st.binary(max_size=60) | st.text("abz:-?[]{}&*!|>'\"%@`#,. \n\t0159~<", max_size=40).map(str.encode))
def test_any_bytes_as_a_file_of_options(text: bytes, wrong: Callable[..., str], place: Path) -> None:
    write(wrong, place / "any.yaml", text, "run pix2pix nowhere --config any.yaml")


@FEW
@given(document=DOCUMENT)
def test_any_document_as_the_options_of_a_run(document: Any, wrong: Callable[..., str], place: Path) -> None:
    if isinstance(document, dict):
        document = {**document, "variant": "pix2pix"}
    text = yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
    for command in ("resume", "sample"):
        write(wrong, place / "bare" / "config.yaml", text, f"{command} bare")


def torn(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return bytes that were cut off, or changed in a few places."""
    places = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6)

    def tear(end: int, changes: list[tuple[int, int]]) -> bytes:
        damaged = bytearray(whole)
        for place, value in changes:
            damaged[place] = value
        return bytes(damaged[:end])

    return st.builds(tear, st.integers(0, len(whole)), places)


def picture() -> bytes:
    memory = io.BytesIO()
    Image.effect_noise((16, 8), 60).save(memory, "PNG")
    return memory.getvalue()


def archive() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("0.png", picture())
    return memory.getvalue()


def saved(value: Any) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory)
    return memory.getvalue()


PICTURE, ARCHIVE, WEIGHTS = picture(), archive(), saved({"features.0.weight": torch.zeros(2, 3)})
STATE = saved({"position": {"step": 3}, "rng": torch.arange(3)})


@MANY
@given(file=st.tuples(st.just("any/0.png"), torn(PICTURE)) | st.tuples(st.just("any.zip"), torn(ARCHIVE)))
def test_any_bytes_as_pictures_and_archives(
    file: tuple[str, bytes], tmp_path: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content = file
    (tmp_path / "any").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(content)
    before: Tree = tree(tmp_path)
    done = go("data", "inspect", "any.zip" if path.suffix == ".zip" else "any")
    assert done.status in (0, 1, 2)
    assert (done.status == 2) == (done.out == "")
    assert "Traceback" not in done.err
    assert tree(tmp_path) == before
    path.unlink()


@MANY
@given(content=st.binary(max_size=80) | torn(WEIGHTS))
def test_any_bytes_as_weights(content: bytes, wrong: Callable[..., str], place: Path) -> None:
    write(wrong, place / "any.pth", content, "import pix2pix any.pth --out made")


@MANY
@given(networks=st.binary(max_size=80), state=st.binary(max_size=80) | torn(STATE), meta=VALUE)
def test_any_bytes_as_a_checkpoint(networks: bytes, state: bytes, meta: Any, tmp_path: Path) -> None:
    """With checksums that are right, as a hostile file would have them."""
    content = {"networks.safetensors": networks, "state.pt": state}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    record = {"format": 1, "step": 3, "sha256": digests, "more": str(meta)}
    (tmp_path / "meta.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError):
        checkpoint.read(tmp_path)


@FEW
@given(words=st.lists(WORD, min_size=1, max_size=4).filter(lambda words: words[0] and not HELP & set(words)))
def test_any_words_as_a_command(words: list[str], wrong: Callable[..., str]) -> None:
    wrong("no-such-command", *words)
    wrong("data", f"x{words[0]}", *words)
    wrong("plugins", f"x{words[0]}", *words)
    wrong("bench", f"x{words[0]}", *words)
