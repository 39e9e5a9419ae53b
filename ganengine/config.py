"""Typed options: the engine's and a variant's in one flat namespace, from defaults, preset, file and command line.

Every layer goes through the same parser (a YAML file is flattened to arguments), so a wrong type in a file is the
same clear error as on the command line. Precedence: command line > --config FILE > --preset NAME > defaults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

import tyro
import yaml

from ganengine.errors import UserError, nearest
from ganengine.variant import Variant

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Budget:
    """When to stop. Budgets never bend a ramp."""

    max_steps: int | None = None
    """Stop at this many steps, counted from the run's beginning."""
    max_images: int | None = None
    """Stop at this many images shown, counted from the run's beginning."""
    max_minutes: float | None = None
    """Stop this many minutes after this command started training."""

    def stated(self) -> bool:
        """Whether any budget was given."""
        return any(value is not None for value in (self.max_steps, self.max_images, self.max_minutes))


@dataclass(frozen=True)
class RunOptions(Budget):
    """Options of the engine, the same for every variant."""

    data: tyro.conf.Positional[str] = ""
    """Folder of pictures, or NAME[:ARGUMENT] of a data source; nothing: the variant's own small data set."""
    out: Path | None = None
    """Folder of the run; default runs/VARIANT, then -2, -3. One that exists is an error."""
    preset: str | None = None
    """Named set of options; `ganengine info VARIANT` lists them."""
    config: Path | None = None
    """YAML file of options, by the same names."""
    plugin: Path | None = None
    """Plugin under development: a file or folder (any command takes it; may be repeated)."""
    init_from: Path | None = None
    """Start from the networks of another run of the same variant."""

    size: int | None = None
    """Side of the training pictures in pixels; None: their own, at most 128."""
    load_size: int | None = None
    """Resize to this side, then crop --size at random; None: no jitter."""
    flip: bool = True
    """Mirror half of the pictures; digits and letters never are."""
    resize: Literal["stretch", "crop"] = "stretch"
    """How pictures that are not square become so."""
    alpha: Literal["white", "black", "keep"] = "white"
    """What to do with transparency: put it on white or black, or keep it as a channel."""
    bad_images: Literal["skip", "fail"] = "skip"
    """What to do with unreadable pictures."""

    batch: int = 8
    """Pictures per update."""
    accumulate: int = 1
    """Split each update's batch into this many parts, to save memory; batch statistics are then those of a part."""
    horizon: int | None = None
    """Images the run is planned for: ramps span it, and it ends there when no --max-... is given. None: the length of
    the variant's stages where all state theirs, else 20,000."""
    epochs: float | None = None
    """The same in passes over the data."""
    seed: int = 0
    """Everything random follows from it."""

    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto: a GPU where there is one."""
    threads: int | None = None
    """CPU threads; None: one per core."""
    precision: Precision = "auto"
    """auto: bfloat16 where the hardware multiplies it fast, float32 elsewhere."""
    ops: Literal["auto", "fused", "reference"] = "auto"
    """Fused kernels where they exist, everywhere (an error where one is missing), or nowhere."""
    channels_last: Literal["auto", "on", "off"] = "auto"
    """Memory format of pictures and convolutions."""
    layers: Literal["auto", "plain"] = "auto"
    """auto: on the CPU, channels-last, torch's layers take faster forms that compute the same but for rounding
    (convolutions as products of tiles or patches, joined with activations, reflections and resampling; norms joined
    with activations); plain: as torch has them."""
    checkpoint_activations: bool = False
    """Save memory: keep only what goes into each block of a network, and compute the rest again for the gradients."""

    ema_images: int = 10_000
    """Half-life in images of the averaged networks used for sampling; 0: no averaging."""
    ema_rampup: float = 0.05
    """The half-life is at most this share of the images shown so far."""
    clip_norm: float | None = None
    """Largest 2-norm of an update's gradient; larger ones are scaled down. None: as the variant says."""
    on_nonfinite: Literal["skip", "stop", "rollback"] = "skip"
    """An update with a non-finite gradient: leave it out and count it, stop, or go back to the last checkpoint."""

    augment: str = "none"
    """What D sees is changed, real and fake alike: none, diffaugment, ada (as often as D needs), or a plugin's."""
    augment_policy: str | None = None
    """Comma-separated groups of it (diffaugment: color,translation,cutout; ada: blit,geometry,color); None: all."""
    ada_target: float = 0.6
    """ada: mean sign of D's logits on real pictures that its strength is steered to."""
    ada_images: int = 20_000
    """ada: images in which its strength can go from 0 to 1."""
    instance_noise: float = 0.0
    """Standard deviation of noise on what D sees, falling to 0 over the horizon; 0: none."""
    spectral_norm: str = "none"
    """Comma-separated networks whose weights are divided by their largest singular value; none: no network."""

    tick_every: int = 100
    """Steps between log lines and previews."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints to keep; the last one of each stage stays too."""
    preview: int = 8
    """Pictures in the preview; 0: none."""
    preview_at: str = "none"
    """Comma-separated steps at which there is a preview too: 100,1000,10000."""

    def preview_steps(self) -> frozenset[int]:
        """Return the steps that --preview-at names.

        Raises:
            UserError: it holds something else than whole numbers.
        """
        found = words(self.preview_at)
        odd = [word for word in found if not (word.isdecimal() and len(word) < 19)]
        if odd:
            raise UserError(f'--preview-at: expected steps such as 100,1000,10000, got "{odd[0]}".')
        return frozenset(map(int, found))


