"""The networks of 1703.10717, figure 1: shapes and counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from ganengine.errors import UserError
from ganengine.variant import DataSpec, FieldSpec, Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganengine_began.config import BEGANConfig
from ganengine_began.networks import build

STAGE = Stage(())


def spec(height: int, width: int | None = None, channels: int = 1) -> DataSpec:
    return DataSpec({"real": FieldSpec("image", (channels, height, width or height))})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def conv(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs


@pytest.mark.parametrize(("size", "n", "channels"), [(32, 16, 1), (64, 12, 3), (16, 4, 2)])
def test_networks_of_the_paper(size: int, n: int, channels: int) -> None:
    levels = {16: 1, 32: 2, 64: 3}[size]
    latent = 64 if size > 32 else 16
    networks = build(BEGANConfig(filters=n, latent=latent), spec(size, channels=channels), STAGE)
    G, D = networks["G"], networks["D"]
    decoder = latent * 64 * n + 64 * n + 2 * (levels + 1) * conv(n, n) + conv(n, channels)
    encoder = conv(channels, n) + (levels + 1) * n * 64 * latent + latent
    encoder += sum(2 * conv(j * n, j * n) for j in range(1, levels + 2))
    encoder += sum(conv(j * n, (j + 1) * n) for j in range(1, levels + 1))
    assert (count(G), count(D)) == (decoder, encoder + decoder)
    assert D.get_submodule("encoder")(torch.zeros(2, channels, size, size)).shape == (2, latent)
    kinds = {type(module).__name__ for net in (G, D) for module in net.modules() if not list(module.children())}
    assert kinds == {"Linear", "Unflatten", "Conv2d", "ELU", "Upsample", "Flatten"}  # no norm, nothing that squashes
    last = [list(net.modules())[-1] for net in (G, D)]
    assert all(isinstance(layer, nn.Conv2d) for layer in last)


def test_a_new_network_tells_latents_and_pictures_apart() -> None:
    """With torch's own weights all that leaves these many layers is a constant, and G begins as one picture."""
    torch.manual_seed(0)
    networks = build(BEGANConfig(), spec(32), STAGE)
    with torch.no_grad():
        made = networks["G"](torch.rand(64, 16) * 2 - 1)
        code = networks["D"].get_submodule("encoder")(torch.rand(64, 1, 32, 32).round() * 2 - 1)
    assert made.std(0).mean() > 0.03
    assert code.std(0).mean() > 0.03


def test_readme_tells_how_large_they_are() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    networks = build(BEGANConfig(), spec(32), STAGE)
    for name in "GD":
        assert re.search(rf"\b{count(networks[name]):,}\b", text)


@settings(deadline=None, max_examples=8)
@given(levels=st.integers(1, 3), channels=st.integers(1, 3), latent=st.integers(1, 5), n=st.integers(1, 3))
def test_any_square_of_eight_doubled(levels: int, channels: int, latent: int, n: int) -> None:
    side = 8 << levels
    networks = build(BEGANConfig(latent=latent, filters=n), spec(side, channels=channels), STAGE)
    pictures = networks["G"](torch.rand(2, latent) * 2 - 1)
    assert pictures.shape == (2, channels, side, side)
    assert networks["D"](pictures).shape == pictures.shape


@pytest.mark.parametrize(("height", "width", "fitting"), [(28, 28, 16), (8, 8, 16), (32, 64, 32), (100, 100, 64)])
def test_other_sizes_are_refused_with_one_that_fits(height: int, width: int, fitting: int) -> None:
    with pytest.raises(UserError, match=rf"got {height} x {width}\. Use --size {fitting}\."):
        build(BEGANConfig(), spec(height, width), STAGE)
    build(BEGANConfig(filters=1), spec(fitting), STAGE)


def test_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="expected pictures, got data of kind points"):
        build(BEGANConfig(), DataSpec({"real": FieldSpec("points", (2,))}), STAGE)


@pytest.mark.parametrize(
    ("option", "value"),
    [("latent", 0), ("filters", 0), ("gamma", 0.0), ("gamma", 1.5), ("lambda_k", 0.0), ("repel", -0.1),
     ("lr", -1.0), ("patience", 0), ("halve_every", 0), ("lr_floor", -1.0), ("betas", (0.5, 1.0))],
)  # fmt: skip
def test_numbers_outside_their_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')}: expected "):
        BEGANConfig(**{option: value})  # type: ignore[arg-type]
