"""Finding and loading plugins: a broken one is reported and left out whole, the others work."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ganengine import hookspecs
from ganengine.cli import main
from ganengine.errors import PluginError
from ganengine.observers import Observers
from ganengine.plugins import KINDS, Fault, Registry, add_path, registry

ROOT = Path(__file__).parents[1]
HOOKS = [name for name in vars(hookspecs) if name.startswith("ganengine_")]

PLUGIN = '''
from dataclasses import dataclass

from ganengine.hookspecs import hookimpl
from ganengine.variant import Component, DataSource, Variant

GANENGINE_API = 1


@dataclass(frozen=True)
class Config:
    width: int = 4
    """How wide."""


def build(*arguments):
    raise AssertionError("nothing is built while plugins are loaded")


@hookimpl
def ganengine_data_sources():
    return [DataSource("NAME-source", "Bytes.", ("real",), "NAME:build")]


@hookimpl
def ganengine_variants():
    return [Variant("NAME", "A fake.", Config, "NAME:build", "NAME:build", "NAME:build", "NAME:build")]
'''

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load plugins anew for each test, and leave no trace of them."""
    for name in ("GANENGINE_BLOCK", "GANENGINE_STRICT_PLUGINS", "GANENGINE_TRACE_HOOKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])
    registry.cache_clear()
    yield
    registry.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution on the path: a module, and the metadata that an installer leaves."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(name: str, code: str = PLUGIN, *, distribution: str = "", version: str = "1.2", point: str = "") -> None:
        distribution = distribution or f"acme-{name}"
        (site / f"{name}.py").write_text(code.replace("NAME", name))
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[ganengine]\n{point or name} = {name}\n")
        importlib.invalidate_caches()

    return put


def the_fault(loaded: Registry) -> Fault:
    (fault,) = loaded.faults
    return fault


# -- Isolation -----------------------------------------------------------------------------------------------------

VARIANT = '    return [Variant("NAME", "A fake.", Config, "NAME:build", "NAME:build", "NAME:build", "NAME:build")]\n'
"""The line of PLUGIN that makes its variant, to be replaced."""
DONE = "GANENGINE_API = 1\n"
"""The line that states the contract, to be replaced."""
ONE_MORE = "\n\n@hookimpl\ndef "


def variant(**arguments: str) -> str:
    return VARIANT.replace(")]", "".join(f", {name}={value}" for name, value in arguments.items()) + ")]")


FAULTS = {
    "import error": (PLUGIN.replace(DONE, "import torhc\n" + DONE), "torhc", "Reinstall"),
    "exit while importing": (
        PLUGIN.replace(DONE, "raise SystemExit(3)\n"),
        r"imported .SystemExit: 3, .*:\d+",
        "Reinstall",
    ),
    "syntax error": (PLUGIN + "def :\n", "imported .SyntaxError", "Reinstall"),
    "any error while importing": (PLUGIN.replace(DONE, "1 / 0\n"), "ZeroDivisionError", "Reinstall"),
    "no API": (PLUGIN.replace(DONE, ""), "states no GANENGINE_API; this engine has API 1", "states GANENGINE_API = 1"),
    "older API": (PLUGIN.replace(DONE, "GANENGINE_API = 0\n"), "plugin API 0; .* API 1", "Install a version"),
    "newer API": (PLUGIN.replace(DONE, "GANENGINE_API = 2\n"), "plugin API 2; .* API 1", "Upgrade ganengine"),
    "API as text": (PLUGIN.replace(DONE, 'GANENGINE_API = "1"\n'), "plugin API '1'", "Install a version"),
    "API as truth": (PLUGIN.replace(DONE, "GANENGINE_API = True\n"), "plugin API True", "Install a version"),
    "unknown hook": (
        PLUGIN + ONE_MORE + "ganengine_metrix():\n    return []\n",
        'a hook "ganengine_metrix" that does not exist. Did you mean ganengine_metrics',
        "Rename it",
    ),
    "unmarked hook": (
        PLUGIN + "\n\ndef ganengine_metrics():\n    return []\n",
        '"ganengine_metrics" is not marked as a hook',
        "Put @hookimpl above it",
    ),
    "wrong argument of a hook": (
        PLUGIN + ONE_MORE + "ganengine_tick(recrod):\n    pass\n",
        "does not fit the contract .*recrod",
        "docs",
    ),
    "hook that fails": (
        PLUGIN + ONE_MORE + 'ganengine_losses():\n    raise ValueError("no")\n',
        r"ganengine_losses failed \(ValueError: no\)",
        "Reinstall",
    ),
    "hook that returns nothing": (
        PLUGIN + ONE_MORE + "ganengine_losses():\n    pass\n",
        "ganengine_losses failed",
        "Re",
    ),
    "record of another kind": (
        PLUGIN + ONE_MORE + 'ganengine_losses():\n    return ["hinge"]\n',
        "ganengine_losses returned 'hinge'",
        "Return Component records",
    ),
    "record that lacks an argument": (
        PLUGIN + ONE_MORE + 'ganengine_losses():\n    return [Component("x")]\n',
        "ganengine_losses failed .*summary",
        "Reinstall",
    ),
    "name of the engine's data source": (
        PLUGIN.replace('"NAME-source"', '"pairs"'),
        r'its data source "pairs" is already taken by plugin builtin \(ganengine',
        "GANENGINE_BLOCK",
    ),
    "name of the engine's command": (
        PLUGIN + ONE_MORE + 'ganengine_commands():\n    return [Component("run", "Mine.", "NAME:build")]\n',
        'its command "run" is already taken by plugin builtin',
        "GANENGINE_BLOCK",
    ),
    "one name twice": (
        PLUGIN.replace(VARIANT, "    " + VARIANT.strip().replace("]", "] * 2") + "\n"),
        'ganengine_variants returned the name "NAME" twice',
        "Rename",
    ),
    "name that is no word": (PLUGIN.replace('Variant("NAME"', 'Variant("my gan"'), "the name 'my gan'", "Use letters"),
    "builder without a module": (
        PLUGIN.replace('"NAME:build")]\n\n\n@', '"NAME_networks:build")]\n\n\n@'),
        '"NAME-source": its builder build="NAME_networks:build" names a module that does not exist',
        "importable module",
    ),
    "builder in a missing submodule": (
        PLUGIN.replace(VARIANT, variant(baseline='"json.nowhere:build"')),
        'baseline="json.nowhere:build" names a module that does not exist',
        "importable module",
    ),
    "builder that names no function": (
        PLUGIN.replace(VARIANT, variant(baseline='"NAME"')),
        'builder baseline="NAME" names a module',
        '"module:function"',
    ),
    "option of the engine": (
        PLUGIN.replace("width: int", "batch: int"),
        r'variant "NAME": option\(s\) batch belong to the engine',
        "Rename",
    ),
    "preset with an unknown option": (
        PLUGIN.replace(VARIANT, variant(presets='{"big": {"widht": 8}}')),
        'variant "NAME": preset big sets an unknown option "widht". Did you mean width',
        "Correct the name",
    ),
    "defaults with an unknown option": (
        PLUGIN.replace(VARIANT, variant(defaults='{"batsch": 8}')),
        'defaults sets an unknown option "batsch". Did you mean batch',
        "Correct the name",
    ),
    "presets of another shape": (
        PLUGIN.replace(VARIANT, variant(presets="[1]")),
        "records cannot be read",
        "Reinstall",
    ),
    "option without default": (
        PLUGIN.replace("    width: int = 4\n", "    width: int\n"),
        'variant "NAME": width have no default',
        "Give them one",
    ),
    "config that is no dataclass": (PLUGIN.replace("@dataclass(frozen=True)\n", ""), "no dataclass", "dataclass"),
}


@pytest.mark.parametrize(("code", "reason", "remedy"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_plugin_is_left_out_whole_and_reported(
    install: Install, code: str, reason: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("faulty", code)
    install("healthy")
    loaded = registry()
    fault = the_fault(loaded)
    assert (fault.origin.name, fault.origin.distribution, fault.origin.version) == ("faulty", "acme-faulty", "1.2")
    assert str(fault).startswith("plugin faulty (acme-faulty 1.2): ")
    with pytest.raises(PluginError, match=reason.replace("NAME", "faulty")):
        raise PluginError(fault.reason)
    assert remedy in fault.remedy
    # Nothing of it is left, not even what was in order.
    assert all(entry.origin.name != "faulty" for entries in loaded.entries.values() for entry in entries.values())
    assert not loaded.manager.has_plugin("acme-faulty:faulty")
    # All else works.
    assert loaded.variant("healthy").name == "healthy"
    assert "healthy-source" in loaded.sources()
    assert "pairs" in loaded.sources()
    with pytest.raises(PluginError, match=r'No variant is called "faulty".*left out: see `ganengine plugins doctor`'):
        loaded.variant("faulty")
    registry.cache_clear()
    monkeypatch.setenv("GANENGINE_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"(?s)STRICT_PLUGINS=1 and 1 plugin.*acme-faulty 1.2"):
        registry()


def test_the_faults_above_are_faults_because_of_what_they_change(install: Install) -> None:
    """PLUGIN itself is in order; were it not, every case would pass for a wrong reason."""
    assert all(code != PLUGIN for code, _, _ in FAULTS.values())
    install("faulty")
    assert registry().faults == []
    assert registry().variant("faulty").summary == "A fake."


def test_ctrl_c_while_importing_is_not_held_against_the_plugin(install: Install) -> None:
    install("slow", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        registry()


def test_loading_builds_nothing_and_imports_no_builder(install: Install) -> None:
    install("lazy", PLUGIN.replace('"NAME:build"', '"lazy_networks:build"'))
    Path(sys.path[0], "lazy_networks.py").write_text("raise AssertionError('imported while loading')\n")
    importlib.invalidate_caches()
    assert registry().faults == []
    with pytest.raises(AssertionError):
        registry().variant("lazy").builder("networks")


# -- Names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "point", "keeps"),
    [
        ("acme-other", "aaa", "pix"),  # sorts first, but the other's entry point bears the name
        ("acme-other", "zzz", "pix"),
        ("ganengine-pix", "aaa", "thief"),  # the distribution of that name comes before the entry point
        ("ganengine_pix", "zzz", "thief"),
    ],
)
def test_a_name_belongs_to_whoever_bears_it(install: Install, distribution: str, point: str, keeps: str) -> None:
    install("pix")
    install("thief", PLUGIN.replace('Variant("NAME"', 'Variant("pix"'), distribution=distribution, point=point)
    loaded = registry()
    assert loaded.variant("pix").networks == f"{keeps}:build"
    fault = the_fault(loaded)
    assert 'its variant "pix" is already taken by plugin' in fault.reason
    left_out = "pix" if keeps == "thief" else "thief"
    assert loaded.sources().keys() & {"pix-source", "thief-source"} == {f"{keeps}-source"}
    assert fault.origin.module == left_out


def test_a_claim_of_a_plugin_that_is_left_out_holds_nobody_off(install: Install) -> None:
    install("bb", PLUGIN.replace('"NAME-source"', '"pairs"'))  # at fault: the name is the engine's
    install("cc", PLUGIN.replace('Variant("NAME"', 'Variant("bb"'))
    loaded = registry()
    assert the_fault(loaded).origin.name == "bb"
    assert loaded.variant("bb").networks == "cc:build"


def test_near_names_are_offered(install: Install) -> None:
    install("stargan")
    with pytest.raises(PluginError, match=r'"stagan". Did you mean stargan.*with --plugin.* Installed: .*stargan'):
        registry().variant("stagan")
    with pytest.raises(PluginError, match="Install a plugin that brings it, or add one with --plugin"):
        registry().variant("0000")


# -- Switches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["one", "acme-one", " one , two"])
def test_block_leaves_out_by_plugin_or_distribution(
    install: Install, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("GANENGINE_BLOCK", word)
    install("one", "raise AssertionError('a blocked plugin is not imported')\n")
    install("three")
    loaded = registry()
    assert [origin.name for origin in loaded.blocked] == ["one"]
    assert loaded.faults == []
    assert "three" in loaded.entries["variant"]
    with pytest.raises(PluginError, match="GANENGINE_BLOCK leaves out one"):
        loaded.variant("one")


def test_doctor_tells_of_names_that_block_nobody(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GANENGINE_BLOCK", "one, tow")
    install("one")
    install("two")
    assert main(["plugins", "doctor"]) == 0
    assert "tow, which GANENGINE_BLOCK names: no installed plugin is called so" in capsys.readouterr().out
    assert main(["plugins", "doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unblocked"] == ["tow"]


@pytest.mark.parametrize("switch", ["GANENGINE_STRICT_PLUGINS", "GANENGINE_TRACE_HOOKS"])
def test_a_switch_is_on_off_or_refused(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], switch: str
) -> None:
    install("faulty", "x = 1\n")
    for value in ("0", ""):
        monkeypatch.setenv(switch, value)
        registry.cache_clear()
        assert main(["list"]) == 0
        assert "ganengine_variants" not in capsys.readouterr().err
    for value in ("yes", "true", "2"):
        monkeypatch.setenv(switch, value)
        registry.cache_clear()
        assert main(["list"]) == 2
        assert f"{switch}: expected 1 or 0, got '{value}'." in capsys.readouterr().err


def test_what_a_plugin_says_is_shown_as_it_is(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup, and a flag of a preset is shown as one gives it."""
    text = PLUGIN.replace(VARIANT, variant(presets='{"p": {"flip": False, "width": 8}}'))
    install("plain", text.replace('"A fake."', '"Takes [n, c] and [/x]."').replace("How wide.", "Of [all] things."))
    assert main(["list"]) == 0
    assert main(["info", "plain"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Takes [n, c] and [/x].") == 2
    assert "Of [all] things." in shown
    assert "p: --no-flip --width 8" in shown


def test_strict_is_content_where_there_is_no_fault(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANENGINE_STRICT_PLUGINS", "1")
    install("fine")
    assert "fine" in registry().entries["variant"]


def test_trace_shows_hooks_as_they_are_called(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GANENGINE_TRACE_HOOKS", "1")
    install("fine")
    registry().manager.hook.ganengine_variants()
    assert "ganengine_variants" in capsys.readouterr().err


# -- --plugin ------------------------------------------------------------------------------------------------------


def place(tmp_path: Path, form: str) -> Path:
    """Write PLUGIN under the name `mine` as a file, a package or a project, and return what --plugin is given."""
    code = PLUGIN.replace("NAME", "mine")
    folder = tmp_path / "work"
    if form == "file":
        target = folder / "mine.py"
    elif form == "package":
        target = folder / "mine" / "__init__.py"
    else:
        target = folder / "src" / "mine.py"
    target.parent.mkdir(parents=True)
    target.write_text(code)
    (folder / "pyproject.toml").write_text('[project.entry-points.ganengine]\nmine = "mine"\n')
    return {"file": target, "package": target.parent, "project": folder}[form]


@pytest.mark.parametrize("form", ["file", "package", "project"])
@pytest.mark.parametrize("command", [["list", "--json"], ["--plugin"]], ids=["behind", "in front"])
def test_plugin_option_adds_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, command: list[str]
) -> None:
    path = str(place(tmp_path, form))
    argv = [*command, "--plugin", path] if command == ["list", "--json"] else ["--plugin", path, "list", "--json"]
    assert main(argv) == 0
    listed = json.loads(capsys.readouterr().out)
    (mine,) = (variant for variant in listed["variants"] if variant["name"] == "mine")
    assert mine["distribution"] == path
    assert listed["faults"] == 0


def test_a_file_finds_the_modules_beside_it(tmp_path: Path) -> None:
    path = place(tmp_path, "file")
    (path.parent / "beside_mine.py").write_text("WIDTH = 3\n")
    path.write_text("import beside_mine\n" + path.read_text())
    add_path(path)
    assert registry().variant("mine").name == "mine"


def test_a_file_that_cannot_be_imported_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken_mine.py"
    (tmp_path / "beside_broken.py").write_text("x = 1\ny = x / 0\n")
    for text, where in (("\n\n1 / 0\n", f"{path}:3"), ("import beside_broken\n", "beside_broken.py:2")):
        path.write_text(text)
        with pytest.raises(PluginError, match=rf"cannot be imported \(ZeroDivisionError: .*, .*{re.escape(where)}\)"):
            add_path(path)


def test_plugin_option_takes_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place(tmp_path, "package"))
    add_path(Path("."))
    assert registry().variant("mine").networks == "mine:build"


def test_a_plugin_that_is_installed_too_is_not_loaded_twice(
    tmp_path: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("mine")
    add_path(place(tmp_path, "project"))
    assert registry().faults == []
    assert [origin.distribution for origin in registry().origins if origin.name == "mine"] == ["acme-mine"]
    assert "mine is installed too (acme-mine 1.2); that one is used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("write", "message"),
    [
        ({}, "--plugin .*: expected a Python file or a folder; it does not exist"),
        ({"here/notes.txt": ""}, r"expected a package \(with __init__.py\) or a project"),
        ({"here/pyproject.toml": "[project]\n"}, "expected \\[project.entry-points.ganengine\\]"),
        ({"here/pyproject.toml": "[project\n"}, "expected TOML"),
        ({"here/__init__.py": "import torhc\n"}, "plugin here .*cannot be imported .*torhc"),
        ({"here/__init__.py": ""}, "states no GANENGINE_API"),
        ({"here/pyproject.toml": '[project.entry-points.ganengine]\nx = "no_such_module"\n'}, "no_such_module"),
    ],
)
def test_plugin_option_says_what_is_wrong(tmp_path: Path, write: dict[str, str], message: str) -> None:
    for name, text in write.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(PluginError, match=message):
        add_path(tmp_path / "here")


@pytest.mark.parametrize(("name", "message"), [("json.py", "that of another module"), ("plugin.txt", "a Python file")])
def test_plugin_option_refuses_a_file_that_it_cannot_import(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_text(PLUGIN.replace("NAME", "mine"))
    with pytest.raises(PluginError, match=message):
        add_path(tmp_path / name)
    assert json.dumps([]) == "[]"


def test_a_file_that_fails_leaves_no_half_module(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("x = 1\n1 / 0\n")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        add_path(tmp_path / "half.py")
    assert "half" not in sys.modules


# -- The contract --------------------------------------------------------------------------------------------------

ADDING = [
    "ganengine_architectures",
    "ganengine_augmentations",
    "ganengine_commands",
    "ganengine_exporters",
    "ganengine_initialisers",
    "ganengine_losses",
    "ganengine_metrics",
    "ganengine_optimizers",
    "ganengine_penalties",
]
WATCHING = ["ganengine_run_start", "ganengine_step", "ganengine_tick", "ganengine_checkpoint", "ganengine_run_end"]


@pytest.mark.parametrize("hook", ADDING)
def test_a_component_of_each_kind_is_found_by_name(install: Install, hook: str) -> None:
    component = 'return [Component("mine", "Mine.", "json:dumps")]'
    install("adder", PLUGIN + ONE_MORE + f"{hook}():\n    {component}\n")
    kind = next(kind for kind, (name, _) in KINDS.items() if name == hook)
    assert registry().get(kind, "mine").load() is json.dumps


@pytest.mark.parametrize("hook", WATCHING)
def test_observers_are_told_and_one_that_fails_is_told_no_more(
    install: Install, hook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install("watcher", PLUGIN + f"\nseen = []\n{ONE_MORE}{hook}(record):\n    seen.append(record)\n")
    install("asleep", PLUGIN + f"{ONE_MORE}{hook}():\n    pass\n")
    install("failing", PLUGIN + f"{ONE_MORE}{hook}(record):\n    raise ValueError(record)\n")
    observers = Observers(registry().manager)
    event = hook.removeprefix("ganengine_")
    assert {name for name in Observers.EVENTS if observers.watched(name)} == {event}
    observers.tell(event, 1)
    observers.tell(event, 2)
    assert sys.modules["watcher"].seen == [1, 2]  # type: ignore[attr-defined]
    told = capsys.readouterr().err
    assert told.count("plugin acme-failing:failing: its " + hook + " failed (ValueError: 1)") == 1
    assert "2" not in told


def test_the_kinds_and_the_events_are_those_of_the_contract() -> None:
    assert {hook for hook, _ in KINDS.values()} == {*ADDING, "ganengine_variants", "ganengine_data_sources"}
    assert {f"ganengine_{event}" for event in Observers.EVENTS} == set(WATCHING)
    assert {*(hook for hook, _ in KINDS.values()), *WATCHING} == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    tests = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "plugins").glob("*/tests/**/*.py")]
    assert any(hook in path.read_text(encoding="utf-8") for path in tests)
