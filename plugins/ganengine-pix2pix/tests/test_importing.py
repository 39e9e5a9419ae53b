"""Weights of pytorch-CycleGAN-and-pix2pix: an imported network computes what the original computes.

The originals are built here, from the published layout, in plain torch modules.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ganengine import checkpoint
from ganengine.cli import main
from ganengine.commands.importing import read_weights
from ganengine.data.pictures import to_uint8
from ganengine.nn import Dropout
from ganengine.plugins import add_path, registry
from ganengine.runfolder import RunFolder
from ganengine.trained import Trained
from PIL import Image
from torch import Tensor, nn

from ganengine_pix2pix.importing import build
from ganengine_pix2pix.networks import PatchGAN, UNet

ROOT = Path(__file__).parents[1]
PLAIN = ("--dropout", "0", "--threads", "1", "--device", "cpu", "--ops", "reference")


@pytest.fixture(autouse=True)
def _at_hand() -> Iterator[None]:
    if "pix2pix" not in registry().entries["variant"]:
        add_path(ROOT)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# -- the published layout ------------------------------------------------------------------------------------------


def norms(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


class Holder(nn.Module):
    """A network under the attribute that its tensors are named after."""

    def __init__(self, inside: nn.Module, name: str = "model") -> None:
        super().__init__()
        self.name = name
        setattr(self, name, inside)

    def forward(self, x: Tensor) -> Tensor:
        painted: Tensor = getattr(self, self.name)(x)
        return painted


class Beside(Holder):
    """What comes in, beside what the layers make of it (the first of them works in place)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], 1)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norms(norm, width), nn.ReLU(True),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norms(norm, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.conv_block(x)
        return added


def unet(a: int, b: int, filters: int, levels: int, norm: str, dropout: bool = False) -> nn.Module:
    bias = norm == "instance"

    def down(i: int, o: int) -> nn.Module:
        return nn.Conv2d(i, o, 4, 2, 1, bias=bias)

    def up(i: int, o: int) -> list[nn.Module]:
        return [nn.ReLU(True), nn.ConvTranspose2d(i, o, 4, 2, 1, bias=bias), norms(norm, o)]

    wide = filters * 8
    inner: nn.Module = Beside(nn.Sequential(nn.LeakyReLU(0.2, True), down(wide, wide), *up(wide, wide)))
    widths = [(wide, wide)] * (levels - 5) + [(filters * n, filters * 2 * n) for n in (4, 2, 1)]
    for depth, (outside, inside) in enumerate(widths):
        layers = [nn.LeakyReLU(0.2, True), down(outside, inside), norms(norm, inside), inner, *up(inside * 2, outside)]
        inner = Beside(nn.Sequential(*layers, *([nn.Dropout(0.5)] if dropout and depth < levels - 5 else [])))
    end = [nn.ReLU(True), nn.ConvTranspose2d(filters * 2, b, 4, 2, 1), nn.Tanh()]
    return Holder(Holder(nn.Sequential(down(a, filters), inner, *end)))


def resnet(a: int, b: int, filters: int, blocks: int, norm: str, dropout: bool = False) -> nn.Module:
    bias = norm == "instance"
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(a, filters, 7, bias=bias)]
    layers += [norms(norm, filters), nn.ReLU(True)]
    for width in (filters * 2, filters * 4):
        layers += [nn.Conv2d(width // 2, width, 3, 2, 1, bias=bias), norms(norm, width), nn.ReLU(True)]
    layers += [Block(filters * 4, norm, dropout) for _ in range(blocks)]
    for width in (filters * 2, filters):
        layers += [nn.ConvTranspose2d(width * 2, width, 3, 2, 1, output_padding=1, bias=bias)]
        layers += [norms(norm, width), nn.ReLU(True)]
    return Holder(nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(filters, b, 7), nn.Tanh()))


def patchgan(channels: int, filters: int, strided: int, norm: str) -> nn.Module:
    widths = [filters * min(2**depth, 8) for depth in range(strided + 1)]
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for depth in range(1, strided + 1):
        stride = 2 if depth < strided else 1
        layers += [nn.Conv2d(widths[depth - 1], widths[depth], 4, stride, 1, bias=norm == "instance")]
        layers += [norms(norm, widths[depth]), nn.LeakyReLU(0.2, True)]
    return Holder(nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1)))


