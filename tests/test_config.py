"""Options: command line over file over preset over defaults, all through one parser."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.config import COMMAND_ONLY, RunOptions, Settings, check_ranges, from_dict, parse, take_options
from ganengine.errors import UserError
from ganengine.variant import Variant


@dataclass(frozen=True)
class Ramp:
    """Options below the first level."""

    start: float = 1.0
    """Where it begins."""
    smooth: bool = False
    """Without corners."""


@dataclass(frozen=True)
class Config:
    """Options of every form that a variant may have."""

    width: int = 4
    """How wide."""
    weight: float = 10.0
    """How heavy."""
    mirror: bool = True
    """How turned."""
    norm: Literal["batch", "none"] = "batch"
    """How even."""
    betas: tuple[float, float] = (0.5, 0.999)
    """How slow."""
    sizes: tuple[int, ...] = (8, 16)
    """How many."""
    crop: int | None = None
    """How close."""
    ramp: Ramp = field(default_factory=Ramp)
    """How steep."""


VARIANT = Variant(
    "toy",
    "A toy.",
    Config,
    *["json:dumps"] * 4,
    defaults={"batch": 16},
    presets={
        "paper": {"batch": 1, "weight": 100.0, "epochs": 200, "mirror": False, "ramp": {"smooth": True}},
        "short": {"horizon": 500},
    },
)


def read(*argv: str, file: str | None = None) -> Settings:
    """Parse a command line, with `file` as the text of its --config."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "options.yaml")
        if file is not None:
            path.write_text(file, encoding="utf-8")
            argv = (*argv, "--config", str(path))
        return parse(VARIANT, argv, "ganengine run toy")


# -- Layers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "file", "batch", "weight", "mirror"),
    [
        ([], None, 16, 10.0, True),  # the variant's defaults over the engine's
        (["--preset", "paper"], None, 1, 100.0, False),
        (["--preset=paper", "--batch", "4"], None, 4, 100.0, False),
        (["--preset", "paper"], "batch: 2\n", 2, 100.0, False),
        (["--preset", "paper", "--batch", "4"], "batch: 2\nmirror: true\n", 4, 100.0, True),
        (["--no-mirror"], "mirror: true\n", 16, 10.0, False),
        (["--mirror", "--weight=3"], "mirror: false\nweight: 1e-3\n", 16, 3.0, True),
        ([], "", 16, 10.0, True),
    ],
)
def test_precedence(argv: list[str], file: str | None, batch: int, weight: float, mirror: bool) -> None:
    found = read(*argv, file=file)
    assert (found.engine.batch, found.config.weight, found.config.mirror) == (batch, weight, mirror)


@settings(deadline=None, max_examples=15)
@given(st.tuples(*[st.none() | st.integers(1, 99)] * 3), st.tuples(*[st.none() | st.booleans()] * 3))
def test_the_highest_layer_that_states_an_option_holds(
    widths: Sequence[int | None], mirrors: Sequence[bool | None]
) -> None:
    """Preset, file, command line, in rising order; an option of each kind."""
    layers = [
        {name: value for name, value in (("width", width), ("mirror", mirror)) if value is not None}
        for width, mirror in zip(widths, mirrors, strict=True)
    ]
    variant = dataclasses.replace(VARIANT, presets={"p": layers[0]})
    argv = [f"--width={layers[2]['width']}"] if "width" in layers[2] else []
    argv += ["--mirror" if layers[2]["mirror"] else "--no-mirror"] if "mirror" in layers[2] else []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.yaml")
        path.write_text(yaml.safe_dump(layers[1]))
        found = parse(variant, ["--preset", "p", "--config", str(path), *argv], "toy").config
    expected = {"width": 4, "mirror": True} | layers[0] | layers[1] | layers[2]
    assert (found.width, found.mirror) == (expected["width"], expected["mirror"])


def test_a_later_file_stands_over_an_earlier_one(tmp_path: Path) -> None:
    for name, text in (("a", "batch: 2\nwidth: 7\n"), ("b", "batch: 3\n")):
        (tmp_path / name).write_text(text)
    found = read("--config", str(tmp_path / "a"), "--config", str(tmp_path / "b"))
    assert (found.engine.batch, found.config.width) == (3, 7)
    assert found.engine.config == tmp_path / "b"


