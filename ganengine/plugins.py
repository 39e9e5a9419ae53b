"""Find, load, check and list plugins; a broken one is reported and left out, the others work.

Plugins are looked up by entry point (group `ganengine`) and loaded one by one by our own loop: pluggy's own loader
lets one bad plugin stop everything. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from ganengine import builtin, hookspecs
from ganengine.errors import PluginError, UserError, nearest
from ganengine.variant import API, Component, DataSource, Variant

GROUP = "ganengine"
PREFIX = "ganengine_"

KINDS: dict[str, tuple[str, type[Variant] | type[DataSource] | type[Component]]] = {
    "variant": ("ganengine_variants", Variant),
    "data source": ("ganengine_data_sources", DataSource),
    "architecture": ("ganengine_architectures", Component),
    "loss": ("ganengine_losses", Component),
    "penalty": ("ganengine_penalties", Component),
    "initialiser": ("ganengine_initialisers", Component),
    "optimizer": ("ganengine_optimizers", Component),
    "augmentation": ("ganengine_augmentations", Component),
    "metric": ("ganengine_metrics", Component),
    "exporter": ("ganengine_exporters", Component),
    "command": ("ganengine_commands", Component),
}
"""What plugins add: kind -> (hook, record)."""

ASK = "Reinstall it, or ask its authors; GANENGINE_BLOCK leaves it out."

Record = TypeVar("Record", Variant, DataSource, Component)


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from."""

    name: str
    distribution: str
    version: str
    module: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}" if self.version else self.distribution


@dataclass(frozen=True)
class Fault:
    """Why a plugin was left out, and what to do."""

    origin: Origin
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"plugin {self.origin.name} ({self.origin}): {self.reason} {self.remedy}"


@dataclass(frozen=True)
class Entry(Generic[Record]):
    """A record and the plugin that it belongs to."""

    record: Record
    origin: Origin