def pixelgan(channels: int, filters: int, norm: str) -> nn.Module:
    bias = norm == "instance"
    first = [nn.Conv2d(channels, filters, 1), nn.LeakyReLU(0.2, True)]
    second = [nn.Conv2d(filters, filters * 2, 1, bias=bias), norms(norm, filters * 2), nn.LeakyReLU(0.2, True)]
    return Holder(nn.Sequential(*first, *second, nn.Conv2d(filters * 2, 1, 1, bias=bias)), "net")


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give everything that is trained or counted a value that is no special one."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
            elif tensor.dim() > 1:
                tensor.copy_(torch.randn(tensor.shape, generator=draw) * (0.7 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=draw) * 0.3
                tensor.copy_(noise + 1 if name.endswith("weight") else noise)
    return network


# -- importing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


Go = Callable[..., Done]


@pytest.fixture
def go(capsys: pytest.CaptureFixture[str]) -> Go:
    def command(*argv: object) -> Done:
        capsys.readouterr()
        try:
            status = main([str(word) for word in argv])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        return Done(status, *capsys.readouterr())

    return command


def published(tensors: dict[str, Tensor], path: Path, scheme: str) -> Path:
    """Save a state_dict in one of the forms that are about."""
    if scheme in ("module", "compiled"):
        prefix = {"module": "module.", "compiled": "_orig_mod.module."}[scheme]
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    if scheme == "old":  # before PyTorch 0.4: instance norm kept statistics, nothing counted batches
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(tensors, path)
    return path


def with_old_statistics(network: nn.Module) -> dict[str, Tensor]:
    tensors = dict(network.state_dict())
    for name, module in network.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            tensors |= {f"{name}.{leaf}": torch.rand(module.num_features) for leaf in ("running_mean", "running_var")}
    return tensors


def imported(go: Go, tmp_path: Path, *networks: nn.Module, options: tuple[str, ...] = PLAIN) -> Trained:
    files = [tmp_path / f"net_{number}.pth" for number in range(len(networks))]
    for file, network in zip(files, networks, strict=True):
        torch.save(network.state_dict(), file)
    small = () if len(networks) > 1 else ("--d-filters", "1")
    done = go("import", "pix2pix", *files, "--out", tmp_path / "run", *options, *small)
    assert done.status == 0, done.err
    return Trained(RunFolder.open(tmp_path / "run"), device="cpu", threads=1, precision="fp32")


def translated(trained: Trained, x: Tensor, statistics: str = "own") -> Tensor:
    trained.sampler.statistics = statistics  # type: ignore[assignment]
    view = trained.sampler.view("translate")
    return torch.cat([trained.sampler.translate(view, one[None], ["x"]) for one in x])


def pictures(channels: int, side: int, height: int | None = None) -> Tensor:
    return torch.rand(2, channels, height or side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1


def one_by_one(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(one[None]) for one in x])


GENERATORS = {
    "unet 256": (unet, 8, 256, {"generator": "unet", "levels": 8, "size": 256, "unet-layout": "pytorch"}),
    "unet 128": (unet, 7, 128, {"generator": "unet", "levels": 7, "size": 128, "load-size": 143}),
    "unet of 5 levels": (unet, 5, 32, {"generator": "unet", "levels": 5, "size": 32}),
    "resnet 9": (resnet, 9, 32, {"generator": "resnet-9", "levels": None, "size": 256, "load-size": 286}),
    "resnet 6": (resnet, 6, 32, {"generator": "resnet-6", "levels": None, "size": 256}),
}


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("generator", GENERATORS)
def test_an_imported_generator_computes_what_the_original_computes(
    generator: str, norm: str, tmp_path: Path, go: Go
) -> None:
    make, size, side, described = GENERATORS[generator]
    original = randomised(make(3, 2, 2, size, norm))
    torch.save(original.state_dict(), tmp_path / "latest_net_G.pth")
    file = tmp_path / "latest_net_G.pth"
    done = go("import", "pix2pix", file, "--out", tmp_path / "run", *PLAIN, "--d-filters", 1)
    assert done.status == 0, done.err
    assert f"2 filters, {norm} norm, 3 -> 2 channels" in done.out
    assert done.err == "D is in none of the files: it starts anew.\n"
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config.items() >= {**described, "norm": norm, "g-filters": 2, "arm": "l1+cgan", "batch": 1}.items()
    trained = Trained(RunFolder.open(tmp_path / "run"), device="cpu", threads=1, precision="fp32")
    x = pictures(3, side, height=side * 2 if side < 128 else side)
    # That repository tests with the norms in training mode, one picture at a time, unless told --eval.
    for statistics, training in (("running", False), ("own", True)):  # in training the running ones move
        expected = one_by_one(original.train(training), x)
        assert expected.std() > 0.05  # neither flat nor all at the ends of tanh
        assert expected.abs().mean() < 0.8
        torch.testing.assert_close(translated(trained, x, statistics), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("strided", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("sees", ["input and output", "output"])
def test_an_imported_discriminator_computes_what_the_original_computes(strided: int, norm: str, sees: str) -> None:
    channels = 5 if sees == "input and output" else 2
    D = patchgan(channels, 2, strided, norm) if strided else pixelgan(channels, 2, norm)
    D = randomised(D, seed=1)
    found = build({"G": resnet(3, 2, 2, 6, norm).state_dict(), "D": D.state_dict()})
    field = [1, 16, 34, 70, 142, 286][strided]
    described = {"arm": "l1+cgan" if channels == 5 else "l1+gan", "d-filters": 2, "receptive-field": field}
    assert found.options.items() >= described.items()
    network = PatchGAN(channels, 2, field, norm)  # type: ignore[arg-type]
    network.load_state_dict({n.removeprefix("D/"): t for n, t in found.networks.items() if n.startswith("D/")})
    x = pictures(channels, 128)
    for mode in (False, True):  # in training the running statistics move
        expected = one_by_one(D.train(mode), x)
        torch.testing.assert_close(one_by_one(network.train(mode), x), expected, rtol=1e-5, atol=1e-5)


SCHEMED = {
    "unet": lambda norm: {"unet": unet(3, 3, 2, 6, norm)},
    "resnet": lambda norm: {"resnet": resnet(3, 3, 2, 6, norm)},
    "patchgan": lambda norm: {"unet": unet(3, 3, 2, 5, norm), "patchgan": patchgan(6, 2, 3, norm)},
}


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("scheme", ["module", "compiled", "old"])
@pytest.mark.parametrize("network", SCHEMED)
def test_names_of_every_scheme_mean_the_same(network: str, norm: str, scheme: str, tmp_path: Path) -> None:
    networks = {name: randomised(made) for name, made in SCHEMED[network](norm).items()}
    files = {name: dict(made.state_dict()) for name, made in networks.items()}
    plain = build(files)
    tensors = with_old_statistics(networks[network]) if scheme == "old" else files[network]
    found = build({**files, network: read_weights(published(tensors, tmp_path / "latest_net.pth", scheme))})
    assert found.options == plain.options
    assert found.networks.keys() == plain.networks.keys()
    for name, tensor in plain.networks.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(found.networks[name], tensor), name


@pytest.mark.parametrize("make", [unet, resnet])
def test_dropout_stands_where_it_stood(
    make: Callable[..., nn.Module], tmp_path: Path, go: Go, monkeypatch: Any
) -> None:
    """A mask that follows from the shape alone, in both: equal results, or the layers that drop are others."""

    def fixed(self: nn.Module, x: Tensor) -> Tensor:
        assert self.p == 0.5
        draw = torch.Generator().manual_seed(x[0].numel())
        return x * 2 * (torch.rand(x[0].shape, generator=draw) < 0.5)

    for layer in (nn.Dropout, Dropout):
        monkeypatch.setattr(layer, "forward", fixed)
    original = randomised(make(3, 3, 2, 8 if make is unet else 6, "batch", dropout=True))
    trained = imported(go, tmp_path, original, options=PLAIN[2:])
    assert trained.settings.config.dropout == 0.5
    x = pictures(3, 256 if make is unet else 32)
    torch.testing.assert_close(translated(trained, x), one_by_one(original, x), rtol=0, atol=1e-5)


def test_a_residual_generator_without_dropout_gets_none(tmp_path: Path, go: Go) -> None:
    """It tells, by the numbers of its layers; a U-Net does not, and gets the paper's."""
    found = build({"G": resnet(3, 3, 2, 6, "instance").state_dict()}).options["dropout"]
    told = build({"G": resnet(3, 3, 2, 6, "instance", dropout=True).state_dict()}).options["dropout"]
    assert (found, told) == (0.0, 0.5)
    assert build({"G": unet(3, 3, 2, 5, "batch").state_dict()}).options["dropout"] == 0.5


def test_published_sizes_are_recognised() -> None:
    with torch.device("meta"):
        G, D = unet(3, 3, 64, 8, "batch"), patchgan(6, 64, 3, "batch")
    files = {role: net.state_dict() for role, net in (("D", D), ("G", G))}  # in any order
    found = build({role: {n: torch.zeros(()).expand(t.shape) for n, t in file.items()} for role, file in files.items()})
    assert found.summary == (
        "U-Net of 8 levels, 64 filters, batch norm, 3 -> 3 channels (its dropout is not told), "
        "PatchGAN of 70 x 70, 64 filters, batch norm, 6 -> 1 channels"
    )
    assert found.options["unet-layout"] == "pytorch"
    counted = {role: sum(t.numel() for n, t in found.networks.items() if n.startswith(role)) for role in "GD"}
    buffers = {role: sum(b.numel() for b in net.buffers()) for role, net in (("G", G), ("D", D))}
    assert {role: counted[role] - buffers[role] for role in "GD"} == {"G": 54_413_955, "D": 2_768_705}


# -- the run that comes of it --------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Return pairs of 32 pixels, the input (3 channels) on the right."""
    draw = np.random.default_rng(0)
    for split, many in (("train", 3), ("test", 2)):
        for number in range(many):
            path = tmp_path / "pairs" / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (32, 64, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pairs"


def test_every_command_takes_the_run(tmp_path: Path, go: Go, pairs: Path) -> None:
    original = randomised(unet(3, 3, 2, 5, "batch"))
    options = ("--direction", "BtoA", "--data", str(pairs), *PLAIN)
    imported(go, tmp_path, original, randomised(patchgan(6, 2, 3, "batch"), 1), options=options)
    run, source = tmp_path / "run", pairs / "test" / "0.png"
    assert go("translate", run, source, tmp_path / "out.png", "--threads", 1).status == 0
    with Image.open(source) as before, Image.open(tmp_path / "out.png") as after:
        x = torch.tensor(np.asarray(before)).permute(2, 0, 1)[None] / 127.5 - 1
        expected = to_uint8(one_by_one(original, x))[0].astype(int)
        assert np.abs(np.asarray(after).astype(int) - expected).max() <= 1  # a level, where a rounding falls otherwise
    evaluated = go("eval", run, "--json")
    assert evaluated.status == 0, evaluated.err
    assert '"n": 2' in evaluated.out
    assert "B -> A, 2 pictures" in evaluated.out
    assert go("sample", run, "--n", 2).status == 0
    further = (pairs, "--config", run / "config.yaml", "--init-from", run, "--max-steps", 1, "--preview", 0)
    started = go("run", "pix2pix", *further, "--out", tmp_path / "further")
    assert started.status == 0, started.err
    count = len(checkpoint.newest(run / "checkpoints")[0].networks)
    assert f"Took {count} of {count} tensors over" in started.out.replace("\n", " ")
    resumed = go("resume", run, "--max-steps", 1)
    assert resumed.status == 0, resumed.err
    assert "Going on at step 0" in resumed.out
    assert "data has changed" not in resumed.out
    assert checkpoint.newest(run / "checkpoints")[0].step == 1


def test_what_the_files_do_not_tell_can_be_said(tmp_path: Path, go: Go) -> None:
    G = randomised(resnet(1, 4, 2, 6, "instance", dropout=True))
    options = (*PLAIN, "--direction", "BtoA", "--size", "64", "--load-size", "64", "--ema-images", "1000")
    trained = imported(go, tmp_path, G, options=options)
    assert (trained.spec.channels("B"), trained.spec.channels("A")) == (1, 4)
    assert trained.spec.fields["A"].shape[1:] == (64, 64)
    assert trained.settings.config.dropout == 0
    x = pictures(1, 32)  # the average begins at the weights
    for module in G.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(translated(trained, x), one_by_one(G, x), rtol=0, atol=1e-5)


def test_the_same_file_gives_the_same_run(tmp_path: Path, go: Go) -> None:
    torch.save(randomised(unet(3, 3, 2, 5, "batch")).state_dict(), tmp_path / "G.pth")
    for name in ("a", "b"):
        assert go("import", "pix2pix", tmp_path / "G.pth", "--out", tmp_path / name, *PLAIN).status == 0
    a, b = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.suffix in (".pt", ".yaml")}
        for n in "ab"
    )
    assert len(a) == 2
    assert a == b


# -- what is refused -----------------------------------------------------------------------------------------------


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key != name}


SMALL = unet(3, 3, 1, 5, "batch").state_dict()
FILES: dict[str, Any] = {
    "G.pth": SMALL,
    "resnet.pth": resnet(3, 3, 1, 6, "instance").state_dict(),
    "D.pth": patchgan(6, 1, 3, "batch").state_dict(),
    "D-instance.pth": patchgan(6, 1, 3, "instance").state_dict(),
    "D-4.pth": patchgan(4, 1, 3, "batch").state_dict(),
    "D-7.pth": patchgan(6, 1, 7, "batch").state_dict(),
    "resnet-4.pth": resnet(3, 3, 1, 4, "batch").state_dict(),
    "unet-4.pth": Holder(Holder(nn.Sequential(nn.Conv2d(3, 1, 4), *[Holder(nn.Conv2d(1, 1, 4))] * 2))).state_dict(),
    "linear.pth": nn.Linear(3, 2).state_dict(),
    "model-linear.pth": Holder(nn.Sequential(nn.Linear(3, 2))).state_dict(),
    "lacking.pth": without(SMALL, "model.model.1.model.2.weight"),
    "lacking-stats.pth": without(SMALL, "model.model.1.model.2.running_mean"),
    "besides.pth": {**SMALL, "model.model.9.weight": torch.zeros(1)},
    "biased.pth": {**SMALL, "model.model.1.model.1.bias": torch.zeros(2)},
    "misshapen.pth": {**SMALL, "model.model.1.model.1.weight": torch.zeros(3, 1, 4, 4)},
    "sparse.pth": {**SMALL, "model.model.1.model.1.weight": torch.zeros(2, 16).to_sparse()},
    "wrapped.pth": {"epoch": 3, "state_dict": SMALL},
    "optimizer.pth": torch.optim.Adam([nn.Parameter(torch.zeros(1))]).state_dict(),
    "list.pth": [torch.zeros(3)],
    "tensor.pth": torch.zeros(3),
    "nothing.pth": {},
    "whole.pth": nn.Sequential(nn.Linear(2, 2)),
    "hostile.pth": Hostile(),
}

WRONG: list[tuple[str, str]] = [
    # What is in the files
    ("pix2pix linear.pth", r"seems to be a network of another kind: 2 tensors \(weight \[2, 3\], bias \[2\]\)"),
    ("pix2pix model-linear.pth", r"seems to be a network of another kind: 2 tensors \(model.0.weight \[2, 3\]"),
    ("pix2pix resnet-4.pth", "seems to be a ResNet of 4 blocks from layer 10 on; those have 6 or 9"),
    ("pix2pix unet-4.pth", "seems to be a U-Net of 2 levels; those have 7 or 8"),
    ("pix2pix G.pth D-7.pth", "D-7.pth: expected weights of .* a network of another kind: "),
    ("pix2pix lacking.pth", "seems to be a UNet without|seems to be a UNet with"),
    ("pix2pix lacking-stats.pth", "seems to be a UNet without model.model.1.model.2.running_mean"),
    ("pix2pix besides.pth", "seems to be a UNet with model.model.9.weight besides"),
    ("pix2pix biased.pth", "seems to be a UNet with model.model.1.model.1.bias besides"),
    ("pix2pix misshapen.pth", r"model.model.1.model.1.weight is \[3, 1, 4, 4\], \[2, 1, 4, 4\] is needed"),
    ("pix2pix sparse.pth", "seems to be tensors that are not dense, such as model.model.1.model.1.weight"),
    ("pix2pix wrapped.pth", 'a dictionary that holds epoch, state_dict. Where that is in "state_dict", save it'),
    ("pix2pix optimizer.pth", "a dictionary that holds state, param_groups"),
    ("pix2pix list.pth", "seems to be a list"),
    ("pix2pix tensor.pth", "seems to be a Tensor"),
    ("pix2pix nothing.pth", "seems to be empty"),
    # What is not read at all
    (
        "pix2pix whole.pth",
        r"would run code when it is read \(torch.nn.modules.container.Sequential\), which is refused",
    ),
    ("pix2pix hostile.pth", r"would run code when it is read \(posix.mkdir\), which is refused"),
    ("pix2pix pickle.pth", "expected a file that torch.save wrote|would run code"),
    ("pix2pix picture.pth", "expected a file that torch.save wrote; it is damaged, or of another kind"),
    ("pix2pix blank.pth", "expected a file that torch.save wrote"),
    ("pix2pix cut.pth", "expected a file that torch.save wrote"),
    ("pix2pix missing.pth", "missing.pth: expected a file of weights; there is none"),
    ("pix2pix folder", "folder: expected a file of weights; there is a folder"),
    # What does not fit together
    ("pix2pix D.pth", "expected a generator; there is a D alone"),
    ("pix2pix G.pth resnet.pth", "resnet.pth: expected one G and at most one D; this is a second G"),
    ("pix2pix G.pth D-instance.pth", "G has batch norm, D has instance"),
    ("pix2pix G.pth D-4.pth", r"sees input and output \(3 \+ 3 channels\) or the output alone; this one sees 4"),
    ("pix2pix G.pth --g-filters 2", "do not fit these networks.* The files hold: U-Net of 5 levels, 1 filters"),
    ("pix2pix G.pth --levels 6", "do not fit these networks"),
    ("pix2pix G.pth --norm instance", "do not fit these networks"),
    ("pix2pix G.pth --generator resnet-6", "do not fit these networks"),
    ("pix2pix G.pth D.pth --arm l1", "do not fit these networks"),
    # The command line
    ("", "expected the name of a variant first. Variants that import: .*pix2pix"),
    ("--out made", "expected the name of a variant first. Variants that import: .*pix2pix"),
    ("pix2pux G.pth", 'No variant is called "pix2pux". Did you mean pix2pix'),
    ("pix2pix", "expected files of weights after pix2pix"),
    ("pix2pix --out made", "expected files of weights after pix2pix"),
    ("pix2pix G.pth --lambda-l2 3", "Unrecognized options: --lambda-l2"),
    ("pix2pix G.pth --batch 0 D.pth", "D.pth"),
    ("pix2pix G.pth --batch 0", "--batch: expected a number from 1"),
    ("pix2pix G.pth --levels 0", "--levels: expected a number from 1 to 10, got 0"),
    ("pix2pix G.pth --out folder", "--out folder: expected a name that is free"),
    ("pix2pix G.pth --out G.pth/run", "expected a folder to make it in; G.pth is none"),
    ("pix2pix G.pth --init-from folder", "--init-from: expected weights from the files alone"),
    ("pix2pix G.pth --data nowhere", '"nowhere": no such folder, and no data source of that name'),
    ("pix2pix G.pth --device cuda:99", '"cuda:99" is not there'),
]


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        torch.save(content, place / name)
    (place / "pickle.pth").write_bytes(pickle.dumps({"a": Hostile()}))
    (place / "picture.pth").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (place / "blank.pth").write_bytes(b"")
    whole = (place / "G.pth").read_bytes()
    (place / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (place / "folder").mkdir()
    return place


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words or "nothing" for words, _ in WRONG])
def test_what_is_wrong_is_refused_and_leaves_nothing(
    words: str, message: str, wrong_files: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(wrong_files)
    before = sorted(wrong_files.rglob("*"))
    argv = words.split()
    done = go("import", *argv, *([] if "--out" in argv or not argv else ["--out", "made/run", "--d-filters", "1"]))
    assert done.status == 2
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", done.err + done.out).split())
    assert re.search(message, told), told
    assert "Traceback" not in told
    assert sorted(wrong_files.rglob("*")) == before


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_the_file_is_no_traceback(bit: int, tmp_path: Path, go: Go) -> None:
    torch.save(SMALL, tmp_path / "G.pth")
    draw = np.random.default_rng(bit)
    whole = bytearray((tmp_path / "G.pth").read_bytes())
    for place in draw.integers(0, len(whole), 40):
        whole[place] ^= 1 << bit
    (tmp_path / "bad.pth").write_bytes(whole)
    done = go("import", "pix2pix", tmp_path / "bad.pth", "--out", tmp_path / "run", *PLAIN)
    assert done.status in (0, 2)
    assert (tmp_path / "run").exists() == (done.status == 0)


def test_a_variant_without_an_importer_says_so(tmp_path: Path, go: Go) -> None:
    (tmp_path / "plain_gan.py").write_text(
        "from dataclasses import dataclass\nfrom ganengine.hookspecs import hookimpl\n"
        "from ganengine.variant import Variant\nGANENGINE_API = 1\n\n"
        "@dataclass(frozen=True)\nclass Config:\n    pass\n\n"
        "@hookimpl\ndef ganengine_variants():\n"
        '    return [Variant("plain-gan", "Plain.", Config, *["plain_gan:build"] * 4)]\n'
    )
    done = go("import", "plain-gan", "G.pth", "--plugin", tmp_path / "plain_gan.py")
    assert done.status == 2
    assert "plain-gan does not import weights of others. Variants that import: " in done.err


# -- the layout that an import asks for ----------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "dropped"), [(5, []), (6, [4]), (7, [5, 4]), (8, [6, 5, 4])])
def test_the_layout_of_the_pytorch_code(levels: int, dropped: list[int]) -> None:
    network = UNet(3, 3, 1, levels, "instance", 0.5, skips=True, layout="pytorch")
    holders = [any(isinstance(m, Dropout) for m in layer.modules()) for layer in network.up]
    assert [levels - 1 - index for index, holds in enumerate(holders) if holds] == dropped
    biased = [name for name, m in network.named_modules() if getattr(m, "kernel_size", 0) and m.bias is not None]
    assert biased == ["down.0", f"down.{levels - 1}", f"up.{levels - 1}"]
    paper = UNet(3, 3, 1, levels, "instance", 0.5, skips=True)
    assert [name for name, m in paper.named_modules() if getattr(m, "kernel_size", 0) and m.bias is not None] == [
        f"up.{levels - 1}"
    ]
    assert isinstance(PatchGAN(6, 1, 70, "instance").layers[2], nn.Conv2d)
