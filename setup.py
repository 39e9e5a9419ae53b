"""How to compile csrc/ into ganengine/_C.abi3.so; all metadata is in pyproject.toml.

One object for every Python and, by torch's stable ABI, for every torch from 2.13 on, with CUDA or without: it is linked
against an empty libtorch_cpu.so, whose place the user's torch takes, and holds its own CUDA runtime. Where that fails
the package installs without kernels, and ganengine/_build.json says why; a CUDA part that fails leaves the CPU part.

    GANENGINE_BUILD=require    a failure is an error, and so is a warning: for developers and CI, as a compiler that is
                               still to come must not cost anybody the kernels by a new warning
    GANENGINE_BUILD=off        nothing is compiled, and what an earlier build left is removed
    GANENGINE_CUDA=0           the CUDA kernels are left out, even where nvcc is
    CXX, CUDA_HOME             another compiler, another CUDA toolkit
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "csrc"))

from backend import OLDEST, find_compiler, find_torch  # noqa: E402  where pip has put it on the path already

CPU_SOURCES = ["csrc/module.cpp", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*/*_cpu.cpp"))]
CUDA_SOURCES = [str(p.relative_to(ROOT)) for end in ("cu", "cpp") for p in sorted(ROOT.glob(f"csrc/*/*_cuda.{end}"))]
HEADERS = sorted(str(p.relative_to(ROOT)) for p in (*ROOT.glob("csrc/*/*.h"), *ROOT.glob("csrc/*/*.cuh")))

COMMON_FLAGS = ["-std=c++17", "-O3", f"-DTORCH_TARGET_VERSION=0x{OLDEST[0]:02x}{OLDEST[1]:02x}000000000000"]
# Contraction is off because kernels say where they want a fused multiply-add: forward and backward must round
# alike. Neither of the two others changes a value: nobody reads errno or floating-point traps here.
CPU_FLAGS = ["-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
CPU_FLAGS += ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
CUDA_FLAGS = ["--threads=2", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra"]  # two architectures at a time
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Turing to Blackwell; what the toolkit at hand does not know is left out."""


class BuildError(Exception):
    """Why something could not be built."""


@dataclass(frozen=True)
class Step:
    """One compiler call."""

    command: list[str]
    output: Path
    source: str


class BuildKernels(build_ext):
    """Compiles what it can and records what became of it."""

    def run(self) -> None:
        """Compile into the package: that of the build, or that of the source tree for an editable install."""
        for extension in self.extensions:
            self._build(Path(self.get_ext_fullpath(extension.name)).resolve())

    def _build(self, target: Path) -> None:
        choice = os.environ.get("GANENGINE_BUILD", "")
        if choice not in ("", "require", "off"):
            raise SystemExit(f'GANENGINE_BUILD: expected "require", "off" or nothing, got "{choice}".')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # no stale object may stand for this build
        record: dict[str, object] = {"schema": 1, "built": False, "reason": None}
        try:
            if choice == "off":
                raise BuildError("GANENGINE_BUILD=off")
            record |= self._compile(target, strict=choice == "require")
            record["built"] = True
        except (BuildError, OSError) as error:
            if choice == "require":
                raise SystemExit(f"ganengine: kernels could not be built: {error}") from error
            record["reason"] = str(error)
            print(f"ganengine: kernels are not built, the ops run in PyTorch: {error}", file=sys.stderr)
        target.with_name("_build.json").write_text(json.dumps(record, indent=1) + "\n")

    def _compile(self, target: Path, strict: bool) -> dict[str, object]:
        """Make the object and return what it was made with."""
        if not sys.platform.startswith("linux"):
            raise BuildError(f"kernels are built on Linux only, not on {sys.platform}")
        compiler, torch = find_compiler(), find_torch()
        if compiler is None:
            raise BuildError("no C++ compiler: install g++ or clang++, or set CXX")
        if torch is None:
            raise BuildError("no torch >= {}.{} whose headers to build with".format(*OLDEST))
        temp = Path(self.build_temp).resolve() / "ganengine"
        temp.mkdir(parents=True, exist_ok=True)

        flags = ["-Icsrc", "-isystem", str(torch.include), f"-ffile-prefix-map={torch.include}=torch"]
        cxx = [*shlex.split(compiler), *COMMON_FLAGS, *CPU_FLAGS, *(["-Werror"] if strict else []), *flags]
        cpu = [_step(temp, source, [*cxx, "-MMD"]) for source in CPU_SOURCES]
        _run(temp / "cpu.ninja", cpu)

        def link(steps: list[Step], libraries: list[str]) -> None:
            stub, empty = temp / "libtorch_cpu.so", temp / "empty.cpp"
            empty.write_text("")
            shared = [*shlex.split(compiler), "-shared", "-fPIC"]
            _call([*shared, "-Wl,-soname,libtorch_cpu.so", "-o", str(stub), str(empty)])
            objects = [str(step.output) for step in steps]
            torch_first = [f"-L{temp}", "-Wl,--no-as-needed", "-ltorch_cpu", "-Wl,--as-needed"]
            _call([*shared, "-Wl,-s", "-o", str(target), *objects, *torch_first, *libraries])

        cuda: dict[str, object] = {"built": False, "reason": None}
        try:
            steps, libraries, facts = _compile_cuda(temp, cxx, strict)
            link([*cpu, *steps], libraries)
            cuda |= facts
        except BuildError as error:
            if strict and not isinstance(error, NoToolkitError):
                raise
            cuda["reason"] = str(error)
            link(cpu, [])
        return {"compiler": _first_line([*shlex.split(compiler), "--version"]), "torch": torch.version, "cuda": cuda}

    def get_outputs(self) -> list[str]:
        """Return what belongs into the package: the record, and the object where there is one."""
        target = Path(self.get_ext_fullpath(self.extensions[0].name))
        return [str(p) for p in (target, target.with_name("_build.json")) if p.exists()]

    def get_output_mapping(self) -> dict[str, str]:
        """Return no file to be linked: an editable install has them in place."""
        return {}


