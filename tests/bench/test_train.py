"""A variant's whole step: every kind of game is measured, each phase has its share, and its arithmetic is counted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

from ganengine.bench import train, training
from ganengine.bench.training import Arithmetic, Engine
from ganengine.config import parse
from ganengine.ops.convolution import convolution, convolution_backward
from ganengine.ops.null import null
from ganengine.plugins import add_path, registry

PLUGINS = Path(__file__).parents[2] / "plugins"
FILTERS = "--g-filters 2 --d-filters 2"
GAMES = [
    ("gan", "gan", f"digits.npz --batch 2 {FILTERS}", ["d", "penalty", "g"]),
    ("gan", "dcgan", f"digits.npz --size 16 --batch 2 {FILTERS} --penalty gp --penalty-every 3", ["d", "penalty", "g"]),
    ("gan", "wgan", f"digits.npz --size 16 --batch 2 {FILTERS} --no-eager-critic", ["d", "g"]),
    ("gan", "wgan-gp", f"digits.npz --size 16 --batch 2 {FILTERS} --d-steps 2", ["d", "g"]),
    ("cgan", "cgan", "digits.npz --batch 2", ["d", "penalty", "g"]),
    ("progan", "progan", "digits.npz --size 8 --batch 2 --filters 4", ["d", "g"]),
    ("pix2pix", "pix2pix", f"pairs --size 16 --batch 2 {FILTERS} --receptive-field 16", ["d", "g"]),
    (
        "cyclegan",
        "cyclegan",
        "pairs --size 16 --batch 2 --g-filters 4 --d-filters 4 --blocks 1 --receptive-field 16",
        ["g", "d"],
    ),
    ("began", "began", "digits.npz --size 16 --batch 2 --filters 4", ["d", "g"]),
    ("stackgan", "gan-int-cls", "pairs --size 16 --batch 2 --g-filters 4 --d-filters 4", ["text"]),
    ("cbn-gan", "cbn-gan", "digits.npz --size 16 --batch 2 --g-filters 4 --d-filters 4", ["d", "g"]),
    ("infogan", "infogan", "digits.npz --batch 2 --g-filters 4 --d-filters 4 --hidden 8 --q-hidden 8", ["d", "g"]),
    ("social-gan", "social-gan", "crossings:8 --batch 2", ["d", "g"]),
]
"""Plugin, variant, options, phases: penalties inside a phase, lazy penalties, and one game of each other kind."""


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the machine's own speed unmeasured."""
    monkeypatch.setattr(training, "machine", lambda device: {})
    monkeypatch.setattr(training, "matmul_gflop_s", lambda device, dtype: 40.0)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with noise as labelled digits, as pairs, and those with captions too."""
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (8, 28, 28), dtype=np.uint8)
    np.savez(folder / "digits.npz", x_train=pixels, y_train=np.arange(8) % 2)
    for number in range(2):
        path = folder / "pairs" / "train" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 32, 3), dtype=np.uint8)).save(path)
    captions = [{"image": f"train/{n}.png", "split": "train", "captions": [f"picture {n}"]} for n in range(2)]
    (folder / "pairs" / "captions.json").write_text(json.dumps(captions))
    return folder


class Inside:
    """The engine's side in this process."""

    def __init__(self, side: str, words: Sequence[str]) -> None:
        assert side == "engine"
        self.engine = Engine(parse(registry().variant(words[0]), words[1:], "ganengine bench train"))

    def __enter__(self) -> Inside:
        self.engine.session.__enter__()
        return self

    def __exit__(self, *end: Any) -> None:
        self.engine.session.__exit__(*end)

    def ask(self, steps: int) -> dict[str, Any]:
        answer: dict[str, Any] = self.engine.train(steps) if steps else self.engine.about()
        assert json.loads(json.dumps(answer)) == answer
        return answer