@dataclass(frozen=True)
class Settings:
    """All options of a run: the engine's, the variant's, and the variant itself."""

    variant: Variant
    engine: RunOptions
    config: Any

    def anchored(self) -> Settings:
        """Return settings whose data is found from any working directory, as long as it stays where it is."""
        data = Path(os.path.expanduser(self.engine.data))
        if not self.engine.data or not data.exists():
            return self
        return dataclasses.replace(self, engine=dataclasses.replace(self.engine, data=str(data.absolute())))

    def to_dict(self) -> dict[str, Any]:
        """Return one flat mapping of plain values, as config.yaml holds it."""
        flat: dict[str, Any] = {"variant": self.variant.name}
        # Of the two that state the length, the one that holds.
        left_out = (*COMMAND_ONLY, "out", "epochs" if self.engine.epochs is None else "horizon")
        for record in (self.engine, self.config):
            for f in dataclasses.fields(record):
                if f.name not in left_out:
                    flat[f.name.replace("_", "-")] = _plain(getattr(record, f.name))
        return flat


COMMAND_ONLY = ("preset", "config", "plugin")
"""What is acted on before options are parsed: neither read from a file of options nor written to one."""


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name.replace("_", "-"): _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


# ----------------------------------------------------------------------------------------------------------------
# Layers


ELSEWHERE = {
    "batch-size": "batch", "batchsize": "batch", "learning-rate": "lr", "n-critic": "d-steps", "n-epochs": "epochs",
    "num-epochs": "epochs", "iterations": "max-steps", "n-iters": "max-steps", "crop-size": "size",
    "image-size": "size", "img-size": "size", "imgsize": "size", "resolution": "size", "outdir": "out",
    "output-dir": "out", "checkpoints-dir": "out", "gpu": "device", "gpu-ids": "device",
    "resume": "the command `ganengine resume RUN`",
    "dataroot": "the word behind the variant", "data-dir": "the word behind the variant",
    "data-path": "the word behind the variant", "dataset": "the word behind the variant",
}  # fmt: skip
"""What options are called in other programs of this field."""


