"""What an installation does with csrc/: with a compiler, without, with one that fails, and when asked to leave it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from ganengine import ops
from ganengine.ops import library

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no source tree: the package is installed alone")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a build needs, with the smallest of kernels."""
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("common", "null"):
        shutil.copytree(ROOT / "csrc" / folder, tmp_path / "csrc" / folder)
    for name in ("backend.py", "module.cpp"):
        shutil.copy(ROOT / "csrc" / name, tmp_path / "csrc" / name)
    (tmp_path / "ganengine").mkdir()
    (tmp_path / "ganengine" / "__init__.py").touch()
    return tmp_path


def setup(tree: Path, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run setup.py in the tree; None takes a variable away."""
    clean = {k: v for k, v in os.environ.items() if k not in ("GANENGINE_BUILD", "GANENGINE_CUDA", "CXX", "PYTHONPATH")}
    # Without nvcc: .ci/wheels compiles the CUDA side.
    merged = {**clean, "CUDA_HOME": str(tree / "no-toolkit"), **environment}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", *arguments],
        cwd=tree,
        env={k: v for k, v in merged.items() if v is not None},
        capture_output=True,
        text=True,
        check=False,
    )


def record(tree: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((tree / "ganengine" / "_build.json").read_text())
    return content


def failing_compiler(folder: Path) -> str:
    compiler = folder / "broken++"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: error: this compiler is broken' >&2\nexit 1\n")
    compiler.chmod(0o755)
    return str(compiler)


def hasty_compiler(folder: Path) -> str:
    """A compiler that finds every source empty: where the headers of torch are not what is looked at."""
    compiler = folder / "hasty++"
    real = shutil.which("g++") or shutil.which("clang++")
    each = 'case "$word" in csrc/*.cpp) word="-xc++ /dev/null" ;; esac'
    compiler.write_text(f'#!/bin/sh\nwords=\nfor word; do {each}; words="$words $word"; done\nexec {real} $words\n')
    compiler.chmod(0o755)
    return str(compiler)


def failing_toolkit(folder: Path) -> str:
    """A CUDA toolkit that knows an architecture and compiles nothing."""
    nvcc = folder / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    knows = '[ "$1" = --list-gpu-code ] && { echo sm_90; exit 0; }'
    nvcc.write_text(f"#!/bin/sh\n{knows}\necho 'x.cu:1: error: this nvcc is broken' >&2\nexit 1\n")
    nvcc.chmod(0o755)
    return str(nvcc.parents[1])


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_compiles_loads_and_compiles_again_only_what_changed(tree: Path) -> None:
    done = setup(tree, "build_ext", "--inplace", GANENGINE_BUILD="require")
    assert done.returncode == 0, done.stderr
    content = record(tree)
    assert content["built"]
    assert content["reason"] is None
    built = library.find(tree / "ganengine")
    assert built is not None
    load = (
        "import sys, torch; from ganengine.ops import null; torch.ops.load_library(sys.argv[1]);"
        "x = torch.arange(6.0).view(2, 3).t().requires_grad_(); y = null.null(x); y.sum().backward();"
        "print(y.tolist() == x.tolist(), y.is_contiguous(), x.grad.sum().item(),"
        " torch._C._dispatch_has_kernel_for_dispatch_key('ganengine::null', torch._C.DispatchKey.CPU))"
    )
    result = subprocess.run(
        [sys.executable, "-c", load, str(built)],
        env={**os.environ, "GANENGINE_OPS": "reference", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["True", "True", "6.0", "True"], result.stderr
    if shutil.which("ninja"):
        objects = {p: p.stat().st_mtime_ns for p in (tree / "build").rglob("*_cpu.cpp.o")}
        assert setup(tree, "build_ext", "--inplace", GANENGINE_BUILD="require").returncode == 0
        assert {p: p.stat().st_mtime_ns for p in objects} == objects


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_without_the_cuda_kernels_those_for_the_cpu_stay(tree: Path) -> None:
    compiler = hasty_compiler(tree)

    def reason(**environment: str) -> str:
        done = setup(tree, "build_ext", "--inplace", CXX=compiler, **environment)
        assert done.returncode == 0, done.stderr
        content = record(tree)
        assert content["built"]
        assert library.find(tree / "ganengine") is not None
        cuda = content["cuda"]
        assert isinstance(cuda, dict)
        assert not cuda["built"]
        return str(cuda["reason"])

    toolkit = failing_toolkit(tree)
    assert reason() == "no nvcc when the kernels were built: install the CUDA toolkit or set CUDA_HOME"
    assert reason(CUDA_HOME=toolkit).endswith("failed: x.cu:1: error: this nvcc is broken")
    assert reason(CUDA_HOME=toolkit, GANENGINE_CUDA="0") == "GANENGINE_CUDA=0 when the kernels were built"
    done = setup(tree, "build_ext", "--inplace", CUDA_HOME=toolkit, CXX=compiler, GANENGINE_BUILD="require")
    assert done.returncode != 0
    assert "this nvcc is broken" in done.stderr


def test_off_removes_what_an_earlier_build_left(tree: Path) -> None:
    stale = tree / "ganengine" / "_C.abi3.so"
    stale.write_bytes(b"stale")
    assert setup(tree, "build_ext", "--inplace", GANENGINE_BUILD="off").returncode == 0
    assert not stale.exists()
    assert record(tree) == {"schema": 1, "built": False, "reason": "GANENGINE_BUILD=off"}


def test_without_a_compiler_the_package_installs(tree: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "empty"
    nothing.mkdir()
    done = setup(tree, "build_ext", "--inplace", PATH=str(nothing))
    assert done.returncode == 0
    assert record(tree)["reason"] == "no C++ compiler: install g++ or clang++, or set CXX"
    assert "kernels are not built" in done.stderr


def test_a_failing_compiler_is_a_reason_or_with_require_an_error(tree: Path, tmp_path: Path) -> None:
    (tree / "ganengine" / "_C.abi3.so").write_bytes(b"stale")
    compiler = failing_compiler(tmp_path)
    assert setup(tree, "build_ext", "--inplace", CXX=compiler).returncode == 0
    assert not (tree / "ganengine" / "_C.abi3.so").exists()
    assert "this compiler is broken" in str(record(tree)["reason"])
    done = setup(tree, "build_ext", "--inplace", CXX=compiler, GANENGINE_BUILD="require")
    assert done.returncode != 0
    assert "kernels could not be built" in done.stderr


def test_unknown_choice(tree: Path) -> None:
    done = setup(tree, "build_ext", "--inplace", GANENGINE_BUILD="maybe")
    assert done.returncode != 0
    assert 'GANENGINE_BUILD: expected "require", "off" or nothing, got "maybe"' in done.stderr


def test_a_wheel_takes_no_object_from_an_earlier_build(tree: Path) -> None:
    (tree / "ganengine" / "_C.abi3.so").write_bytes(b"stale")
    done = setup(tree, "bdist_wheel", GANENGINE_BUILD="off")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "ganengine/_build.json" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.fixture
def backend() -> ModuleType:
    """csrc/backend.py, as pip loads it."""
    spec = importlib.util.spec_from_file_location("backend", ROOT / "csrc" / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["backend"] = module
    spec.loader.exec_module(module)
    return module


def fake_torch(folder: Path, version: str) -> None:
    header = folder / "torch" / "include" / "torch" / "csrc" / "stable" / "library.h"
    header.parent.mkdir(parents=True)
    header.touch()
    (folder / "torch" / "version.py").write_text(f"__version__ = '{version}'\ncuda = None\n")


@pytest.mark.parametrize(
    ("version", "choice", "compiler", "asked"),
    [
        (None, "", "g++", ["torch>=2.13"]),
        ("2.12.1", "", "g++", ["torch>=2.13"]),
        ("2.13.0+cpu", "", "g++", []),
        ("2.20.1", "", "g++", []),
        (None, "off", "g++", []),
        (None, "", None, []),
    ],
    ids=["absent", "old", "there", "newer", "off", "no-compiler"],
)
def test_torch_is_asked_for_only_where_it_is_needed(
    backend: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    choice: str,
    compiler: str | None,
    asked: list[str],
) -> None:
    if version is not None:
        fake_torch(tmp_path, version)
    monkeypatch.setattr(backend.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(backend.sys, "path", [])
    monkeypatch.setattr(backend.site, "getsitepackages", list)
    monkeypatch.setattr(backend.site, "getusersitepackages", lambda: str(tmp_path / "user"))
    monkeypatch.setattr(backend, "find_compiler", lambda: compiler)
    monkeypatch.setenv("GANENGINE_BUILD", choice)
    assert backend._torch_requirement() == asked


def test_the_record_tells_why_there_are_no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ops.mode()
    (tmp_path / "_build.json").write_text(json.dumps({"schema": 1, "built": False, "reason": "no C++ compiler"}))
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library.load.cache_clear()
    try:
        assert library.load().reason == "the kernels were not built: no C++ compiler"
        (tmp_path / "_build.json").write_text("{")
        assert library.read_record(tmp_path) is None
    finally:
        monkeypatch.undo()
        library.load.cache_clear()
        ops.set_mode(before)


def test_the_record_of_a_build_is_read(tmp_path: Path) -> None:
    cuda = {"built": False, "reason": "no nvcc"}
    facts = {"schema": 1, "built": True, "reason": None, "compiler": "g++ 12", "torch": "2.13.0", "cuda": cuda}
    (tmp_path / "_build.json").write_text(json.dumps(facts))
    assert library.read_record(tmp_path) == library.Build(None, "g++ 12", "2.13.0", "no nvcc", ())