def words_of(plugin: str, variant: str, options: str, data: Path) -> list[str]:
    """Return the words of a command line; have the variant at hand where it is not installed."""
    if variant not in registry().entries["variant"]:
        add_path(PLUGINS / f"ganengine-{plugin}")
    source, *rest = options.split()
    return [
        variant,
        str(data / source) if (data / source).exists() else source,
        *rest,
        "--threads",
        "1",
        "--precision",
        "fp32",
        "--ops",
        "reference",
    ]


def measured(words: Sequence[str], rounds: int, *, against: bool = False) -> dict[str, Any]:
    def silent(numbers: Iterable[int], count: int) -> Iterable[int]:
        return numbers

    return train.measure(words, against=against, rounds=rounds, seconds=0.0, progress=silent)


@pytest.mark.parametrize(("plugin", "variant", "options", "phases"), GAMES, ids=[game[1] for game in GAMES])
def test_every_kind_of_game(
    plugin: str, variant: str, options: str, phases: list[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Worker", Inside)
    # Blocks of one step each, from the fifth step on: of a lazy phase some have none.
    engine = measured(words_of(plugin, variant, options, data), 4)["engine"]
    assert list(engine["phases_ms"]) == phases
    assert all(times["gradients"] > 0 and times["optimizer"] > 0 for times in engine["phases_ms"].values())
    assert engine["rest_ms"] > 0
    assert engine["gflop_per_step"] > 0


class Told:
    """A side that says what it is told to: blocks of one step, of which two are slow and one has all phases."""

    def __init__(self, side: str, words: Sequence[str]) -> None:
        times = {"engine": [6.0, 3.0, 1.0, 1.0, 1.0], "baseline": [4.0, 4.0, 2.0, 2.0, 2.0]}[side]
        gradients = [(2.0, 0.0, 3.0), (1.0, 1.0, 0.5), (0.25, 0.0, 0.25), (0.25, 0.0, 0.25), (0.25, 0.0, 0.25)]
        self.blocks = [
            {
                "seconds": seconds,
                "images": images,
                "waited": seconds / 10,
                "phases": {
                    "d": {"gradients": d, "optimizer": 0.125},
                    "penalty": {"gradients": penalty, "optimizer": penalty / 4},
                    "g": {"gradients": g, "optimizer": 0.125},
                },
            }
            for seconds, images, (d, penalty, g) in zip(times, (20, 10, 10, 10, 10), gradients, strict=True)
        ]
        self.before = [{"seconds": 1.0}] * 2

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.blocks

    def ask(self, steps: int) -> dict[str, Any]:
        if steps:
            return self.before.pop() if self.before else self.blocks.pop(0)
        return {"machine": {}, "matmul_gflop_s": 40.0, "gflop": 10.0, "choices": {}, "use": None}


def test_a_phase_is_told_by_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "Worker", Told)
    record = measured(["any"], 5, against=True)
    engine = record["engine"]
    assert engine["step_ms"] == pytest.approx(1000)
    # 12 s in all, 10.5 of them in phases; the penalty, in one block of five, has as much of a step as of these.
    share = {"d": (3.75, 0.625), "penalty": (1, 0.25), "g": (4.25, 0.625)}
    assert engine["phases_ms"] == {
        name: {"gradients": pytest.approx(1000 * gradients / 12), "optimizer": pytest.approx(1000 * optimizer / 12)}
        for name, (gradients, optimizer) in share.items()
    }
    assert engine["rest_ms"] == pytest.approx(1000 * 1.5 / 12)
    assert engine["data_wait"] == pytest.approx(0.1)
    # Each block with the pictures that it had: 20 in 6 s, 10 in 3 s, 10 in 1 s, three times.
    assert engine["images_per_step"] == 12
    assert engine["images_per_s"] == {
        "median": pytest.approx(10), "p25": pytest.approx(10 / 3), "p75": pytest.approx(10)
    }  # fmt: skip
    assert record["baseline"]["images_per_s"]["median"] == pytest.approx(5)
    assert record["ratio"]["median"] == pytest.approx(2)


def test_lazy_phases_count_in_proportion(data: Path) -> None:
    with Inside("engine", words_of("cgan", "cgan", "digits.npz --batch 2 --penalty-every 3", data)) as side:
        first = side.ask(0)["gflop"]
        side.ask(1)
        assert side.ask(0)["gflop"] == first  # wherever it begins
        side.engine.trainer.position.step = 3
        with Arithmetic() as due:
            side.engine.trainer.round()
        with Arithmetic() as others:
            side.engine.trainer.round()
    assert due.operations > others.operations
    assert first == pytest.approx((due.operations + 2 * others.operations) / 3 / 1e9)


# ----------------------------------------------------------------------------------------------------------------
# The arithmetic of a step


def squares(network: nn.Module) -> Tensor:
    total: Tensor = network(torch.ones(2, 3, 8, 8)).square().sum()
    return total


def test_the_same_as_torch_counts() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 4), nn.Flatten(), nn.Linear(216, 5)
    )
    with Arithmetic() as ours:
        squares(network).backward()
    with FlopCounterMode(display=False) as theirs:
        squares(network).backward()
    assert ours.operations == theirs.get_total_flops() > 0