def parse(variant: Variant, argv: Sequence[str], prog: str) -> Settings:
    """Work out all options of `ganengine run VARIANT` from the command line and what it names.

    Args:
        variant: whose options stand beside the engine's.
        argv: arguments after the variant's name, `--plugin` already acted on.
        prog: what stands before the arguments, for messages.

    Raises:
        UserError: an unknown preset; a file that is missing, no YAML, or names another variant; an option by the name
            that it has elsewhere.
        SystemExit: status 2 after a message, for an unknown option or a value of the wrong type; 0 after `--help`.
    """
    form = _form(variant)
    rest, early = take_options(argv, ("preset", "config"))
    settings = form()
    _check_names(rest, {_kebab(f.name) for part in (settings.engine, settings.variant) for f in fields(part)})
    settings = _layer(form, settings, variant.defaults, prog, f"defaults of {variant.name}")
    preset = early["preset"][-1] if early["preset"] else None
    if preset is not None:
        if preset not in variant.presets:
            listed = ", ".join(sorted(variant.presets)) or "none"
            raise UserError(
                f'--preset: expected one of {listed} (those of {variant.name}), got "{preset}".'
                + nearest(preset, variant.presets)
            )
        settings = _layer(form, settings, variant.presets[preset], prog, f"preset {preset}")
    for file in early["config"]:
        settings = _layer(form, settings, read_yaml(Path(file), variant), prog, file)
    before = settings
    settings = _parse(form, rest, settings, prog)
    settings = _one_length(settings, before, _named(rest), "command line")
    engine = dataclasses.replace(settings.engine, preset=preset, config=_last_path(early["config"]))
    check_ranges(engine)
    return Settings(variant, engine, settings.variant)


def _check_names(words: Sequence[str], known: Collection[str]) -> None:
    """Refuse options by the names that they have in other programs, which the parser does not find near."""
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        ours = ELSEWHERE.get(name.lower().replace("_", "-"), "")
        if word.startswith("--") and name not in known and (ours in known or " " in ours):
            raise UserError(f"no option is called --{name} here: that is {ours if ' ' in ours else f'--{ours}'}.")


def from_dict(variant: Variant, record: Mapping[str, Any], origin: str) -> Settings:
    """Rebuild settings from what `Settings.to_dict` gave, through the same parser.

    Raises:
        UserError: `record` belongs to another variant.
        UserError: an option that this version does not have, or a value of the wrong type.
    """
    form = _form(variant)
    settings = _layer(form, form(), _without_variant(dict(record), variant, origin), origin, origin)
    return Settings(variant, settings.engine, settings.variant)


