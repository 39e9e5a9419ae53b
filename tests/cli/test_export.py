"""`ganengine export`: files that other programs load make what the run makes; nothing else is ever written."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from ganengine import ops
from ganengine.cli import main
from ganengine.commands import export
from ganengine.errors import PluginError, UserError
from ganengine.export import formats, load_view, model
from ganengine.export.formats import Exporter
from ganengine.plugins import add_path, registry
from ganengine.runfolder import RunFolder
from ganengine.trained import Trained, load_networks

Go = Callable[..., Any]
Tree = Callable[[Path], dict[str, Any]]

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # of sizes that are asked for
]

RUNS = {
    "gan": (["--architecture", "mlp-small", "--latent", "4"], "ganengine-gan"),
    "cgan": (["--latent", "4"], "ganengine-cgan"),
}
FEW = ["--size", "8", "--batch", "4", "--preview", "0", "--threads", "1", "--precision", "fp32", "--max-steps", "2"]


@pytest.fixture(scope="module")
def runs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a run without labels, one with, and one that translates."""
    classes = tmp_path_factory.mktemp("data")
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        (classes / str(number % 3)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(classes / str(number % 3) / f"{number}.png")
    found = {"pix2pix": trained}
    for variant, (options, plugin) in RUNS.items():
        if variant not in registry().entries["variant"]:
            add_path(ROOT / "plugins" / plugin)
        found[variant] = tmp_path_factory.mktemp("runs") / variant
        assert main(["run", variant, str(classes), *FEW, *options, "--out", str(found[variant])]) == 0
    return found


def inputs(variant: str, count: int, side: int = 16) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(count)
    if variant == "pix2pix":
        return (torch.rand((count, 3, side, side), generator=draw) * 2 - 1,)
    z = torch.randn((count, 4), generator=draw)
    return (z,) if variant == "gan" else (z, torch.eye(3)[torch.arange(count) % 3])


def made_by_the_run(run: Path, given: tuple[Tensor, ...]) -> Tensor:
    """Return what the engine's own sampler makes; of pictures, those of one name."""
    trained = Trained(RunFolder.open(run), device="cpu", precision="fp32", threads=1)
    view = trained.sampler.view(("sample", "translate"))
    if view.kind == "translate":
        return trained.sampler.translate(view, *given, ["export"] * len(given[0]))
    return trained.sampler.sample(view, *given)


def _weights(path: Path, run: Path) -> Callable[..., Tensor]:
    tensors = safetensors.torch.load_file(path)
    view = load_view(run)
    assert isinstance(view, nn.Module)
    view.load_state_dict({f"networks.{name}": tensor for name, tensor in tensors.items()})
    return view


def _onnx(path: Path, run: Path) -> Callable[..., Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [each.name for each in session.get_inputs()]
    return lambda *xs: torch.from_numpy(session.run(None, dict(zip(names, (x.numpy() for x in xs), strict=True)))[0])


LOADERS: dict[str, Callable[[Path, Path], Callable[..., Tensor]]] = {
    "safetensors": _weights,
    "torchscript": lambda path, run: torch.jit.load(str(path)),  # type: ignore[no-any-return]
    "pt2": lambda path, run: torch.export.load(path).module(),
    "onnx": _onnx,
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("variant", ["gan", "cgan", "pix2pix"])
def test_a_file_makes_what_the_run_makes(
    runs: dict[str, Path], variant: str, name: str, go: Go, tmp_path: Path, tree: Tree
) -> None:
    if name == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    out = tmp_path / "new" / ("net" + registry().get("exporter", name).load().suffix)
    done = go("export", runs[variant], "--format", name, "--out", out, "--json", "--threads", "1")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert (told["schema"], told["file"], told["variant"], told["format"]) == (1, str(out), variant, name)
    assert [entry["name"] for entry in told["inputs"]] == {"gan": ["z"], "cgan": ["z", "y"]}.get(variant, ["images"])
    assert all(entry["shape"][0] == "batch" for entry in told["inputs"])
    assert 0 <= told["largest_difference"] < 1e-4
    assert set(tree(tmp_path)) == {"new", f"new/{out.name}"}
    call = LOADERS[name](out, runs[variant])
    for count in (1, 7):
        given = inputs(variant, count)
        with torch.no_grad():
            torch.testing.assert_close(call(*given), made_by_the_run(runs[variant], given), rtol=1e-4, atol=1e-4)


def test_what_files_say_of_themselves(runs: dict[str, Path], go: Go, tmp_path: Path) -> None:
    for name, suffix in (("safetensors", "safetensors"), ("torchscript", "pt"), ("pt2", "pt2")):
        assert go("export", runs["gan"], "--format", name, "--out", tmp_path / f"net.{suffix}").status == 0
    with safetensors.safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert set(file.metadata()) == {"ganengine"}
        found = [file.metadata()["ganengine"]]
    extra = {"ganengine": ""}
    torch.jit.load(str(tmp_path / "net.pt"), _extra_files=extra)  # type: ignore[no-untyped-call]
    found.append(extra["ganengine"])
    extra = {"ganengine": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=extra)
    found.append(extra["ganengine"])
    for each in found:
        text = each.decode() if isinstance(each, bytes) else each
        about = json.loads(text)
        assert (about["variant"], about["view"], about["step"], about["networks"]) == ("gan", "samples", 2, ["G"])


def test_pictures_of_any_size_or_of_one(runs: dict[str, Path], go: Go, tmp_path: Path) -> None:
    run = runs["pix2pix"]
    done = go("export", run, "--format", "torchscript", "--out", tmp_path / "any.pt", "--json")
    assert json.loads(done.out)["inputs"][0]["shape"] == ["batch", 3, "height", "width"]
    call = torch.jit.load(str(tmp_path / "any.pt"))  # type: ignore[no-untyped-call]
    given = (torch.rand(2, 3, 21, 50) * 2 - 1,)
    with torch.no_grad():
        torch.testing.assert_close(call(*given), made_by_the_run(run, given), rtol=1e-4, atol=1e-4)
    # A U-Net whose bottleneck has one pixel at the training's size: torch.export holds that size, or larger ones.
    done = go("export", run, "--out", tmp_path / "own.pt2", "--json")
    assert json.loads(done.out)["inputs"][0]["shape"] == ["batch", 3, 16, 16]
    assert f"pt2 cannot hold this network for pictures of any size: {tmp_path}/own.pt2 takes 16 x 16 pixels" in done.err
    done = go("export", run, "--format", "torchscript", "--out", tmp_path / "larger.pt", "--json", "--size", "24")
    assert json.loads(done.out)["inputs"][0]["shape"] == ["batch", 3, 24, 24]
    assert done.err == ""


def test_nothing_is_replaced_unasked(runs: dict[str, Path], go: Go, tmp_path: Path) -> None:
    out = tmp_path / "net.pt"
    out.write_text("mine")
    command = ("export", runs["gan"], "--format", "torchscript", "--out", out)
    done = go(*command)
    assert done.status == 2
    assert f"{out}: expected names that are free; they exist. Use --overwrite" in done.err
    assert out.read_text() == "mine"
    assert go(*command, "--overwrite").status == 0
    assert torch.jit.load(str(out))(torch.zeros(2, 4)).shape == (2, 1, 8, 8)  # type: ignore[no-untyped-call]


def test_by_default_it_lies_in_the_run(runs: dict[str, Path], go: Go) -> None:
    done = go("export", runs["gan"], "--format", "safetensors")
    out = runs["gan"] / "exported" / "samples.safetensors"
    assert done.out == f"{out}: safetensors of z [batch, 4]; it makes what the run makes, at most 0.0e+00 apart\n"
    assert out.is_file()
    assert go("export", runs["gan"], "--format", "safetensors").status == 2


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
@pytest.mark.parametrize(
    ("form", "name"), [("safetensors", "a.safetensors"), ("torchscript", "a.pt"), ("pt2", "a.pt2")]
)
def test_a_file_may_be_read_by_whom_the_umask_says(
    runs: dict[str, Path], go: Go, tmp_path: Path, form: str, name: str
) -> None:
    before, out = os.umask(0o027), tmp_path / name
    try:
        assert go("export", runs["gan"], "--format", form, "--out", out).status == 0
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "inside", ["checkpoints/net.pt2", "checkpoints/step-000000002/networks.safetensors", "checkpoints/new/net.pt2"]
)
def test_a_run_keeps_its_checkpoints_to_itself(
    runs: dict[str, Path], inside: str, go: Go, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = runs["gan"], tree(runs["gan"])
    (tmp_path / "link").symlink_to(run / "checkpoints")
    form = "safetensors" if inside.endswith("safetensors") else "pt2"
    command = ("export", run, "--format", form, "--overwrite", "--out")
    for out in (run / inside, tmp_path / "link" / inside.partition("/")[2]):
        done = go(*command, out)
        assert (done.status, done.out) == (2, "")
        assert f"{out}: expected a place apart from what the run {run.resolve()} keeps of itself. Use anot" in done.err
    monkeypatch.chdir(run)
    assert "place apart" in go("report", ".", "--out", "checkpoints/a.html").err
    assert "place apart" in go("sample", ".", "--out", "checkpoints/a.png").err
    assert tree(run) == before


@pytest.mark.skipif(os.name == "nt", reason="as long as names may be")
def test_a_name_that_no_file_can_have(runs: dict[str, Path], go: Go, tmp_path: Path, tree: Tree) -> None:
    done = go("export", runs["gan"], "--out", tmp_path / ("n" * 300 + ".pt2"))
    assert done.status == 2
    assert "n.pt2: expected a name that a file can have; it is too long." in done.err
    assert tree(tmp_path) == {}


def test_axes_have_the_names_that_the_file_says(runs: dict[str, Path], go: Go, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert go("export", runs["cgan"], "--format", "onnx", "--out", tmp_path / "net.onnx").status == 0
    data = (tmp_path / "net.onnx").read_bytes()
    graph = onnx.load_from_string(data).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    # Nor do files tell where on this machine they were made.
    assert go("export", runs["cgan"], "--out", tmp_path / "net.pt2").status == 0
    for file in (data, (tmp_path / "net.pt2").read_bytes()):
        assert str(ROOT).encode() not in file
        assert b"site-packages" not in file


def test_a_size_is_for_pictures_that_come_in(runs: dict[str, Path], go: Go, tmp_path: Path) -> None:
    done = go("export", runs["gan"], "--size", "16", "--out", tmp_path / "net.pt2")
    assert (done.status, done.out) == (2, "")
    assert "--size: expected a view that translates, samples draws samples. Leave it out." in done.err


def _broken(*_: Any) -> Any:
    raise ValueError("no such operation")


def _as_it_is(file: bytes, model: Any) -> Any:
    return model.module


def _reading(change: Callable[[Tensor], Tensor]) -> Exporter:
    return Exporter(".net", lambda model: b"whole", lambda file, model: lambda *given: change(model.module(*given)))


OF_THE_PLUGIN = 'The exporter "pt2" of plugin builtin'
WRONG: dict[str, tuple[Any, str]] = {
    "fails to write": (
        Exporter(".net", _broken, _as_it_is),
        f"writing the networks did not work: ValueError: no such operation. Nothing was written. {OF_THE_PLUGIN} may",
    ),
    "fails to read": (
        Exporter(".net", lambda model: b"", _broken),
        "reading the file again did not work: ValueError: no such operation",
    ),
    "fails when it is called": (_reading(_broken), "calling what the file holds did not work: ValueError: no such"),
    "gives another result": (_reading(lambda made: made + 0.01), "it differs by 0.01"),
    "gives another shape": (_reading(lambda made: torch.zeros(3)), "a result [3] in place of [5, 1, 8, 8]"),
    "is not a number": (_reading(lambda made: made * float("nan")), "it differs by nan"),
    "gives no tensor": (_reading(lambda made: None), "expected a Tensor, got a NoneType"),  # type: ignore[arg-type, return-value]
    "writes a text": (
        Exporter(".net", lambda model: "half", _as_it_is),  # type: ignore[arg-type, return-value]
        f"{OF_THE_PLUGIN}: its write returned a str; expected bytes.",
    ),
    "is a function": (_as_it_is, f"{OF_THE_PLUGIN} is a function; expected a ganengine.export.formats.Exporter."),
    "has no dot": (Exporter("net", _broken, _as_it_is), f"{OF_THE_PLUGIN} has the suffix 'net'; expected one like"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_wrong_is_not_written(
    runs: dict[str, Path], name: str, go: Go, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, told = WRONG[name]
    monkeypatch.setattr(formats, "PT2", exporter)
    done = go("export", runs["gan"], "--out", tmp_path / "new" / "deep" / "net.net")
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert tree(tmp_path) == {}


def test_onnx_says_which_extra_it_needs(
    runs: dict[str, Path], go: Go, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = go("export", runs["gan"], "--format", "onnx", "--out", tmp_path / "net.onnx")
    assert done.status == 2
    assert "pip install 'ganengine[export]'" in done.err
    assert tree(tmp_path) == {}


def test_the_limit_is_below_a_level_of_a_picture() -> None:
    assert 8 * export.MOST <= 2 / 255 + 1e-3


# ----------------------------------------------------------------------------------------------------------------
# In Python


def test_networks_are_the_averaged_ones_in_eval_mode(runs: dict[str, Path]) -> None:
    threads, mode = torch.get_num_threads(), ops.mode()
    networks = load_networks(runs["pix2pix"])
    assert (torch.get_num_threads(), ops.mode()) == (threads, mode)
    assert set(networks) == {"G", "D"}
    assert not any(module.training for network in networks.values() for module in network.modules())
    kept = safetensors.torch.load_file(runs["pix2pix"] / "checkpoints" / "step-000000003" / "networks.safetensors")
    for name, saved in (("G", "G_ema"), ("D", "D")):
        for path, tensor in networks[name].state_dict().items():
            assert torch.equal(tensor, kept[f"{saved}/{path}"]), path
    weights = [name.removeprefix("G/") for name in kept if name.startswith("G/") and name.endswith("weight")]
    assert any(not torch.equal(kept[f"G_ema/{path}"], kept[f"G/{path}"]) for path in weights)
    assert {type(module).__module__.split(".")[0] for module in networks["G"].modules()} <= {
        "torch", "ganengine", "ganengine_pix2pix",
    }  # fmt: skip
    assert type(networks["G"].down[0]) is nn.Conv2d


@pytest.mark.parametrize("variant", ["gan", "cgan", "pix2pix"])
def test_a_view_is_what_the_run_makes(runs: dict[str, Path], variant: str) -> None:
    view, given = load_view(runs[variant]), inputs(variant, 4)
    with torch.no_grad():
        torch.testing.assert_close(view(*given), made_by_the_run(runs[variant], given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "given", "told"),
    [
        ("gan", (torch.zeros(4),), "z: expected float32 [N, 4], latents; got float32 [4]."),
        ("gan", (torch.zeros(2, 5),), "z: expected float32 [N, 4], latents; got float32 [2, 5]."),
        ("gan", (torch.zeros(0, 4),), "z: expected float32 [N, 4], latents; got float32 [0, 4]."),
        ("gan", (np.zeros((2, 4)),), "z: expected float32 [N, 4], latents; got a ndarray."),
        ("cgan", (torch.zeros(3, 4), torch.zeros(2, 3)), "Expected as many rows in each input; got z of 3 and y of 2."),
        ("cgan", (torch.zeros(2, 4), torch.tensor([0, 1])), "functional.one_hot(ids, K).float()); got int64 [2]"),
        ("pix2pix", (torch.zeros(3, 16, 16),), "float32 [N, 3, H, W], pictures on [-1, 1]; got float32 [3, 16, 16]."),
        ("pix2pix", (torch.zeros(1, 1, 16, 16),), "images: expected float32 [N, 3, H, W]"),
        ("pix2pix", (torch.zeros(1, 3, 16, 16, dtype=torch.uint8),), "got uint8 [1, 3, 16, 16]."),
    ],
)  # fmt: skip
def test_a_view_says_what_it_takes(runs: dict[str, Path], variant: str, given: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        load_view(runs[variant])(*given)


def test_a_run_without_such_a_view(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "KINDS", ("forecast",))
    with pytest.raises(PluginError, match=r"this variant has none\. ganengine\.trained\.load_networks gives its net"):
        load_view(runs["gan"])


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Forget a plugin that a test adds."""
    before = sys.path[:]
    yield
    sys.path[:] = before
    registry.cache_clear()
    for name in ("state_dict", "state_dict_plugin"):
        sys.modules.pop(name, None)


def test_the_page_runs(
    runs: dict[str, Path], forgotten: None, go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "export.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pix2pix").symlink_to(runs["pix2pix"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(block, names)
    for name, block in zip(("state_dict.py", "state_dict_plugin.py"), blocks[2:], strict=True):
        (tmp_path / name).write_text(block)
    command = ("export", "runs/pix2pix", "--format", "state-dict", "--out", "translate.pth")
    done = go(*command, "--plugin", "state_dict_plugin.py")
    assert done.status == 0, done.err
    assert set(torch.load("translate.pth")) == set(load_view("runs/pix2pix").state_dict())
