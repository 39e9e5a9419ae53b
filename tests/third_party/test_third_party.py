"""A stranger's view: wheels of ours and of theirs in a fresh environment, used from the command line alone."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = Path(__file__).parent / "distributions"
THEIRS = ("dots", "broken", "future", "clash")
OTHERS = sorted({point.name for point in importlib.metadata.entry_points(group="ganengine")} - {"pix2pix"})
"""Plugins that happen to be installed beside the tests; they play no part here."""
FAULTY = ("broken", "future", "clash")
BUILD_TOOLS = ("pip", "setuptools", "wheel")
SMALL = ("--threads", "1", "--precision", "fp32")

Result = subprocess.CompletedProcess[str]
Command = Callable[..., Result]

# By metadata: looking pip up as a module switches setuptools' own distutils off for the whole process.
installed = {distribution.name for distribution in importlib.metadata.distributions()}
missing = [tool for tool in BUILD_TOOLS if tool not in installed]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"wheels cannot be built here: no {', '.join(missing)}")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has our wheels and theirs, and this one's torch, numpy and so on."""
    place = tmp_path_factory.mktemp("environment")
    sources = [copy_source(ROOT, place / "ganengine")]
    sources += [copy_source(ROOT / "plugins" / "ganengine-pix2pix", place / "ganengine-pix2pix")]
    sources += [copy_source(DISTRIBUTIONS / name, place / name) for name in THEIRS]
    wheels = place / "wheels"
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, *sources)
    venv.create(place / "venv", with_pip=False)
    scripts = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    fresh = scripts / "python"
    pip("--python", fresh, "install", "--no-index", "--no-deps", *sorted(wheels.glob("*.whl")))
    site = sysconfig.get_path("purelib", vars={"base": str(place / "venv"), "platbase": str(place / "venv")})
    # After the installation, or pip would take our own development copies for installed ones. A .pth file adds folders
    # behind the environment's own, and does not read the .pth files in them.
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(site, "borrowed.pth").write_text("\n".join(here) + "\n")
    return fresh


