"""Networks: shapes, published parameter counts, receptive fields, and the size and channels of any picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ganengine.actions import ImagePool
from ganengine.errors import UserError
from ganengine.nn import InstanceNorm2d
from ganengine.variant import DataSpec, FieldSpec, Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganengine_cyclegan.config import CycleGANConfig
from ganengine_cyclegan.networks import Generator, PatchGAN, Residual, build

STAGE = Stage(())


def spec(size: int, a: int = 3, b: int = 3) -> DataSpec:
    return DataSpec({"A": FieldSpec("image", (a, size, size)), "B": FieldSpec("image", (b, size, size))}, count=4)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]


# -- published sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "weights", "published"), [(6, 7_833_987, 7_837_699), (9, 11_372_931, 11_378_179)])
def test_generator_has_the_published_number_of_weights(blocks: int, weights: int, published: int) -> None:
    ends = 49 * 3 * 64 + 49 * 64 * 3 + 3  # the output has a bias
    down = up = 9 * 64 * 128 + 9 * 128 * 256
    by_hand = ends + down + up + blocks * 2 * 9 * 256 * 256
    assert by_hand == weights
    assert parameters(Generator(3, 3, 64, blocks, "instance")) == by_hand
    # The authors' PyTorch code has a bias in front of each norm: "7.838 M" and "11.378 M" in its log.
    before_norms = 64 + 128 + 256 + blocks * 2 * 256 + 128 + 64
    assert by_hand + before_norms == published
    assert parameters(Generator(3, 3, 64, blocks, "none")) == published


def test_discriminator_has_the_published_number_of_weights() -> None:
    by_hand = (16 * 3 * 64 + 64) + 16 * 64 * 128 + 16 * 128 * 256 + 16 * 256 * 512 + (16 * 512 + 1)
    assert by_hand == 2_763_841
    assert parameters(PatchGAN(3, 64, 70, "instance")) == by_hand
    assert parameters(PatchGAN(3, 64, 70, "none")) == by_hand + 128 + 256 + 512 == 2_764_737  # "2.765 M"


@pytest.mark.parametrize(
    ("size", "options", "blocks"),
    [(64, {}, 6), (252, {}, 6), (256, {}, 9), (256, {"blocks": 6}, 6), (64, {"blocks": 2}, 2)],
)
def test_blocks_follow_the_size(size: int, options: dict[str, Any], blocks: int) -> None:
    networks = build(CycleGANConfig(g_filters=1, d_filters=1, **options), spec(size), STAGE)
    for name in "GF":
        assert sum(isinstance(module, Residual) for module in networks[name].modules()) == blocks


def test_layers_are_those_of_the_paper() -> None:
    G = Generator(3, 3, 64, 6, "instance")
    outer = [layer for layer in G.layers if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    assert [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in outer] == [
        *[(64, 7, 1), (128, 3, 2), (256, 3, 2), (128, 3, 2), (64, 3, 2), (3, 7, 1)]
    ]
    assert [isinstance(layer, nn.ConvTranspose2d) for layer in outer] == [False] * 3 + [True] * 2 + [False]
    norms = [module for module in G.modules() if isinstance(module, InstanceNorm2d)]
    assert len(norms) == 5 + 2 * 6
    assert not any(norm.affine or norm.track_running_stats for norm in norms)
    assert sum(isinstance(module, nn.ReflectionPad2d) for module in G.modules()) == 2 + 2 * 6
    D = PatchGAN(3, 64, 70, "instance")
    assert [(layer.out_channels, layer.stride[0]) for layer in convolutions(D)] == [
        *[(64, 2), (128, 2), (256, 2), (512, 1), (1, 1)]
    ]
    assert [isinstance(layer, InstanceNorm2d) for layer in D.layers].count(True) == 3
    assert isinstance(D.layers[1], nn.LeakyReLU), "no norm on the first layer"


def test_a_block_adds_to_what_it_is_given() -> None:
    block = Residual(4, "instance")
    for conv in convolutions(block):
        nn.init.zeros_(conv.weight)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)


# -- receptive fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("receptive_field", "side"), [(16, 126), (34, 62), (70, 30), (142, 14)])
def test_receptive_field_by_gradient_support(receptive_field: Any, side: int) -> None:
    torch.manual_seed(0)
    D = PatchGAN(1, 1, receptive_field, "none").double()
    assert D(torch.zeros(1, 1, 256, 256, dtype=torch.float64)).shape == (1, 1, side, side)
    size = 2 * receptive_field + 64
    x = torch.randn(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = D(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert x.grad is not None
    seen = x.grad[0, 0] != 0
    for axis in (0, 1):
        places = seen.any(axis).nonzero()
        assert int(places.max() - places.min()) + 1 == receptive_field


@pytest.mark.parametrize(("receptive_field", "smallest"), [(16, 6), (34, 12), (70, 24), (142, 48)])
def test_smallest_picture(receptive_field: Any, smallest: int) -> None:
    config = CycleGANConfig(g_filters=1, d_filters=1, blocks=1, receptive_field=receptive_field)
    D = build(config, spec(smallest), STAGE)["D_A"]
    assert D(torch.randn(2, 3, smallest, smallest)).shape == (2, 1, 1, 1)
    with pytest.raises(UserError, match=f"--receptive-field {receptive_field}: expected pictures of at least"):
        build(config, spec(smallest - 1), STAGE)


def test_a_field_that_is_too_large_names_the_largest_that_fits() -> None:
    with pytest.raises(UserError, match=r"at least 24 pixels, they have 16\. Use --receptive-field 34"):
        build(CycleGANConfig(), spec(16), STAGE)
    with pytest.raises(UserError, match=r"they have 5\. Use a larger --size\."):
        build(CycleGANConfig(receptive_field=16), spec(5), STAGE)


# -- sizes and channels --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    norm=st.sampled_from(["batch", "instance", "none"]),
)
def test_any_size_and_any_channels(height: int, width: int, channels: tuple[int, int], norm: Any) -> None:
    a, b = channels
    config = CycleGANConfig(g_filters=1, d_filters=1, blocks=1, norm=norm, receptive_field=16)
    networks = build(config, spec(16, a, b), STAGE)
    G, F = networks["G"].eval(), networks["F"].eval()
    there = G(torch.randn(2, a, height, width))
    assert there.shape == (2, b, height, width)
    assert F(there).shape == (2, a, height, width)
    assert torch.isfinite(there).all()
    assert there.abs().max() <= 1
    assert networks["D_A"](torch.randn(1, a, 16, 16)).shape == networks["D_B"](torch.randn(1, b, 16, 16)).shape


def test_padding_repeats_the_edge_and_is_cropped_away() -> None:
    G = Generator(3, 3, 2, 1, "instance")
    x = torch.randn(1, 3, 29, 62)
    padded = torch.cat((x, x[:, :, -1:].expand(-1, -1, 3, -1)), 2)
    padded = torch.cat((padded, padded[..., -1:].expand(-1, -1, -1, 2)), 3)
    assert torch.equal(G(x), G(padded)[..., :29, :62])


def test_an_identity_loss_needs_equal_channels() -> None:
    config = CycleGANConfig(lambda_identity=0.5)
    with pytest.raises(UserError, match=r"--lambda-identity: expected A and B of equally many channels, got 1 and 3"):
        build(config, spec(64, 1, 3), STAGE)
    build(CycleGANConfig(lambda_identity=0.5, lambda_cycle=0, g_filters=1), spec(64, 1, 3), STAGE)


# -- start ---------------------------------------------------------------------------------------------------------


def test_the_start_is_that_of_the_paper_and_follows_the_seed() -> None:
    def built(seed: int) -> dict[str, nn.Module]:
        torch.manual_seed(seed)
        return build(CycleGANConfig(pool=7), spec(64), STAGE)

    first, again, other = built(1), built(1), built(2)
    assert set(first) == {"G", "F", "D_A", "D_B", "pool_A", "pool_B"}
    for name in ("pool_A", "pool_B"):
        pool = first.pop(name)
        assert isinstance(pool, ImagePool)
        assert pool.size == 7
    for name, network in first.items():
        weights = [conv.weight for conv in convolutions(network) if conv.weight.numel() > 10_000]
        assert len(weights) >= 3
        for weight in weights:  # 10,000 numbers: the standard error of the deviation is 0.7 %
            assert weight.std().item() == pytest.approx(0.02, rel=0.05)
        states = (network.state_dict(), again[name].state_dict(), other[name].state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert not torch.equal(next(first["G"].parameters()), next(first["F"].parameters()))