def take_options(argv: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take `--name value` and `--name=value` out of `argv`, because they must be known before the rest is parsed."""
    rest: list[str] = []
    taken: dict[str, list[str]] = {name: [] for name in names}
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        name = name.removeprefix("--") if name.startswith("--") else ""
        if name not in taken:
            rest.append(word)
        elif equals:
            taken[name].append(value)
        else:
            following = next(words, None)
            if following is None or following.startswith("--"):
                raise UserError(f"--{name}: expected a value after it, got {following or 'nothing'}.")
            taken[name].append(following)
    return rest, taken


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and no option twice, of which YAML would silently take the last."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # A few lines of aliases of aliases would be gigabytes once they are written out.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not read here: write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value.replace("_", "-") for key, _ in node.value if isinstance(key.value, str)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f'"{name}" is stated twice', node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Parse a YAML document of plain values.

    Raises:
        yaml.YAMLError: it is none, or has tags, aliases, or a name twice.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError("its brackets nest too deep") from error
    except ValueError as error:  # a date that no calendar has, a number of thousands of digits
        raise yaml.YAMLError(f"a value that cannot be read: {error}") from error


def read_yaml(path: Path, variant: Variant) -> dict[str, Any]:
    """Read a file of options.

    Raises:
        UserError: the file is missing, is no YAML mapping, or was written for another variant.
    """
    return _without_variant(read_mapping(path, f"--config {path}: expected a YAML file of options"), variant, str(path))


def read_mapping(path: Path, expected: str) -> dict[Any, Any]:
    """Read a YAML file of plain values by name; an empty one has none.

    Args:
        path: the file.
        expected: how a message begins.

    Raises:
        UserError: it is missing, no YAML, or no mapping.
    """
    try:
        record = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{expected}; it cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{expected}; it cannot be read (byte {error.start} is no UTF-8).") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split()).replace(' in "<unicode string>"', "")
        raise UserError(f"{expected}; it cannot be read: it is no YAML ({where}).") from error
    if record is None:
        return {}
    if not isinstance(record, dict):
        what = "a list" if isinstance(record, list) else f"one value, {reprlib.repr(record)}"
        raise UserError(f"{expected}, each as `name: value`; it holds {what}.")
    return record


def _without_variant(record: dict[Any, Any], variant: Variant, origin: str) -> dict[str, Any]:
    named = record.pop("variant", variant.name)
    if named != variant.name:
        raise UserError(f'{origin}: written for variant "{named}", but this is "{variant.name}".')
    return {str(name): value for name, value in record.items()}


def _form(variant: Variant) -> Any:
    """Make the dataclass that the parser fills: the engine's options and the variant's, without prefixes."""
    parts: list[tuple[str, Any]] = [("engine", RunOptions), ("variant", variant.config)]
    form = dataclasses.make_dataclass(
        "Options",
        [(name, Annotated[part, tyro.conf.arg(name="")], field(default_factory=part)) for name, part in parts],
        frozen=True,
    )
    # The parser looks for docstrings in the source of that module, five times, and reads it whole each time. None is
    # there; by default (Python 3.11) it would read the whole of `types`, 0.1 s for every command.
    form.__module__ = "ganengine"
    return form


def _parse(form: Any, args: Sequence[str], default: Any, prog: str) -> Any:
    return tyro.cli(
        form,
        prog=prog,
        args=list(args),
        default=default,
        description="Train a model. Press Ctrl-C to save and stop; `ganengine resume RUN` goes on exactly.",
    )


def _layer(form: Any, settings: Any, options: Mapping[str, Any], prog: str, origin: str) -> Any:
    options = {_kebab(name): value for name, value in options.items()}
    known = {f.name: getattr(part, f.name) for part in (settings.engine, settings.variant) for f in fields(part)}
    _check_options(options, known, origin)
    _check_stated(options, (settings.engine, settings.variant), origin)
    options = {name: value for name, value in options.items() if name not in COMMAND_ONLY}
    # Always stated, so that a word too many in a list is not taken for it.
    data = options.pop("data", known["data"])
    if not isinstance(data, str) or data.startswith("-"):
        shown = reprlib.repr(data)
        raise UserError(f"{origin}: data: expected a path or the name of a data source, got {shown}.")
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            parsed = _parse(form, [data, *flatten(options, known)], settings, prog)
    except SystemExit as end:  # the parser speaks of a command line, and there is none
        raise UserError(f"{origin}: {_flowing(told.getvalue())}") from end
    stated = {name for name, value in options.items() if value is not None}
    return _one_length(parsed, settings, stated, origin)


def _check_options(options: Mapping[str, Any], known: Mapping[str, Any], origin: str) -> None:
    for option, value in options.items():
        name = option.replace("-", "_")
        if name in COMMAND_ONLY and value:
            raise UserError(f"{origin}: --{option} belongs on the command line; take it out of here.")
        if name not in known:
            remedy = nearest(option, map(_kebab, known)) or " `ganengine run VARIANT --help` lists them."
            raise UserError(f'{origin}: no option is called "{option}".{remedy}')
        # Shortened by reprlib: a few lines of YAML may unfold to more than a machine holds.
        if isinstance(known[name], bool) and not isinstance(value, bool):
            shown = "null" if value is None else reprlib.repr(value)
            raise UserError(f"{origin}: {option}: expected true or false, got {shown}.")
        if isinstance(value, list) and not isinstance(known[name], (list, tuple, type(None))):
            raise UserError(f"{origin}: {option}: expected one value, got a list: {reprlib.repr(value)}.")
        if isinstance(value, Mapping) and not is_dataclass(known[name]):
            raise UserError(f"{origin}: {option}: expected a value without names, got {reprlib.repr(value)}.")
        for item in value if isinstance(value, list) else ():
            if not isinstance(item, (str, int, float, type(None))):
                raise UserError(f"{origin}: {option}: expected numbers or words in the list, got {reprlib.repr(item)}.")
        if isinstance(value, Mapping):
            inner = {f.name: getattr(known[name], f.name) for f in fields(known[name])}
            _check_options({_kebab(str(key)): item for key, item in value.items()}, inner, f"{origin}: {option}")


def _check_stated(options: Mapping[str, Any], parts: tuple[Any, ...], origin: str) -> None:
    """Raise a UserError if an option that needs a value has null."""
    empty = {name.replace("-", "_") for name, value in options.items() if value is None}
    for part in parts if empty else ():
        for name, form in get_type_hints(type(part)).items():
            if name in empty and form is not Any and not {None, type(None)} & {*get_args(form)}:
                raise UserError(f"{origin}: {_kebab(name)}: expected a value, got null. State one, or leave it out.")


def flatten(options: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Turn a mapping into command-line arguments: the file's words, through the command line's parser.

    Args:
        options: by name; a mapping is an option that has options of its own.
        known: the present values by field name: one that is true or false is a flag.
    """
    for name, value in options.items():
        flag = prefix + _kebab(name)
        present = known.get(name.replace("-", "_"))
        if isinstance(value, Mapping):
            inner = {f.name: getattr(present, f.name) for f in fields(present)} if is_dataclass(present) else {}
            yield from flatten({str(key): item for key, item in value.items()}, inner, flag + ".")
        elif isinstance(value, bool) and isinstance(present, bool):
            head, dot, last = flag.rpartition(".")
            yield f"--{flag}" if value else f"--{head}{dot}no-{last}"
        elif isinstance(value, (list, tuple)):
            yield f"--{flag}"
            yield from map(str, value)
        else:
            yield f"--{flag}"
            yield str(value)


def words(option: str) -> tuple[str, ...]:
    """Return the words of a comma-separated option; none for "none"."""
    return () if option == "none" else tuple(word.strip() for word in option.split(","))


def _flowing(text: str) -> str:
    """Return what the parser told, without its frame and title and its words on a command line's help."""
    body = text.strip().partition("\n")[2]  # the first line is a title
    words = " ".join(re.sub(r"[\u2500-\u257f]|-{3,}", " ", body).split())
    return words.partition(" For full helptext")[0].removesuffix(".") + "."


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _named(argv: Sequence[str]) -> set[str]:
    return {_kebab(word[2:].partition("=")[0]) for word in argv if word.startswith("--")}


def _one_length(settings: Any, before: Any, stated: set[str], origin: str) -> Any:
    """Let the newer layer's --horizon or --epochs replace the older layer's other one."""
    if {"horizon", "epochs"} <= stated and settings.engine.epochs is not None:
        raise UserError(f"{origin}: --horizon and --epochs state the same thing: expected one of them, got both.")
    if "horizon" in stated and before.engine.epochs is not None:
        return dataclasses.replace(settings, engine=dataclasses.replace(settings.engine, epochs=None))
    return settings


def _last_path(files: Sequence[str]) -> Path | None:
    return Path(files[-1]) if files else None


_ANY = 1 << 62
"""More than any number that makes sense."""

_RANGES: dict[str, tuple[float, float]] = {
    "size": (4, 16384),
    "load_size": (4, 16384),
    "batch": (1, 1 << 20),
    "accumulate": (1, 1 << 20),
    "horizon": (1, _ANY),
    "epochs": (1e-9, _ANY),
    "seed": (-_ANY, _ANY),
    "threads": (1, 4096),
    "clip_norm": (1e-12, 1e12),
    "ema_images": (0, _ANY),
    "ema_rampup": (0, 1),
    "ada_target": (-1, 1),
    "ada_images": (1, _ANY),
    "instance_noise": (0, 1000),
    "tick_every": (1, _ANY),
    "checkpoint_every": (1, _ANY),
    "keep_checkpoints": (1, 1 << 20),
    "preview": (0, 4096),
    "n": (1, 1 << 20),
    "tile": (1, 1 << 20),
    "overlap": (0, 1 << 19),
    "max_steps": (1, _ANY),
    "max_images": (1, _ANY),
    "max_minutes": (0, _ANY),
}


def check_ranges(options: Any) -> None:
    """Check the numbers that a type alone does not.

    Raises:
        UserError: a number lies outside what makes sense.
    """
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if value is None or f.name not in _RANGES:
            continue
        low, high = _RANGES[f.name]
        if not low <= value <= high:
            span = f"a number from {low} to {high}" if high < _ANY or value > high else f"a number of at least {low}"
            raise UserError(f"--{_kebab(f.name)}: expected {span}, got {value}.")
    load_size = getattr(options, "load_size", None)
    if load_size is not None and options.size is not None and load_size < options.size:
        raise UserError(f"--load-size: expected at least --size ({options.size}), got {load_size}.")
    accumulate = getattr(options, "accumulate", 1)
    if getattr(options, "batch", accumulate) % accumulate:
        raise UserError(f"--accumulate: expected a divisor of --batch ({options.batch}), got {accumulate}.")
