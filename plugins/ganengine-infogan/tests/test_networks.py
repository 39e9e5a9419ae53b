"""The networks of 1606.03657, table 1: shapes, counts, and a trunk that both heads read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ganengine.errors import UserError
from ganengine.variant import DataSpec, FieldSpec, Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganengine_infogan.config import InfoGANConfig
from ganengine_infogan.networks import build

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
STAGE = Stage(())
NARROW = {"noise": 3, "categories": 3, "g_filters": 2, "d_filters": 2, "hidden": 8, "q_hidden": 4}


def spec(height: int, width: int | None = None, channels: int = 1) -> DataSpec:
    return DataSpec({"real": FieldSpec("image", (channels, height, width or height))})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_networks_of_the_paper() -> None:
    networks = build(InfoGANConfig(), spec(28), STAGE)
    G, D, Q = (networks[name] for name in "GDQ")
    spread = 128 * 7 * 7
    # weights, then gain and bias of each norm; the layer before a norm has no bias of its own
    assert count(G) == 74 * 1024 + 2 * 1024 + 1024 * spread + 2 * spread + 16 * 128 * 64 + 2 * 64 + 16 * 64 + 1
    trunk = 16 * 64 + 64 + 16 * 64 * 128 + 2 * 128 + spread * 1024 + 2 * 1024
    assert count(D.trunk) == trunk
    assert count(D) == trunk + 1024 + 1
    assert count(Q) == 1024 * 128 + 2 * 128 + 128 * 12 + 12
    assert all(f"{count(network):,}" in README for network in (G, D, Q))
    kinds = [type(module).__name__ for module in D.trunk.children()]
    assert kinds == ["Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU", "Flatten", "Linear", "BatchNorm1d",
                     "LeakyReLU"]  # fmt: skip
    slopes = {m.negative_slope for net in (D, Q) for m in net.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.1}


@settings(deadline=None, max_examples=15)
@given(
    quarter=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    channels=st.integers(1, 3),
    categories=st.integers(2, 5),
    codes=st.integers(0, 3),
    learned=st.booleans(),
)
def test_any_sides_of_multiples_of_four_and_any_codes(
    quarter: tuple[int, int], channels: int, categories: int, codes: int, learned: bool
) -> None:
    std = None if learned else 1.0
    config = InfoGANConfig(**{**NARROW, "categories": categories, "codes": codes, "code_std": std})
    networks = build(config, spec(4 * quarter[0], 4 * quarter[1], channels), STAGE)
    pictures = networks["G"](torch.randn(3, 3 + categories + codes))
    assert pictures.shape == (3, channels, 4 * quarter[0], 4 * quarter[1])
    assert pictures.abs().max() <= 1
    logits, features = networks["D"](pictures)
    category, mean, log_std = networks["Q"](features)
    assert (logits.shape, features.shape) == ((3,), (3, 8))
    assert (category.shape, mean.shape, log_std.shape) == ((3, categories), (3, codes), (3, codes if learned else 0))


def test_both_heads_read_the_trunk() -> None:
    networks = build(InfoGANConfig(**NARROW), spec(8), STAGE)
    D, Q = networks["D"].eval(), networks["Q"].eval()
    x = torch.randn(2, 1, 8, 8)
    logits, features = D(x)
    torch.testing.assert_close(D.head(D.trunk(x)).flatten(), logits)
    torch.testing.assert_close(D.trunk(x), features)
    Q(features)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in D.trunk.parameters())
    assert all(parameter.grad is None for parameter in D.head.parameters())


@pytest.mark.parametrize(("height", "width", "fitting"), [(30, 30, 28), (4, 4, 8), (32, 34, 32)])
def test_other_sizes_are_refused_with_one_that_fits(height: int, width: int, fitting: int) -> None:
    with pytest.raises(UserError, match=rf"got {height} x {width}\. Use --size {fitting}\."):
        build(InfoGANConfig(**NARROW), spec(height, width), STAGE)


def test_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="expected pictures, got data of kind points"):
        build(InfoGANConfig(), DataSpec({"real": FieldSpec("points", (2,))}), STAGE)


@pytest.mark.parametrize(
    ("option", "value"),
    [("noise", 0), ("categories", 1), ("codes", -1), ("lambda_category", -1.0), ("code_std", 0.0), ("hidden", 0),
     ("lr", 0.0), ("betas", (0.5, 1.0))],
)  # fmt: skip
def test_numbers_outside_their_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')}: expected "):
        InfoGANConfig(**{**NARROW, option: value})