class NoToolkitError(BuildError):
    """There is no nvcc, or nobody wants it, which is no fault."""


def _compile_cuda(temp: Path, cxx: list[str], strict: bool) -> tuple[list[Step], list[str], dict[str, object]]:
    """Compile the CUDA sources, those for torch by `cxx`; return the steps, what to link, and the facts."""
    if os.environ.get("GANENGINE_CUDA") == "0":
        raise NoToolkitError("GANENGINE_CUDA=0 when the kernels were built")
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = str(Path(home) / "bin" / "nvcc") if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(nvcc).is_file():
        raise NoToolkitError("no nvcc when the kernels were built: install the CUDA toolkit or set CUDA_HOME")
    known = _call([nvcc, "--list-gpu-code"]).split()
    chosen = [a for a in ARCHITECTURES if f"sm_{a}" in known]
    if not chosen:
        raise BuildError(f"{nvcc} knows none of sm_{', sm_'.join(map(str, ARCHITECTURES))}")
    code = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in chosen]
    code.append(f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}")  # for GPUs that are still to come
    flags = ["-Icsrc", *CUDA_FLAGS, *code]  # no torch headers: nvcc would parse them once per architecture
    if strict:
        flags += ["--Werror=all-warnings", "-Xcompiler=-Werror"]
    compilers = {".cu": [nvcc, *COMMON_FLAGS, *flags, "-MMD"], ".cpp": [*cxx, "-MMD"]}
    steps = [_step(temp, source, compilers[Path(source).suffix]) for source in CUDA_SOURCES]
    _run(temp / "cuda.ninja", steps)
    # Where the wrapper script of a distribution stands says nothing; nvcc itself names the folder of its libraries.
    dry = _call([nvcc, "--dryrun", "-cudart", "static", "-o", "x", str(steps[0].output)], both=True)
    folders = [part.strip('"') for part in dry.replace("\n", " ").split() if part.strip('"').startswith("-L")]
    facts = {"built": True, "nvcc": _call([nvcc, "--version"]).strip().splitlines()[-1]}
    facts["architectures"] = [*(f"sm_{a}" for a in chosen), f"compute_{chosen[-1]}"]
    # The runtime's own names stay inside: another one may be in the process.
    libraries = [*folders, "-lcudart_static", "-Wl,--exclude-libs,libcudart_static.a", "-lrt", "-lpthread", "-ldl"]
    return steps, libraries, facts


def _step(temp: Path, source: str, command: list[str]) -> Step:
    output = temp / (Path(source).name + ".o")  # with the suffix: maxout_cuda.cu and maxout_cuda.cpp are two objects
    return Step([*command, "-MF", str(output.with_suffix(".d")), "-c", source, "-o", str(output)], output, source)


def _run(script: Path, steps: list[Step]) -> None:
    """Run compiler calls side by side; with ninja only those whose sources or headers have changed."""
    ninja = shutil.which("ninja")
    if ninja is None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda step: _call(step.command), steps))
        return
    lines = [f"builddir = {_ninja(script.parent)}"]
    for number, step in enumerate(steps):
        lines += [f"rule r{number}", f"  command = {shlex.join(step.command).replace('$', '$$')}", "  deps = gcc"]
        lines += [f"  depfile = {_ninja(step.output.with_suffix('.d'))}"]
        lines += [f"build {_ninja(step.output)}: r{number} {_ninja(step.source)}"]
    script.write_text("\n".join(lines) + "\n")
    _call([ninja, "-f", str(script)])


def _ninja(path: Path | str) -> str:
    """Return a path as ninja reads it."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _call(command: list[str], both: bool = False) -> str:
    """Run a command and return its output; its last lines are the reason when it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} was not found") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        print(said, file=sys.stderr)
        raise BuildError(f"{Path(command[0]).name} failed: {_gist(said)}")
    return done.stdout + done.stderr if both else done.stdout


def _gist(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "no output")


def _first_line(command: list[str]) -> str:
    return _call(command).splitlines()[0]


setup(
    ext_modules=[
        Extension(
            "ganengine._C",
            [*CPU_SOURCES, *CUDA_SOURCES],
            depends=[*HEADERS, "csrc/backend.py"],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
