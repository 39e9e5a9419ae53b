"""`ganengine doctor`: what it tells agrees with what is asked a second time, and it says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from ganengine import ops
from ganengine.commands import doctor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Go = Callable[..., Any]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def found(go: Go) -> Any:
    """Return what `doctor --json` prints."""
    done = go("doctor", "--json")
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out)


def test_it_tells_all_that_it_promises(found: dict[str, Any]) -> None:
    assert found["schema"] == 1
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["devices"]["cpu"]
    assert found["threads"]["torch has now"] == torch.get_num_threads()
    assert found["threads"]["a run takes"] == found["cores"] >= 1
    assert {"conditional_batch_norm on cpu", "patchgan_loss on cpu", "maxout on cuda"} <= set(found["kernels"])
    assert all(found["kernels"].values())
    assert all(set(path) == {"used", "what"} and path["what"] for path in found["fast_paths"].values())
    assert set(found["extras"]) == set(doctor.EXTRAS)


def test_fast_paths_agree_with_torch_and_the_kernels(found: dict[str, Any]) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compiled = any(kernel.compiled for kernel in ops.kernels() if kernel.device == device)
    assert found["fast_paths"]["fused ops"]["used"] == compiled
    if device == "cpu":
        assert found["fast_paths"]["bfloat16"]["used"] == (found["precision_auto"]["cpu"] == "bf16")
        if compiled:  # torch's own kernels need no more of a set than ours
            sets = {"DEFAULT": 0, "AVX2": 1, "AVX512": 2}
            mine = torch.ops.ganengine.best_isa()
            assert found["fast_paths"]["fused ops"]["what"].endswith(doctor.INSTRUCTION_SETS[mine])
            assert mine >= sets.get(found["cpu_capability"], 0)
    assert "Adam" in found["fast_paths"]["fused optimizers"]["what"]


def test_without_kernels_it_says_why(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("conditional_batch_norm", "patchgan_loss", "maxout")
    kernels = tuple(ops.Kernel(op, device, False, ("no compiler",)) for op in names for device in ("cpu", "cuda"))
    monkeypatch.setattr(ops, "kernels", lambda: kernels)
    found = json.loads(go("doctor", "--json").out)
    assert found["fast_paths"]["fused ops"] == {
        "used": False,
        "what": "the PyTorch references run; the reasons stand under kernels",
    }
    assert found["kernels"]["maxout on cpu"] == "no compiler"


def test_kernels_that_the_environment_switches_off_are_not_in_use(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANENGINE_OPS", "reference")
    path = json.loads(go("doctor", "--json").out)["fast_paths"]["fused ops"]
    assert path == {"used": False, "what": "the PyTorch references run: GANENGINE_OPS=reference"}


@pytest.mark.parametrize(("name", "value"), [("GANENGINE_OPS", "fusd"), ("GANENGINE_ALLOCATOR", "mine")])
def test_a_variable_that_others_refuse_is_a_fault_beside_the_rest(name: str, value: str) -> None:
    environment = {**os.environ, name: value}
    command = [sys.executable, "-m", "ganengine", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert set(found["faults"]) == {name}
    assert found["faults"][name].startswith(f"{name}: expected ")
    assert value in found["faults"][name]
    assert found["fast_paths"]
    assert found["kernels"]


def test_room_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    told = doctor.room(tmp_path / "not" / "there" / "yet")
    assert told["path"].endswith("yet")
    assert told["free_gb"] == pytest.approx(shutil.disk_usage(tmp_path).free / 1e9, abs=1)
    assert not list(tmp_path.iterdir())


def test_the_cache_is_where_the_environment_puts_it(go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANENGINE_CACHE", str(tmp_path / "mine"))
    found = json.loads(go("doctor", "--json").out)
    assert found["disk"]["cache"]["path"] == found["variables"]["GANENGINE_CACHE"] == str(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_every_extra_has_its_purpose() -> None:
    stated = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(stated)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [
        "torch>=2.13",
        'no-such-package>=3; extra == "report"',
        "torch>=2; python_version > '3' and extra == 'test'",
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    extras = doctor.extras()
    assert extras["report"]["missing"] == ["no-such-package"]
    assert extras["test"]["missing"] == extras["dev"]["missing"] == []
    told = go("doctor").out
    assert "no-such-package missing; pip install 'ganengine[report]'" in told
    assert re.search(r"test +for running the tests: installed", told)


def test_a_tree_that_is_not_installed_has_no_extras_to_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", unknown)
    assert all(extra["missing"] == [] for extra in doctor.extras().values())


def test_in_words(go: Go) -> None:
    done = go("doctor")
    assert done.status == 0
    for told in ("versions:", "devices:", "fast paths:", "disk:", " GB free (", "extras:", "kernels:"):
        assert told in done.out
    assert "{" not in done.out