def test_a_penalty_on_gradients() -> None:
    n, i, o = 3, 5, 7
    layer = nn.Linear(i, o, bias=False)
    x = torch.ones(n, i, requires_grad=True)
    with Arithmetic() as counted:
        (grad,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        grad.square().sum().backward(inputs=[layer.weight])
    # The layer, its data gradient, and the weights' share in that.
    assert counted.operations == 3 * 2 * n * i * o


def test_layers_in_inference_mode() -> None:
    layer, x = nn.Linear(5, 7), torch.ones(3, 5)
    with torch.inference_mode(), Arithmetic() as counted:
        layer(x)
    assert counted.operations == 2 * 3 * 5 * 7


def test_an_op_of_ours_with_a_formula() -> None:
    x = torch.ones(4, 5, requires_grad=True)

    def step() -> int:
        with Arithmetic() as counted:
            null(x).sum().backward()
        return counted.operations

    def formula(shape: torch.Size, out_shape: torch.Size) -> int:
        assert shape == out_shape
        return math.prod(shape)

    assert step() == 0
    forward, backward = torch.ops.ganengine.null, torch.ops.ganengine.null_backward
    register_flop_formula([forward, backward])(formula)
    try:
        assert step() == 2 * 20
    finally:
        for op in (forward, backward):
            del flop_registry[op]


@pytest.mark.parametrize("wanted", [(), (0,), (1,), (0, 1)], ids=["values", "data", "weights", "both"])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_of_ours_count_as_torchs(transposed: bool, wanted: tuple[int, ...]) -> None:
    kernel, stride, padding = (3, 4), [2, 1], [1, 0]
    x = torch.randn(2, 5, 9, 8).bfloat16()
    weight = torch.randn(5, 7, *kernel) if transposed else torch.randn(7, 5, *kernel)
    beyond = [1, 0] if transposed else [0, 0]
    sides = [(x.shape[2 + k] - 1) * stride[k] - 2 * padding[k] + kernel[k] + beyond[k] for k in (0, 1)]

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        if transposed:
            return convolution_backward(x, weight, None, stride, padding, sides)
        return convolution(x, weight, None, stride, padding)

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        made: Tensor = torch.ops.aten.convolution(x, weight, None, stride, padding, [1, 1], transposed, beyond, 1)
        return made

    counts = []
    for layer, second in ((ours, weight), (theirs, weight.bfloat16())):
        leaves = [t.detach().requires_grad_(k in wanted) for k, t in enumerate((x, second))]
        with Arithmetic() as counted:
            y = layer(*leaves)
            if wanted:
                torch.autograd.grad(y, [leaves[k] for k in wanted], torch.ones_like(y))
        counts.append(counted.operations)
    places = (9 * 8 if transposed else 5 * 5) * 2
    assert counts == [2 * places * weight.numel() * (1 + len(wanted))] * 2
