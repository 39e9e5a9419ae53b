"""`ganengine plugins new`: what it writes is whole, clean, keeps the contract and trains; wrong use leaves nothing."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ganengine.commands.new import LONGEST_NAME, NAME, SUMMARY, TEMPLATE
from ganengine.plugins import add_path, registry
from ganengine.testing import check_variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
FILES = {
    ".github/workflows/test.yml",
    ".gitignore",
    "README.md",
    "pyproject.toml",
    *(f"src/ganengine_noise_2/{name}.py" for name in ("__init__", "plugin", "config", "networks", "losses")),
    *(f"src/ganengine_noise_2/{name}.py" for name in ("schedule", "views", "data")),
    "src/ganengine_noise_2/py.typed",
    "tests/test_noise_2.py",
}
LONG = "abcdefg-" * 4 + "abcdefgh"


@pytest.fixture
def made(tmp_path: Path, go: Callable[..., Any]) -> Path:
    """Return what `ganengine plugins new noise-2` writes."""
    assert go("plugins", "new", "noise-2", "--out", tmp_path, "--summary", "Noise, 100% {pure}.").status == 0
    return tmp_path / "ganengine-noise-2"


@pytest.fixture
def added(made: Path) -> Iterator[Path]:
    """Add it as a plugin for one test."""
    before, path = set(sys.modules), sys.path[:]
    add_path(made)
    yield made
    registry.cache_clear()
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("ganengine_noise_2"):
            del sys.modules[name]


def texts(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def process(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MYPYPATH": str(ROOT)}
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_commands_to_go_on_with_name_the_plugin(made: Path, go: Callable[..., Any]) -> None:
    """As they are printed and as the report has them; without it a run's variant is not there, which says what is."""

    def ganengine(*words: str) -> subprocess.CompletedProcess[str]:
        return process(sys.executable, "-m", "ganengine", *words, cwd=made.parent)

    plugin = ["--plugin", made.name]
    done = ganengine("run", "noise-2", *plugin, "--max-steps", "1", "--preview", "0", "--threads", "1", "--out", "made")
    assert done.returncode == 0, done.stderr
    (resume,) = (line.partition("ganengine ")[2] for line in done.stdout.splitlines() if "ganengine resume" in line)
    assert resume.startswith(f"resume made --plugin {made.name} ")
    again = ganengine(*resume.split())
    assert again.returncode == 0, again.stderr
    assert go("report", made.parent / "made").status == 0
    assert f"ganengine sample {made.parent / 'made'} --plugin {made}" in (
        made.parent / "made" / "report.html"
    ).read_text("utf-8")
    alone = ganengine("sample", "made")
    assert alone.returncode == 2
    assert f"This run was made with --plugin {made}: state that again." in alone.stderr


def test_it_writes_every_file_and_nothing_else(made: Path) -> None:
    written = texts(made)
    assert set(written) == FILES
    assert [path.name for path in made.parent.iterdir()] == ["ganengine-noise-2"]
    for name, text in written.items():
        assert not re.search(r"my.?gan", name + text, re.IGNORECASE), name
        assert SUMMARY not in text, name
        assert text.isascii(), name
    project = tomllib.loads(written["pyproject.toml"])
    assert project["project"]["name"] == "ganengine-noise-2"
    assert project["project"]["description"] == "Noise, 100% {pure}."
    assert project["project"]["entry-points"] == {"ganengine": {"noise-2": "ganengine_noise_2.plugin"}}
    assert "Noise, 100% {pure}." in written["README.md"]


def test_the_template_is_what_comes_of_its_own_name(tmp_path: Path, go: Callable[..., Any]) -> None:
    assert go("plugins", "new", NAME, "--out", tmp_path).status == 0
    template = {name.removesuffix(".txt"): text for name, text in texts(TEMPLATE).items()}
    assert texts(tmp_path / f"ganengine-{NAME}") == template


def test_the_wheel_takes_every_file_of_the_template() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["ganengine"]
    taken = {path for pattern in patterns for path in glob.glob(pattern, root_dir=ROOT / "ganengine", recursive=True)}
    assert {f"template/{name}" for name in texts(TEMPLATE)} <= taken


def test_it_passes_its_own_tests_and_so_the_conformance_kit(added: Path) -> None:
    assert registry().variant("noise-2").summary == "Noise, 100% {pure}."
    spec = importlib.util.spec_from_file_location("ganengine_noise_2_test", added / "tests" / "test_noise_2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.check_variant is check_variant
    tests = [name for name in vars(module) if name.startswith("test_")]
    assert tests == ["test_noise_2_keeps_the_contract", "test_losses_by_hand"]
    for name in tests:
        getattr(module, name)()


def test_it_trains_with_no_other_word(made: Path, tmp_path: Path, go: Callable[..., Any], added: Path) -> None:
    run = tmp_path / "run"
    done = go("run", "noise-2", "--threads", "1", "--max-steps", "2", "--tick-every", "1", "--out", run)
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"d.d", "g.g"} <= set(lines[-1]["loss"])
    assert go("sample", run, "--n", "4").status == 0
    (sheet,) = (run / "drawn").glob("*.png")
    with Image.open(sheet) as picture:
        assert min(picture.size) >= 2 * 32  # a sheet of 2 x 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--size", "20"), "--size: expected a multiple of 8, got 20. Take 16"),
        (("noise-2-discs:9",), 'the discs: expected no argument, got "9"'),
    ],
)
def test_its_own_errors(
    argv: tuple[str, ...], message: str, made: Path, tmp_path: Path, go: Callable[..., Any], added: Path
) -> None:
    done = go("run", "noise-2", *argv, "--threads", "1", "--max-steps", "1", "--out", tmp_path / "run")
    assert (done.status, done.out) == (2, "")
    assert message in " ".join(done.err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["a", pytest.param(LONG, marks=pytest.mark.quality)])