@pytest.mark.parametrize(
    ("argv", "file", "horizon", "epochs"),
    [
        ([], None, None, None),
        (["--epochs", "2"], None, None, 2.0),
        (["--horizon", "7"], None, 7, None),
        (["--preset", "paper"], None, None, 200.0),
        (["--preset", "paper", "--horizon", "7"], None, 7, None),  # the newer one replaces the older one
        (["--preset", "paper"], "horizon: 7\n", 7, None),
        (["--preset", "paper", "--epochs", "3"], "horizon: 7\n", 7, 3.0),
        (["--preset", "short", "--epochs", "3"], None, 500, 3.0),
        (["--preset", "paper"], "epochs: null\n", None, None),
        (["--preset", "paper", "--epochs", "None"], None, None, None),
    ],
)
def test_horizon_and_epochs_replace_one_another(
    argv: list[str], file: str | None, horizon: int | None, epochs: float | None
) -> None:
    found = read(*argv, file=file).engine
    assert found.epochs == epochs
    if epochs is None:
        assert found.horizon == horizon


@pytest.mark.parametrize(
    ("argv", "file"),
    [
        (["--horizon", "3", "--epochs", "2"], None),
        (["--epochs=2", "--horizon=3"], None),
        ([], "horizon: 3\nepochs: 2\n"),
    ],
)
def test_horizon_and_epochs_of_one_layer_are_one_too_many(argv: list[str], file: str | None) -> None:
    with pytest.raises(UserError, match="--horizon and --epochs state the same thing"):
        read(*argv, file=file)


def test_options_below_the_first_level_have_dots() -> None:
    assert read("--ramp.start", "3").config.ramp == Ramp(3.0, False)
    assert read(file="ramp: {start: 3, smooth: true}\n").config.ramp == Ramp(3.0, True)
    assert read("--preset", "paper", "--ramp.no-smooth").config.ramp == Ramp(1.0, False)
    assert read("--preset", "paper").config.ramp == Ramp(1.0, True)


def test_data_is_the_one_argument_without_a_name() -> None:
    assert read("pictures", "--batch", "2").engine.data == "pictures"
    assert read(file="data: pictures\n").engine.data == "pictures"
    assert read("others", file="data: pictures\n").engine.data == "others"


def test_underscores_do_in_a_file() -> None:
    assert read(file="max_steps: 3\n").engine.max_steps == 3


# -- What is written is what is read -------------------------------------------------------------------------------

numbers = st.floats(1e-6, 1e6, allow_nan=False)
configs = st.builds(
    Config,
    width=st.integers(-99, 99),
    weight=st.floats(allow_nan=False, allow_infinity=False),
    mirror=st.booleans(),
    norm=st.sampled_from(["batch", "none"]),
    betas=st.tuples(numbers, numbers),
    sizes=st.lists(st.integers(-5, 5), max_size=3).map(tuple),
    crop=st.none() | st.integers(0, 9),
    ramp=st.builds(Ramp, start=numbers, smooth=st.booleans()),
)
engines = st.builds(
    RunOptions,
    batch=st.integers(1, 64),
    epochs=st.none() | numbers,
    flip=st.booleans(),
    seed=st.integers(-(1 << 62), 1 << 62),
    size=st.none() | st.integers(4, 64),
    data=st.sampled_from(["", "pictures", "dots:5", "a folder", "--odd"]).filter(lambda word: word != "--odd"),
)


@settings(deadline=None, max_examples=25)
@given(engines, configs)
def test_settings_survive_the_run_folder(engine: RunOptions, config: Config) -> None:
    before = Settings(VARIANT, engine, config)
    text = yaml.safe_dump(before.to_dict(), sort_keys=False, default_flow_style=None)
    after = from_dict(VARIANT, yaml.safe_load(text), "config.yaml")
    assert after == before
    assert after.to_dict() == before.to_dict()


def test_the_file_of_a_run_is_a_config() -> None:
    before = read("pictures", "--preset", "paper", "--width", "9", "--max-steps", "3", "--out", "there")
    after = read(file=yaml.safe_dump(before.to_dict()))
    assert after.config == before.config
    plain = {"out": None, "config": None, "preset": None}
    assert dataclasses.replace(after.engine, **plain) == dataclasses.replace(before.engine, **plain)
    assert read("--width", "2", file=yaml.safe_dump(before.to_dict())).config.width == 2


def test_what_belongs_to_one_command_is_not_written() -> None:
    stored = read("--preset", "paper", "--out", "there").to_dict()
    assert stored.keys().isdisjoint({*COMMAND_ONLY, "out"})
    assert stored["variant"] == "toy"
    assert "horizon" not in stored  # epochs hold
    assert stored["epochs"] == 200.0


