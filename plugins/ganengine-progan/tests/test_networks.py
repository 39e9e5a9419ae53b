"""Networks: shapes, parameters of the paper's counted by hand, and what a fade begins and ends with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from ganengine.errors import UserError
from ganengine.players import network_tensors
from ganengine.variant import DataSpec, FieldSpec, Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_progan.config import SIDES, ProGANConfig
from ganengine_progan.networks import Discriminator, Generator, build, down, up

NARROW: dict[str, Any] = {"latent": 5, "filters": 16, "widest": 6}


def built(side: int, channels: int = 1, **options: Any) -> tuple[nn.Module, nn.Module]:
    spec = DataSpec({"real": FieldSpec("image", (channels, 64, 64))}, 4)
    networks = build(ProGANConfig(**{**NARROW, **options}), spec, Stage((), size=side))
    return networks["G"], networks["D"]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv(inputs: int, outputs: int, side: int = 3) -> int:
    return side * side * inputs * outputs + outputs


# -- sizes ---------------------------------------------------------------------------------------------------------


def test_papers_networks_have_the_number_of_parameters_worked_out_by_hand() -> None:
    config = ProGANConfig(latent=512, filters=8192, widest=512)
    widths = [512, 512, 512, 512, 256, 128, 64, 32, 16]  # table 2: of 4 x 4 to 1024 x 1024
    assert [config.width(side) for side in SIDES] == widths
    with torch.device("meta"):
        G, D = Generator(config, 3, 1024), Discriminator(config, 3, 1024)
    levels = list(pairwise(widths))
    by_hand = conv(512, 512, 4) + conv(512, 512) + sum(conv(i, o) + conv(o, o) for i, o in levels)
    assert by_hand == 23_071_456
    # The paper counts 23.1 M; beside its table there is the output of 512 x 512, for the fade.
    assert parameters(G) == by_hand + conv(16, 3, 1) + conv(32, 3, 1) == 23_071_606
    by_hand = sum(conv(o, o) + conv(o, i) for i, o in levels) + conv(513, 512) + conv(512, 512, 4) + 512 + 1
    assert by_hand == 23_077_073
    assert parameters(D) == by_hand + conv(3, 16, 1) + conv(3, 32, 1) == 23_077_265


def test_default_networks_have_the_number_of_parameters_that_the_readme_states() -> None:
    spec = DataSpec({"real": FieldSpec("image", (1, 32, 32))}, 4)
    G, D = build(ProGANConfig(), spec, Stage((), size=32)).values()
    widths = [64, 64, 32, 16]
    assert [ProGANConfig().width(side) for side in SIDES[:4]] == widths
    by_hand = conv(64, 64, 4) + conv(64, 64) + 2 * conv(64, 64) + conv(64, 32) + conv(32, 32)
    by_hand += conv(32, 16) + conv(16, 16) + conv(16, 1, 1) + conv(32, 1, 1)
    assert parameters(G) == by_hand
    by_hand = conv(1, 16, 1) + conv(1, 32, 1) + conv(16, 16) + conv(16, 32) + conv(32, 32) + conv(32, 64)
    by_hand += 2 * conv(64, 64) + conv(65, 64) + conv(64, 64, 4) + 64 + 1
    assert parameters(D) == by_hand


@pytest.mark.parametrize("side", SIDES[:5])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_shapes(side: int, alpha: float) -> None:
    G, D = built(side, channels=3)
    pictures = G(torch.randn(2, 5), alpha)
    assert pictures.shape == (2, 3, side, side)
    assert D(pictures, alpha).shape == (2,)


def test_data_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match="progan: expected pictures, got data of kind points"):
        build(ProGANConfig(), DataSpec({"real": FieldSpec("points", (2,))}, 4), Stage((), size=4))


# -- growth --------------------------------------------------------------------------------------------------------


def grown(side: int) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Return networks of a level and of the next one, which has taken over what has the same name."""
    levels = []
    for size in (side, 2 * side):
        torch.manual_seed(size)
        levels.append(dict(zip("GD", built(size, channels=2), strict=True)))
    old, new = levels
    with torch.no_grad():
        for network in "GD":
            for parameter in old[network].parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))  # biases are not 0 then
    theirs, mine = network_tensors(old), network_tensors(new)
    shared = theirs.keys() & mine.keys()
    gone = {name for name in theirs if f"rgb.{side // 2}." in name}
    assert set(theirs) - shared == gone, "everything but the older colours is taken over"
    with torch.no_grad():
        for name in shared:
            assert mine[name].shape == theirs[name].shape
            mine[name].copy_(theirs[name])
    return old, new