def test_it_is_clean_at_the_shortest_and_the_longest_name(name: str, tmp_path: Path, go: Callable[..., Any]) -> None:
    assert len(LONG) == LONGEST_NAME
    assert go("plugins", "new", name, "--out", tmp_path, "--summary", "s" * 80).status == 0
    checks = [("ruff", "check", "--no-cache", "."), ("ruff", "format", "--no-cache", "--check", ".")]
    if name == LONG:
        # What it knows of torch by our own types' check is kept, or this takes half a minute.
        checks.append(("mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(ROOT / ".mypy_cache")))
    missing = sorted({tool for tool, *_ in checks if importlib.util.find_spec(tool) is None})
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    for command in checks:
        done = process(sys.executable, "-m", *command, cwd=tmp_path / f"ganengine-{name}")
        assert done.returncode == 0, done.stdout + done.stderr


def test_json(tmp_path: Path, go: Callable[..., Any]) -> None:
    done = go("plugins", "new", "noise-2", "--out", tmp_path / "deep" / "down", "--json")
    folder = tmp_path / "deep" / "down" / "ganengine-noise-2"
    record = {"schema": 1, "variant": "noise-2", "folder": str(folder), "files": sorted(FILES)}
    assert (done.status, json.loads(done.out)) == (0, record)


def test_help_and_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[..., Any]) -> None:
    monkeypatch.chdir(tmp_path)
    assert "new NAME [--out DIR] [--summary TEXT]" in go("plugins", "--help").out
    said = go("plugins", "new", "noise-2", "--out", "my plugins").out
    assert "pip install -e 'my plugins/ganengine-noise-2'" in said
    assert "ganengine run noise-2" in said


KEBAB = "name: expected small letters and digits, a letter first"
WRONG: list[tuple[tuple[str, ...], str]] = [
    ((), "Missing from ganengine plugins new: STR Name of the variant"),
    (("",), "expected words that are not empty"),
    (("My-Gan",), f'{KEBAB}, with single hyphens between words, as in my-gan; got "My-Gan"'),
    (("my_gan",), KEBAB),
    (("my gan",), KEBAB),
    (("2-gan",), KEBAB),
    (("gan-",), KEBAB),
    (("my--gan",), KEBAB),
    (("gan\n",), KEBAB),
    (("g\u00e4n",), KEBAB),
    (("../gan",), KEBAB),
    ((LONG + "i",), "name: expected at most 40 characters, got 41. Shorten it"),
    (("pix2pix",), 'name: expected one that is free; "pix2pix" is a variant of '),
    (("taken",), "ganengine-taken: expected a name that is free; it exists"),
    (("broken-link",), "ganengine-broken-link: expected a name that is free; it exists"),
    (("noise-2", "--out", "file"), "--out file: expected a folder to write to; File exists. Choose another"),
    (("noise-2", "--out", "file/below"), "--out file/below: expected a folder to write to; Not a directory"),
    (("noise-2", "--summary", " "), "--summary: expected a sentence of 1 to 80 characters, got 1"),
    (("noise-2", "--summary", "s" * 81), "--summary: expected a sentence of 1 to 80 characters, got 81"),
    (("noise-2", "--summary", "two\nlines"), "--summary: expected one line"),
    (("noise-2", "--summary", 'a "quote"'), '--summary: expected one line without " or \\'),
    (("noise-2", "--summary", "back\\slash"), '--summary: expected one line without " or \\'),
    (("noise-2", "more"), "Unrecognized options: more"),
]


@pytest.mark.parametrize(("argv", "message"), WRONG, ids=[" ".join(argv)[:40] or "nothing" for argv, _ in WRONG])
def test_wrong_use(
    argv: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    go: Callable[..., Any],
    tree: Callable[[Path], dict[str, object]],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ganengine-taken").mkdir()
    Path("ganengine-broken-link").symlink_to("nowhere")
    Path("file").write_text("")
    before = tree(tmp_path)
    done = go("plugins", "new", *argv)
    assert (done.status, done.out) == (2, "")
    told = re.sub(r"[\u2500-\u257f]|-{5,}", " ", done.err)  # without the parser's frame
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert tree(tmp_path) == before


@pytest.mark.parametrize("below", [(), ("deep", "there")])
def test_nothing_is_left_where_the_disk_is_full(
    below: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[..., Any]
) -> None:
    write_text, written = Path.write_text, []

    def until_full(path: Path, *args: Any, **options: Any) -> int:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device", str(path))
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", until_full)
    out = tmp_path.joinpath(*below)
    done = go("plugins", "new", "noise-2", "--out", out)
    assert done.status == 2
    assert done.err == (f"ganengine plugins: {out / 'ganengine-noise-2'} cannot be written: No space left on device.\n")
    assert len(written) == 5
    assert list(tmp_path.iterdir()) == []


def test_no_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from ganengine.cli import main; status = main(['plugins', 'new', 'noise-2']); "
        "main(['plugins', '--help']); sys.exit(status or 'torch' in sys.modules)"
    )
    done = process(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "ganengine-noise-2").is_dir()