def copy_source(source: Path, target: Path) -> Path:
    """Copy what a distribution is built from: building leaves folders behind, and old ones would get into the wheel."""
    target.mkdir()
    for name in ("ganengine", "csrc", "src"):
        if (source / name).is_dir():
            waste = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
            shutil.copytree(source / name, target / name, ignore=waste)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, target)
    return target


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GANENGINE_"))}
    return {**inherited, "GANENGINE_BLOCK": ",".join(OTHERS), "GANENGINE_BUILD": "off", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all commands are run in."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def ganengine(python: Path, folder: Path) -> Command:
    """Run the installed command: ganengine("run", "dots", status=0, **environment variables)."""

    def command(*arguments: str, status: int = 0, **variables: str) -> Result:
        script = python.with_name("ganengine")
        done = subprocess.run(
            [str(script), *arguments],
            cwd=folder,
            env=environment() | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return command


def test_the_engine_comes_from_its_wheel(python: Path, folder: Path) -> None:
    code = "import ganengine, ganengine_pix2pix as ours; print(ganengine.__file__, ours.__file__)"
    done = subprocess.run([str(python), "-c", code], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(str(python.parents[1]) in path for path in done.stdout.split()), done.stdout


def test_list_shows_ours_and_theirs_and_nothing_of_what_is_left_out(ganengine: Command) -> None:
    listed = json.loads(ganengine("list", "--json").stdout)
    variants = {entry["name"]: entry["distribution"] for entry in listed["variants"]}
    assert variants == {"dots": "ganengine-dots", "pix2pix": "ganengine-pix2pix"}
    sources = {entry["name"] for entry in listed["data_sources"]}
    assert "dots" in sources
    assert "clashing" not in sources
    assert listed["faults"] == len(FAULTY)
    shown = ganengine("list").stdout
    assert "dots" in shown
    assert "3 plugin(s) left out" in shown
    assert "draw-dots" in ganengine("--help").stdout


def test_info_tells_of_their_variant(ganengine: Command) -> None:
    info = json.loads(ganengine("info", "dots", "--json").stdout)
    options = {option["name"]: option for option in info["options"]}
    assert options["z-dim"]["default"] == 16
    assert options["z-dim"]["help"] == "Numbers that a picture is made from."
    assert info["presets"]["slow"]["d-lr"] == 1e-4
    assert "--z-dim" in ganengine("info", "dots").stdout


def test_doctor_names_every_fault_with_reason_and_remedy(ganengine: Command) -> None:
    found = json.loads(ganengine("plugins", "doctor", "--json", status=1).stdout)
    assert {plugin["name"] for plugin in found["plugins"]} == {"builtin", "dots", "pix2pix"}
    faults = {fault["distribution"]: fault for fault in found["faults"]}
    assert set(faults) == {f"ganengine-{name}" for name in FAULTY}
    assert all(fault["version"] == "0.1.0" and fault["remedy"] for fault in faults.values())
    assert "a_module_that_is_not_installed" in faults["ganengine-broken"]["reason"]
    assert "API 2" in faults["ganengine-future"]["reason"]
    assert faults["ganengine-future"]["remedy"] == "Upgrade ganengine."
    # Its entry point sorts before pix2pix, which keeps its name all the same.
    assert '"pix2pix" is already taken by plugin pix2pix (ganengine-pix2pix' in faults["ganengine-clash"]["reason"]
    shown = ganengine("plugins", "doctor", status=1).stdout
    for fault in faults.values():
        assert fault["distribution"] in shown
        assert fault["reason"] in shown
        assert fault["remedy"] in shown


def test_block_and_strict(ganengine: Command) -> None:
    blocked = ganengine(
        "plugins", "doctor", GANENGINE_BLOCK=", ".join(["ganengine-broken", "future,clash", *OTHERS])
    ).stdout
    assert "LEFT OUT" not in blocked
    assert blocked.count("blocked") == 3 + len(OTHERS)
    strict = ganengine("list", status=2, GANENGINE_STRICT_PLUGINS="1")
    assert strict.stdout == ""
    assert all(f"ganengine-{name}" in strict.stderr for name in FAULTY)


def test_their_variant_trains_goes_on_and_draws(ganengine: Command, folder: Path) -> None:
    ganengine("run", "dots", "--max-steps", "3", "--tick-every", "1", "--out", "made", *SMALL)
    assert (folder / "made" / "progress.txt").read_text().startswith("48 pictures shown: ")  # their observer
    ganengine("resume", "made", "--max-steps", "5")
    assert (folder / "made" / "progress.txt").read_text().startswith("80 pictures shown: ")
    log = [json.loads(line) for line in (folder / "made" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    ganengine("sample", "made", "--n", "4", "--separate", "--out", "drawn")
    pictures = sorted((folder / "drawn").iterdir())
    assert [path.name for path in pictures] == [f"{number:06d}.png" for number in range(4)]
    drawn = [np.asarray(Image.open(io.BytesIO(path.read_bytes()))) for path in pictures]
    assert {picture.shape for picture in drawn} == {(16, 16)}
    assert len({picture.tobytes() for picture in drawn}) == 4


def test_their_data_source_is_refused_where_it_lacks_a_field(ganengine: Command, folder: Path) -> None:
    refused = ganengine("run", "pix2pix", "dots:20", "--out", "no", status=2).stderr
    assert "needs A, B" in refused
    assert "dots gives real" in refused
    assert not (folder / "no").exists()


def test_their_command_runs(ganengine: Command, folder: Path) -> None:
    assert ganengine("draw-dots", "pictures", "2").stdout == "2 pictures in pictures\n"
    assert len(list((folder / "pictures").glob("*.png"))) == 2
    assert "expected FOLDER [COUNT]" in ganengine("draw-dots", status=2).stderr


def test_pix2pix_still_trains(ganengine: Command, folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "pairs").mkdir()
    for number in range(2):
        pixels = random.integers(0, 256, (16, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pairs" / f"{number}.png")
    small = ("--batch", "2", "--g-filters", "2", "--d-filters", "2", "--receptive-field", "16", "--max-steps", "1")
    ganengine("run", "pix2pix", "pairs", *small, *SMALL)
    assert (folder / "runs" / "pix2pix" / "checkpoints" / "step-000000001").is_dir()