@settings(deadline=None, max_examples=20)
@given(level=st.integers(0, 3), seed=st.integers(0, 99))
def test_at_the_beginning_of_a_fade_nothing_has_changed(level: int, seed: int) -> None:
    old, new = grown(SIDES[level])
    torch.manual_seed(seed)
    z, x = torch.randn(3, 5), torch.randn(3, 2, 2 * SIDES[level], 2 * SIDES[level])
    with torch.no_grad():
        torch.testing.assert_close(new["G"](z, 0.0), up(old["G"](z)), rtol=0, atol=1e-6)
        torch.testing.assert_close(new["D"](x, 0.0), old["D"](down(x)), rtol=0, atol=1e-6)
        # A generated picture is judged just as it was before it was enlarged.
        torch.testing.assert_close(new["D"](new["G"](z, 0.0), 0.0), old["D"](old["G"](z)), rtol=0, atol=1e-5)


def test_in_a_fade_old_and_new_are_mixed_and_at_its_end_the_old_is_gone() -> None:
    _, new = grown(8)
    z, x = torch.randn(3, 5), torch.randn(3, 2, 16, 16)
    with torch.no_grad():
        first, half, last = (new["G"](z, alpha) for alpha in (0.0, 0.5, 1.0))
        torch.testing.assert_close(half, (first + last) / 2)
        assert float((first - last).abs().max()) > 0.01
        before = new["D"](x, 0.5)
        for network, name in (("G", "to_rgb"), ("D", "from_rgb")):
            for parameter in getattr(new[network], name)["8"].parameters():
                parameter.add_(1.0)
        torch.testing.assert_close(new["G"](z, 1.0), last, rtol=0, atol=0)
        assert not torch.allclose(new["G"](z, 0.5), half)
        assert not torch.allclose(new["D"](x, 0.5), before)


def test_up_and_down_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert up(x)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 6, 6], [3, 3, 6, 6]]
    assert down(x).item() == 3
    assert torch.equal(down(up(x)), x)


# -- the layers, against the paper's formulas ------------------------------------------------------------------------


def reference_G(G: nn.Module, z: Tensor) -> Tensor:
    """Compute an 8 x 8 picture from the weights alone, by the paper's formulas."""
    weights = dict(G.named_parameters())

    def layer(x: Tensor, name: str, padding: int) -> Tensor:
        w, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
        x = F.conv2d(x, w * (2 / w[0].numel()) ** 0.5, padding=padding) + b[None, :, None, None]
        return normalised(torch.where(x > 0, x, 0.2 * x))

    def normalised(x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    x = normalised(z)[:, :, None, None]
    x = layer(layer(x, "blocks.4.2", 3), "blocks.4.5", 1)
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = layer(layer(x, "blocks.8.1", 1), "blocks.8.4", 1)
    w, b = weights["to_rgb.8.weight"], weights["to_rgb.8.bias"]
    return F.conv2d(x, w / w[0].numel() ** 0.5) + b[None, :, None, None]


def reference_D(D: nn.Module, x: Tensor) -> Tensor:
    """Compute the logits of 8 x 8 pictures from the weights alone, by the paper's formulas."""
    weights = dict(D.named_parameters())

    def layer(x: Tensor, name: str, padding: int) -> Tensor:
        w, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
        x = F.conv2d(x, w * (2 / w[0].numel()) ** 0.5, padding=padding) + b[None, :, None, None]
        return torch.where(x > 0, x, 0.2 * x)

    x = layer(layer(layer(x, "from_rgb.8.0", 0), "blocks.8.0", 1), "blocks.8.2", 1)
    x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    spread = ((x - x.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
    x = torch.cat((x, spread * torch.ones_like(x[:, :1])), 1)
    x = layer(layer(x, "blocks.4.1", 1), "blocks.4.3", 0).flatten(1)
    w, b = weights["blocks.4.6.weight"], weights["blocks.4.6.bias"]
    return (x @ w.T / w.shape[1] ** 0.5 + b)[:, 0]


def test_networks_compute_the_papers_formulas() -> None:
    torch.manual_seed(0)
    G, D = (network.double() for network in built(8, channels=2))
    with torch.no_grad():
        for network in (G, D):
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        z, x = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 2, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(G(z), reference_G(G, z))
        torch.testing.assert_close(G(7 * z), G(z), rtol=1e-6, atol=1e-6)  # a latent has a direction, and no length
        torch.testing.assert_close(D(x), reference_D(D, x))