@pytest.mark.parametrize(("data", "kept"), [("here", False), ("missing", True), ("dots:5", True), ("", True)])
def test_data_that_is_a_path_is_found_from_everywhere(
    data: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read(data).anchored().engine.data == (data if kept else str(tmp_path / "here"))


# -- Wrong use -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("- 1\n", "each as `name: value`; it holds a list"),
        ("batch\n", "each as `name: value`; it holds one value, 'batch'"),
        ("batch: 2\nseed: 1\nbatch: 4\n", '"batch" is stated twice'),
        ("batch: [2]\n", "batch: expected one value, got a list: [2]"),
        ("a: [\n", "it is no YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "it is no YAML"),
        ("variant: gan\n", 'written for variant "gan", but this is "toy"'),
        ("witdh: 3\n", 'no option is called "witdh". Did you mean width'),
        ("1: 2\n", 'no option is called "1"'),
        ("no-flip: true\n", 'no option is called "no-flip". Did you mean flip'),
        ("flip: maybe\n", "flip: expected true or false, got 'maybe'"),
        ("flip: 1\n", "flip: expected true or false, got 1"),
        ("data: 3\n", "data: expected a path or the name of a data source, got 3"),
        ("preset: paper\n", "--preset belongs on the command line"),
        ("plugin: [mine.py]\n", "--plugin belongs on the command line"),
        ("batch: 0\n", "--batch: expected a number from 1 to 1048576, got 0"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(file: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(file=file)
    assert message in str(caught.value)
    assert caught.value.status == 2


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("batch: two\n", "two"),
        ("batch: 2.5\n", "2.5"),
        ("batch: null\n", "batch: expected a value, got null"),
        ("batch: true\n", "True"),
        ("norm: layer\n", "'layer'"),
        ("betas: 3\n", "--betas"),
        ("betas: [1, 2, 3]\n", "3"),
        ("size: [16, 32]\n", "32"),  # 32 is not taken for the data
        ("size: {width: 3}\n", "size: expected a value without names, got {'width': 3}"),
        ("ramp: {stop: 3}\n", 'ramp: no option is called "stop"'),
        ("ramp: {start: {of: 3}}\n", "ramp: start: expected a value without names"),
    ],
)
def test_a_wrong_type_in_a_file_is_the_command_lines_own_error_and_names_the_file(
    file: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"options\.yaml: ") as caught:
        read(file=file)
    assert message in str(caught.value)
    assert "full helptext" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--preset", "papre"], 'expected one of paper, short (those of toy), got "papre". Did you mean paper'),
        (["--preset"], "--preset: expected a value after it, got nothing"),
        (["--config", "--batch"], "--config: expected a value after it, got --batch"),
        (["--config", "missing.yaml"], "--config missing.yaml: expected a YAML file of options"),
        (["--config", "/"], "it cannot be read"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(argv: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(*argv)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "rest", "taken"),
    [
        (["a", "--x", "1", "b"], ["a", "b"], ["1"]),
        (["--x=1", "--x", "2"], [], ["1", "2"]),
        (["--xy", "1", "x"], ["--xy", "1", "x"], []),
        (["--x", "-1"], [], ["-1"]),
        (["--x=--y"], [], ["--y"]),
    ],
)
def test_take_options(argv: list[str], rest: list[str], taken: list[str]) -> None:
    assert take_options(argv, ("x",)) == (rest, {"x": taken})


OUTSIDE: dict[str, Any] = {
    "size": 3, "load_size": 2, "batch": 0, "accumulate": 0, "horizon": 0, "epochs": 0.0, "threads": 0,
    "ema_images": -1, "ema_rampup": 1.5, "tick_every": 0, "checkpoint_every": 0, "keep_checkpoints": 0, "preview": -1,
    "max_steps": 0, "max_images": -5, "max_minutes": -0.1,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*OUTSIDE.items(), ("max_minutes", float("nan"))])
def test_numbers_outside_what_makes_sense(name: str, value: Any) -> None:
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(UserError, match=f"{flag}: expected a number .*, got {value}"):
        check_ranges(RunOptions(**{name: value}))


def test_numbers_that_do_not_go_together() -> None:
    with pytest.raises(UserError, match=r"--load-size: expected at least --size \(64\), got 32"):
        check_ranges(RunOptions(size=64, load_size=32))
    with pytest.raises(UserError, match=r"--accumulate: expected a divisor of --batch \(8\), got 3"):
        check_ranges(RunOptions(batch=8, accumulate=3))
    check_ranges(RunOptions(batch=8, accumulate=4, size=64, load_size=72))
    check_ranges(RunOptions())
