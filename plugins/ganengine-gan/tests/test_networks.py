"""Networks against the tables of the documents: exact counts, shapes, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from ganengine.errors import UserError
from ganengine.variant import DataSpec, FieldSpec, Stage
from torch import nn

from ganengine_gan.config import DCGANConfig, GANConfig
from ganengine_gan.networks import build
from ganengine_gan.residual import Down, Up


def networks(side: int, channels: int = 1, **options: Any) -> tuple[nn.Module, nn.Module]:
    config = DCGANConfig(**options) if options.get("architecture", "").startswith("conv") else GANConfig(**options)
    built = build(config, DataSpec({"real": FieldSpec("image", (channels, side, side))}), Stage(()))
    return built["G"], built["D"]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "g", "d"),
    [
        # 64 -> 256 -> 784 and 784 -> 128 -> 1, as printed in the documents.
        ({"architecture": "mlp-small", "latent": 64}, 218_128, 100_609),
        ({"architecture": "mlp"}, 579_728, 566_273),
        # 100 * 1200 + 1200, 1200 * 1200 + 1200, 1200 * 784 + 784; 784 * 1200 + 1200, 240 * 1200 + 1200, 241.
        ({"architecture": "mlp-maxout"}, 121_200 + 1_441_200 + 941_584, 942_000 + 289_200 + 241),
        # Linear without bias 100 * 128 * 49 and 256 of batch norm; 128 * 64 * 16 and 128; 64 * 16 + 1.
        # 16 * 64 + 64; 64 * 128 * 16 and 256; 128 * 49 + 1.
        ({"architecture": "conv-small"}, 627_200 + 256 + 131_072 + 128 + 1_025, 1_088 + 131_072 + 256 + 6_273),
    ],
)
def test_parameters_are_counted_exactly(options: dict[str, Any], g: int, d: int) -> None:
    G, D = networks(28, **options)
    assert (count(G), count(D)) == (g, d)


def test_the_paper_s_dcgan() -> None:
    """Figure 1 of arXiv:1511.06434: 4 x 4 x 1024 up to 64 x 64 x 3 by kernels of 5."""
    G, D = networks(64, channels=3, architecture="conv")
    widths = (1024, 512, 256, 128)
    convolutions = sum(25 * a * b + 2 * b for a, b in pairwise(widths))
    assert count(G) == 100 * 1024 * 16 + 2 * 1024 + convolutions + 25 * 128 * 3 + 3
    back = sum(25 * a * b + 2 * b for a, b in ((128, 256), (256, 512), (512, 1024)))
    assert count(D) == 25 * 3 * 128 + 128 + back + 1024 * 16 + 1


def test_the_scenes_of_lsgan() -> None:
    """Figure 4 of arXiv:1611.04076: z of 1024, 7 x 7 x 256 up to 112 x 112 by kernels of 3; D 64 to 512."""
    G, D = networks(112, channels=3, architecture="conv-scenes", latent=1024)
    widths = (256, 256, 256, 256, 256, 128, 64)
    convolutions = sum(9 * a * b + 2 * b for a, b in pairwise(widths))
    assert count(G) == 1024 * 256 * 49 + 2 * 256 + convolutions + 9 * 64 * 3 + 3
    down = sum(25 * a * b + 2 * b for a, b in pairwise((64, 128, 256, 512)))
    assert count(D) == 25 * 3 * 64 + 64 + down + 512 * 49 + 1


def test_the_residual_networks_of_wgan_gp() -> None:
    """Appendix F of arXiv:1704.00028: 128 filters, three blocks up in G, two down and two level in the critic."""
    G, D = networks(32, channels=3, architecture="resnet", latent=128, d_norm="none")
    convolution, skip = 9 * 128 * 128 + 128, 128 * 128 + 128
    assert count(G) == 128 * 2048 + 2048 + 3 * (2 * 256 + 2 * convolution + skip) + 256 + 9 * 128 * 3 + 3
    first = 9 * 3 * 128 + 128 + convolution + 3 * 128 + 128
    assert count(D) == first + 2 * convolution + skip + 2 * 2 * convolution + 128 + 1
    x = torch.rand(4, 3, 32, 32)
    assert torch.allclose(D(x)[:1], D(x[:1]), atol=1e-6)


def test_a_block_of_the_critic_pools_what_the_paper_pools() -> None:
    block = Down(3, 5, "none", halve=True).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    hidden = block.conv2(block.conv1(x.relu()).relu())
    pooled = (block.skip(x) + hidden).reshape(2, 5, 3, 2, 3, 2).mean((3, 5))
    assert torch.allclose(block(x), pooled)
    wider = Up(4).double()
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    large = wider.norm1(x).relu().repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = wider.skip(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    expected = expected + wider.conv2(wider.norm2(wider.conv1(large)).relu())
    assert torch.allclose(wider(x), expected)


@pytest.mark.parametrize(
    ("architecture", "side", "channels"),
    [("mlp-small", 28, 1), ("mlp", 9, 3), ("mlp-maxout", 8, 2), ("conv-small", 28, 1), ("conv-small", 32, 3),
     ("conv", 8, 1), ("conv", 32, 3), ("conv-upsampling", 48, 3),
     ("conv-scenes", 32, 3), ("resnet", 16, 1), ("resnet", 64, 3)],
)  # fmt: skip
@torch.no_grad()
def test_shapes_and_range(architecture: str, side: int, channels: int) -> None:
    G, D = networks(side, channels, architecture=architecture, g_filters=8, d_filters=8)
    made = G(torch.randn(3, 100))
    assert made.shape == (3, channels, side, side)
    assert made.abs().max() <= 1
    assert D(made).shape == (3,)


@pytest.mark.parametrize(
    ("architecture", "side"),
    [
        ("conv-small", 30),
        ("conv", 28),
        ("conv", 4),
        ("conv-upsampling", 32),
        ("conv-scenes", 30),
        ("resnet", 28),
        ("resnet", 8),
    ],
)
def test_sides_that_do_not_fit_are_refused(architecture: str, side: int) -> None:
    with pytest.raises(UserError, match="--size"):
        networks(side, architecture=architecture)


@torch.no_grad()
def test_points_get_a_perceptron() -> None:
    built = build(GANConfig(latent=2, toy_units=512), DataSpec({"real": FieldSpec("vector", (2,))}), Stage(()))
    points = built["G"](torch.randn(5, 2))
    assert points.shape == (5, 2)
    assert built["D"](points).shape == (5,)
    assert count(built["G"]) == 2 * 512 + 512 + 2 * (512 * 512 + 512) + 512 * 2 + 2


def test_a_critic_without_batch_norm_judges_each_sample_alone() -> None:
    _, D = networks(28, architecture="conv-small", d_norm="layer")
    x = torch.rand(4, 1, 28, 28)
    assert torch.allclose(D(x)[:1], D(x[:1]), atol=1e-6)
    _, D = networks(28, architecture="conv-small", d_norm="batch")
    assert not torch.allclose(D(x)[:1], D(x[:1]), atol=1e-3)