@dataclass
class Registry:
    """Everything that is installed, by kind and name."""

    manager: pluggy.PluginManager
    origins: list[Origin] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    blocked: list[Origin] = field(default_factory=list)
    unblocked: list[str] = field(default_factory=list)
    """What `GANENGINE_BLOCK` names and nobody is called."""
    added: list[Path] = field(default_factory=list)
    """What `--plugin` named."""
    entries: dict[str, dict[str, Entry[Any]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def get(self, kind: str, name: str) -> Any:
        """Return the record of that kind and name.

        Raises:
            PluginError: there is none; the message offers the nearest names and tells of plugins left out.
        """
        if name in self.entries[kind]:
            return self.entries[kind][name].record
        known = self.entries[kind]
        near = nearest(name, known)
        remedy = f"{near}{' Else install' if near else ' Install'} a plugin that brings it, or add one with --plugin."
        message = f'No {kind} is called "{name}".{remedy}'
        message += f" Installed: {', '.join(sorted(known)) or 'none'}."
        if self.faults:
            message += f" {len(self.faults)} plugin(s) were left out: see `ganengine plugins doctor`."
        if self.blocked:
            message += f" GANENGINE_BLOCK leaves out {', '.join(origin.name for origin in self.blocked)}."
        raise PluginError(message)

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`, or raise a PluginError that offers near names."""
        found: Variant = self.get("variant", name)
        return found

    def sources(self) -> dict[str, DataSource]:
        """Return all data sources by name."""
        return {name: entry.record for name, entry in self.entries["data source"].items()}


class _FaultError(Exception):
    """A reason and a remedy, on the way to a `Fault`."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@functools.cache
def registry() -> Registry:
    """Load all installed plugins once and return what they add.

    `GANENGINE_BLOCK` (names, comma-separated) leaves plugins out; `GANENGINE_STRICT_PLUGINS=1` turns any fault into
    an error.

    Raises:
        PluginError: strict, and a plugin is at fault.
        UserError: a switch in the environment is neither 1 nor 0.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    loaded = Registry(manager)
    strict = _is_on("GANENGINE_STRICT_PLUGINS")
    if _is_on("GANENGINE_TRACE_HOOKS"):
        manager.trace.root.setwriter(lambda text: sys.stderr.write(text))
        manager.enable_tracing()
    own = Origin("builtin", "ganengine", _version("ganengine"), "ganengine.builtin")
    found = [_found(manager, own, lambda: builtin)]
    named = {name.strip() for name in os.environ.get("GANENGINE_BLOCK", "").split(",") if name.strip()}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        distribution = point.dist
        name, version = (distribution.name, distribution.version) if distribution else ("unknown", "")
        origin = Origin(point.name, name, version, point.value)
        if named & {point.name, name}:
            loaded.blocked.append(origin)
            continue
        found.append(_found(manager, origin, point.load))
    loaded.unblocked = sorted(
        named - {word for origin in loaded.blocked for word in (origin.name, origin.distribution)}
    )
    _add(loaded, found)
    if strict and loaded.faults:
        faults = "; ".join(str(fault) for fault in loaded.faults)
        raise PluginError(f"GANENGINE_STRICT_PLUGINS=1 and {len(loaded.faults)} plugin(s) are at fault: {faults}")
    return loaded


def _is_on(switch: str) -> bool:
    value = os.environ.get(switch) or "0"
    if value not in ("0", "1"):
        raise UserError(f"{switch}: expected 1 or 0, got {value!r}.")
    return value == "1"


def add_path(path: Path) -> None:
    """Add a plugin under development: a Python file, a package folder, or a project folder with a pyproject.toml.

    Raises:
        PluginError: nothing there can be loaded as a plugin.
    """
    loaded = registry()
    before = len(loaded.faults)
    known = {(origin.name, origin.module): origin for origin in loaded.origins}
    new = []
    for origin, load in _from_path(path):
        there = known.get((origin.name, origin.module))
        if there is None:
            new.append(_found(loaded.manager, origin, load))
        elif not _lies_in(there.module, path):
            print(f"--plugin {path}: {there.name} is installed too ({there}); that one is used.", file=sys.stderr)
    _add(loaded, new)
    loaded.added.append(path)
    if len(loaded.faults) > before:
        raise PluginError("; ".join(str(fault) for fault in loaded.faults[before:]))


def stated() -> str:
    """Return the `--plugin` words that this command was given, as the next one needs them."""
    return words(registry().added)


def words(paths: Iterable[object]) -> str:
    """Return " --plugin FILE" for each path, to be appended to a command."""
    return "".join(f" --plugin {shlex.quote(str(path))}" for path in paths)


def _lies_in(module: str, path: Path) -> bool:
    file = getattr(sys.modules.get(module.partition(":")[0]), "__file__", None)
    return file is not None and path.resolve() in (Path(file).resolve(), *Path(file).resolve().parents)


def _from_path(path: Path) -> Iterator[tuple[Origin, Callable[[], ModuleType]]]:
    if not path.exists():
        raise PluginError(f"--plugin {path}: expected a Python file or a folder; it does not exist.")
    place = path.resolve()
    if path.is_file():
        yield Origin(path.stem, str(path), "", path.stem), functools.partial(_load_file, place)
        return
    project = path / "pyproject.toml"
    if not project.is_file():
        if not (path / "__init__.py").is_file():
            raise PluginError(
                f"--plugin {path}: expected a package (with __init__.py) or a project (with pyproject.toml); "
                "the folder has neither."
            )
        sys.path.insert(0, str(place.parent))
        yield Origin(place.name, str(path), "", place.name), functools.partial(importlib.import_module, place.name)
        return
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        points: Any = tomllib.loads(project.read_text("utf-8"))
    except ValueError as error:
        raise PluginError(f'--plugin {path}: expected TOML in "{project}"; it does not parse ({error}).') from error
    for table in ("project", "entry-points", GROUP):
        points = points.get(table) if isinstance(points, dict) else None
    if not isinstance(points, dict) or not points or not all(isinstance(module, str) for module in points.values()):
        table = f"[project.entry-points.{GROUP}]"
        raise PluginError(f'--plugin {path}: expected {table} with NAME = "module" in "{project}"; there is none.')
    sys.path.insert(0, str(place / "src" if (place / "src").is_dir() else place))
    for name, module in points.items():
        yield Origin(name, str(path), "", module), metadata.EntryPoint(name, module, GROUP).load


def _load_file(path: Path) -> ModuleType:
    taken = importlib.util.find_spec(path.stem)
    if taken is not None and taken.origin != str(path):
        raise PluginError(f'its name "{path.stem}" is that of another module; rename the file')
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError("expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    before = sys.path[:]
    sys.path.append(str(path.parent))  # modules beside it
    sys.modules[path.stem] = module  # builders are named "STEM:function"
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        sys.path[:] = before
        raise
    return module


@dataclass(frozen=True)
class _Found:
    """A plugin that was loaded and checked by itself, or why it was not."""

    origin: Origin
    records: tuple[tuple[str, Variant | DataSource | Component], ...] = ()
    fault: Fault | None = None

    @property
    def key(self) -> str:
        """What pluggy knows it by."""
        return _key(self.origin)


def _key(origin: Origin) -> str:
    return f"{origin.distribution}:{origin.name}"


def _found(manager: pluggy.PluginManager, origin: Origin, load: Callable[[], object]) -> _Found:
    """Load one plugin and check all of it; on any fault nothing of it stays registered."""
    key = _key(origin)
    try:
        _register(manager, key, _load(load))
        return _Found(origin, tuple(_records(manager, key)))
    except Exception as error:  # a malformed record may fail any check that reads it
        told = error if isinstance(error, _FaultError) else _FaultError(f"its records cannot be read ({error!r}).", ASK)
        if manager.has_plugin(key):
            manager.unregister(name=key)
        return _Found(origin, fault=Fault(origin, told.reason, told.remedy))


def _add(loaded: Registry, found: list[_Found]) -> None:
    """Take in plugins that were found together; of several that claim one name, one keeps it, the others are left out.

    A name belongs to the plugin that is there already, else to the distribution called ganengine-NAME, else to the
    entry point called NAME, else to the first by alphabet; so the order of loading gives a name to nobody.
    """
    loaded.faults += [plugin.fault for plugin in found if plugin.fault]
    good = [plugin for plugin in found if not plugin.fault]
    while clash := _clash(loaded, good):
        plugin, kind, name, owner = clash
        loaded.manager.unregister(name=plugin.key)
        good.remove(plugin)
        reason = f'its {kind} "{name}" is already taken by plugin {owner.name} ({owner}).'
        remedy = "Uninstall one of the two, or leave one out with GANENGINE_BLOCK."
        loaded.faults.append(Fault(plugin.origin, reason, remedy))
    for plugin in good:
        loaded.origins.append(plugin.origin)
        for kind, record in plugin.records:
            loaded.entries[kind][record.name] = Entry(record, plugin.origin)


def _clash(loaded: Registry, found: list[_Found]) -> tuple[_Found, str, str, Origin] | None:
    """Return a plugin that has to give way, the kind and name in question, and who keeps it."""
    claims: dict[tuple[str, str], list[_Found]] = {}
    for plugin in found:
        for kind, record in plugin.records:
            claims.setdefault((kind, record.name), []).append(plugin)
    for (kind, name), claimants in claims.items():
        ranked = sorted(claimants, key=lambda plugin: _claim(plugin.origin, name))
        holder = loaded.entries[kind].get(name)
        if holder:
            return ranked[-1], kind, name, holder.origin
        if len(ranked) > 1:
            return ranked[-1], kind, name, ranked[0].origin
    return None


def _claim(origin: Origin, name: str) -> tuple[bool, bool, bool]:
    distribution = origin.distribution.lower().replace("_", "-")
    return distribution != "ganengine", distribution != f"ganengine-{name}", origin.name != name


def _place(error: BaseException) -> str:
    """Return ", FILE:LINE" of the plugin's own code, or of what it called, where an import of it failed."""
    ours = (str(Path(__file__).parent), str(Path(importlib.__file__).parent), "<")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f", {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _load(load: Callable[[], object]) -> object:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output may be meant to be one JSON object
            module = load()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        raise _FaultError(f"it cannot be imported ({type(error).__name__}: {error}{_place(error)}).", ASK) from error
    stated = getattr(module, "GANENGINE_API", None)
    if type(stated) is not int or stated != API:
        what = "states no GANENGINE_API" if stated is None else f"is written for plugin API {stated!r}"
        newer = isinstance(stated, int) and stated > API
        remedy = "Upgrade ganengine." if newer else f"Install a version of it that states GANENGINE_API = {API}."
        raise _FaultError(f"it {what}; this engine has API {API}.", remedy)
    return module


def _register(manager: pluggy.PluginManager, key: str, module: object) -> None:
    hooks = {spec for spec in vars(hookspecs) if spec.startswith(PREFIX)}
    for name in vars(module):
        value = getattr(module, name)
        if not name.startswith(PREFIX) or not callable(value) or isinstance(value, type):
            continue
        if name not in hooks:
            raise _FaultError(f'it implements a hook "{name}" that does not exist.{nearest(name, hooks)}', "Rename it.")
        if not hasattr(value, f"{GROUP}_impl"):
            raise _FaultError(f'"{name}" is not marked as a hook.', "Put @hookimpl above it.")
    try:
        manager.register(module, name=key)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise _FaultError(f"a hook does not fit the contract ({reason}).", "See docs/contract.md.") from error


def _records(manager: pluggy.PluginManager, key: str) -> Iterator[tuple[str, Variant | DataSource | Component]]:
    for kind, (hook, record_type) in KINDS.items():
        seen: set[str] = set()
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name != key:
                continue
            for record in _call(implementation.function, hook):
                if not isinstance(record, record_type):
                    raise _FaultError(f"{hook} returned {record!r}.", f"Return {record_type.__name__} records.")
                if not re.fullmatch(r"\w[\w.+-]*", record.name):
                    raise _FaultError(f"{hook} returned the name {record.name!r}.", "Use letters, digits and hyphens.")
                if record.name in seen:
                    raise _FaultError(f'{hook} returned the name "{record.name}" twice.', "Rename one of the two.")
                seen.add(record.name)
                _check_builders(record)
                if isinstance(record, Variant):
                    check_options(record)
                yield kind, record


def _call(function: Callable[[], Iterable[Any]], hook: str) -> list[Any]:
    try:
        return list(function())
    except Exception as error:
        raise _FaultError(f"{hook} failed ({type(error).__name__}: {error}).", ASK) from error


def _check_builders(record: Variant | DataSource | Component) -> None:
    if isinstance(record, Variant):
        named = {what: getattr(record, what) for what in (*Variant.BUILDERS, *Variant.OPTIONAL)}
    else:
        named = {"build": record.build, "recognise": getattr(record, "recognise", None)}
    for what, reference in named.items():
        if reference is None:
            continue
        module, _, attribute = str(reference).partition(":")
        if not module or not attribute or not _exists(module):
            raise _FaultError(
                f'"{record.name}": its builder {what}="{reference}" names a module that does not exist.',
                'Write "module:function" of an importable module.',
            )


def _exists(module: str) -> bool:
    """Whether a module can be found, without importing the packages above it: they may import torch."""
    if module in sys.modules:
        return True
    name, places = "", None
    for word in module.split("."):
        name = f"{name}.{word}" if name else word
        spec = importlib.machinery.PathFinder.find_spec(name, places)
        if spec is None:
            # Editable installs bring a finder of their own, which knows top-level packages.
            spec = importlib.util.find_spec(name) if places is None else None
        if spec is None:
            return False
        places = list(spec.submodule_search_locations or [])
    return True


def check_options(variant: Variant) -> None:
    """Check that a variant's options fit beside the engine's and that its presets name existing ones."""
    from ganengine.config import RunOptions

    if not dataclasses.is_dataclass(variant.config):
        raise _FaultError(f'variant "{variant.name}": config is no dataclass.', "Make it a frozen dataclass.")
    engine = {f.name for f in dataclasses.fields(RunOptions)}
    own = dataclasses.fields(variant.config)
    clash = sorted(engine & {f.name for f in own})
    if clash:
        raise _FaultError(f'variant "{variant.name}": option(s) {", ".join(clash)} belong to the engine.', "Rename.")
    required = [f.name for f in own if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    if required:
        raise _FaultError(f'variant "{variant.name}": {", ".join(required)} have no default.', "Give them one.")
    known = engine | {f.name for f in own}
    sets: dict[str, Mapping[str, Any]] = {"defaults": variant.defaults, "smallest": variant.smallest}
    sets |= {f"preset {name}": preset for name, preset in variant.presets.items()}
    for name, options in sets.items():
        for option in options:
            if option.replace("-", "_") not in known:
                raise _FaultError(
                    f'variant "{variant.name}": {name} sets an unknown option "{option}".{nearest(option, known)}',
                    "Correct the name.",
                )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
