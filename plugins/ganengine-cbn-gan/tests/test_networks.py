"""Networks: shapes, parameter counts by hand, where attention stands, how labels and weights of classes enter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ganengine.errors import UserError
from ganengine.nn import ConditionalBatchNorm2d
from ganengine.variant import DataSpec, FieldSpec
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_cbn_gan.blocks import SelfAttention, UpBlock
from ganengine_cbn_gan.config import CBNGANConfig
from ganengine_cbn_gan.networks import Discriminator, Generator, build

NARROW: dict[str, Any] = {"g_filters": 4, "g_widest": 8, "d_filters": 4, "d_widest": 8, "latent": 6}
CONDITIONS = ("class", "latent")


def spec(height: int, width: int | None = None, channels: int = 1, classes: int = 10) -> DataSpec:
    image = FieldSpec("image", (channels, height, width or height))
    return DataSpec({"real": image, "label": FieldSpec("label", (), classes)}, count=4)


def built(size: int, channels: int = 1, classes: int = 10, **options: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    networks = build(CBNGANConfig(**{**NARROW, **options}), spec(size, None, channels, classes), 0)
    return networks["G"], networks["D"]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv(inputs: int, outputs: int, side: int = 3, bias: int = 1) -> int:
    return side * side * inputs * outputs + bias * outputs


# -- sizes ---------------------------------------------------------------------------------------------------------


def test_default_networks_have_the_number_of_parameters_worked_out_by_hand() -> None:
    G, D = (build(CBNGANConfig(), spec(28), 0)[name] for name in "GD")
    first = 128 * 7 * 7 * 64 + 7 * 7 * 64
    wide = 2 * 10 * 64 + conv(64, 64, bias=0) + 2 * 10 * 64 + conv(64, 64) + conv(64, 64, 1)
    narrow = 2 * 10 * 64 + conv(64, 32, bias=0) + 2 * 10 * 32 + conv(32, 32) + conv(64, 32, 1)
    last = 2 * 32 + conv(32, 1)
    assert first + wide + narrow + last == 517_089
    assert parameters(G) == 517_089
    blocks = conv(1, 32) + conv(32, 32) + conv(1, 32, 1)
    blocks += conv(32, 64) + conv(64, 64) + conv(32, 64, 1)
    blocks += 2 * conv(64, 64)  # stays at 7 x 7: nothing on the way past it
    assert blocks + 64 + 1 + 10 * 64 == 141_729
    assert parameters(D) == 141_729


def test_papers_networks_for_128_pixels_have_the_number_of_parameters_worked_out_by_hand() -> None:
    config = CBNGANConfig(g_filters=64, g_widest=1024, d_filters=64, d_widest=1024)
    sides = [4, 8, 16, 32, 64, 128]
    with torch.device("meta"):
        G, D = Generator(config, 3, 1000, sides), Discriminator(config, 3, 1000, sides)
    up = [(1024, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    assert [(block.conv1.in_channels, block.conv1.out_channels) for block in G.blocks] == up
    by_hand = 129 * 16 * 1024 + 2 * 64 + conv(64, 3)
    by_hand += sum(2 * 1000 * (i + o) + conv(i, o, bias=0) + conv(o, o) + conv(i, o, 1) for i, o in up)
    assert parameters(G) == by_hand == 41_994_947
    down = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 1024)]
    assert [(block.conv1.in_channels, block.conv1.out_channels) for block in D.blocks] == down
    by_hand = sum(conv(i, o) + conv(o, o) for i, o in down) + sum(conv(i, o, 1) for i, o in down[:-1])
    assert parameters(D) == by_hand + 1024 + 1 + 1000 * 1024 == 39_443_137


def test_shared_embedding_and_attention_count_too() -> None:
    G, D = built(32, condition="latent", latent=10, embedding=12, attention=True)
    # z in parts 3, 3, 2, 2; each norm: a row for what all share, 12 for the class, its block's part of z
    first = 3 * 4 * 4 * 8 + 4 * 4 * 8
    norms = (1 + 12 + 3) * 2 * (8 + 8) + (1 + 12 + 2) * 2 * (8 + 8) + (1 + 12 + 2) * 2 * (8 + 4)
    convs = 2 * (conv(8, 8, bias=0) + conv(8, 8) + conv(8, 8, 1)) + conv(8, 4, bias=0) + conv(4, 4) + conv(8, 4, 1)
    attention = 3 * conv(8, 1, 1, bias=0) + conv(1, 8, 1, bias=0) + 1
    assert parameters(G) == 10 * 12 + first + norms + convs + attention + 2 * 4 + conv(4, 1)
    blocks = conv(1, 4) + conv(4, 4) + conv(1, 4, 1) + conv(4, 8) + conv(8, 8) + conv(4, 8, 1)
    blocks += conv(8, 8) + conv(8, 8) + conv(8, 8, 1) + 2 * conv(8, 8)
    narrow = 4 * conv(4, 1, 1, bias=0) + 1  # after D's first block, where G has 8 channels at 16 x 16
    assert parameters(D) == blocks + narrow + 8 + 1 + 10 * 8


@settings(deadline=None, max_examples=15)
@given(
    small=st.integers(4, 7),
    doublings=st.integers(1, 3),
    channels=st.integers(1, 4),
    classes=st.integers(1, 5),
    condition=st.sampled_from(CONDITIONS),
)
def test_any_small_square_doubled(small: int, doublings: int, channels: int, classes: int, condition: str) -> None:
    size = small << doublings
    G, D = built(size, channels, classes, condition=condition, embedding=3)
    y = torch.arange(3) % classes
    pictures = G(torch.randn(3, 6), y)
    assert pictures.shape == (3, channels, size, size)
    assert pictures.abs().max() <= 1
    assert D(pictures, y).shape == (3,)


@pytest.mark.parametrize(
    ("height", "width", "fitting"), [(30, 30, 28), (66, 66, 64), (7, 7, 8), (4, 4, 8), (32, 64, 32), (100, 100, 96)]
)
def test_other_sizes_are_refused_with_one_that_fits(height: int, width: int, fitting: int) -> None:
    with pytest.raises(UserError, match=rf"got {height} x {width}\. Use --size {fitting}\."):
        build(CBNGANConfig(**NARROW), spec(height, width), 0)
    build(CBNGANConfig(**NARROW), spec(fitting), 0)


def test_too_few_latents_for_the_blocks_are_refused() -> None:
    with pytest.raises(UserError, match=r"--latent: expected at least 4, .* got 3"):
        built(32, condition="latent", latent=3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("g_filters", 0),
        ("d_filters", 0),
        ("embedding", 0),
        ("g_widest", 3),
        ("d_widest", 3),
        ("orthogonal", -1.0),
        ("class_spread", -0.5),
    ],
)
def test_numbers_outside_their_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')}: expected .*, got {value}"):
        CBNGANConfig(**{**NARROW, option: value})


# -- how the label enters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", CONDITIONS)
def test_one_hot_weights_are_the_label_and_mixtures_lie_between(condition: str) -> None:
    G, D = (network.eval() for network in built(16, condition=condition, embedding=3, classes=4))
    z, y = torch.randn(5, 6), torch.tensor([0, 3, 1, 1, 2])
    by_label = G(z, y)
    weights = F.one_hot(y, 4).float()
    torch.testing.assert_close(G(z, weights), by_label)
    torch.testing.assert_close(D(by_label, weights), D(by_label, y))
    mixed = G(z, torch.full((5, 4), 0.25))
    assert min((mixed - by_label).abs().mean(), (mixed - G(z, y.flip(0))).abs().mean()) > 1e-3
    torch.testing.assert_close(  # linear in the weights
        D(by_label, torch.full((5, 4), 0.25)), torch.stack([D(by_label, torch.full((5,), k)) for k in range(4)]).mean(0)
    )


@pytest.mark.parametrize("condition", CONDITIONS)
def test_another_class_with_the_same_latent_is_another_picture(condition: str) -> None:
    G = built(16, condition=condition, embedding=3, classes=4)[0].eval()
    z = torch.randn(1, 6).expand(4, -1)
    pictures = G(z, torch.arange(4))
    assert torch.pdist(pictures.flatten(1)).min() > 1e-2
    torch.testing.assert_close(G(z, torch.full((4,), 2)), pictures[2:3].expand(4, -1, -1, -1))


def test_classes_start_apart_or_as_one() -> None:
    z = torch.randn(1, 6).expand(2, -1)
    for spread in (0.0, 0.5):
        G = built(16, class_spread=spread, g_filters=32, g_widest=32, classes=50)[0].eval()
        first, second = G(z, torch.tensor([0, 7]))
        # Not to the bit: a backend may round the samples of one batch differently.
        assert torch.allclose(first, second, atol=1e-5) == (spread == 0)
        norm = G.blocks[0].norm1  # type: ignore[union-attr,index]
        for table, middle in ((norm.gamma, 1.0), (norm.beta, 0.0)):  # type: ignore[union-attr]
            assert table.mean().item() == pytest.approx(middle, abs=0.1)
            assert table.std().item() == pytest.approx(spread, abs=0.05)


def test_statistics_are_those_of_the_batch_and_not_of_the_classes() -> None:
    G = built(16, classes=2)[0].double()
    norm = G.blocks[0].norm1  # type: ignore[union-attr,index]
    assert isinstance(norm, ConditionalBatchNorm2d)
    seen: list[tuple[Tensor, Tensor]] = []
    norm.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].detach(), output.detach())))
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    z = torch.randn(6, 6, dtype=torch.float64) + 3 * y.unsqueeze(1)  # the classes differ
    G(z, y)
    ((x, output),) = seen
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    gamma, beta = (table.detach()[y][:, :, None, None] for table in (norm.gamma, norm.beta))
    torch.testing.assert_close(output, (gamma * (x - mean) / (var + 2e-5).sqrt() + beta).relu(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean.flatten(), rtol=1e-6, atol=1e-6)
    of_class = x[:3].mean((0, 2, 3))
    assert (of_class - mean.flatten()).abs().max() > 0.1


def test_parts_of_z_go_to_their_blocks() -> None:
    G = built(16, condition="latent", latent=6, embedding=3)[0]
    seen: list[Tensor] = []
    for block in G.blocks:  # type: ignore[union-attr]
        assert isinstance(block, UpBlock)
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].detach()))
    z, y = torch.randn(2, 6), torch.tensor([1, 0])
    G(z, y)
    for index, condition in enumerate(seen):
        torch.testing.assert_close(condition[:, :1], torch.ones(2, 1))
        torch.testing.assert_close(condition[:, 1:4], G.embedding.weight[y])  # type: ignore[union-attr,index]
        torch.testing.assert_close(condition[:, 4:], z[:, 2 + 2 * index : 4 + 2 * index])


# -- D -------------------------------------------------------------------------------------------------------------


def test_projection_by_hand() -> None:
    D = Discriminator(CBNGANConfig(d_filters=2, d_widest=2), 2, 2, [4, 8]).double()
    D.blocks = D.attention = nn.ModuleList()  # h is then the sum of what is positive in the picture itself
    with torch.no_grad():
        D.out.weight.copy_(torch.tensor([[1.0, -1.0]]))
        D.out.bias.fill_(0.5)
        D.embedding.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    x = torch.tensor([[[[1.0, -5.0]], [[2.0, 1.0]]]], dtype=torch.float64).expand(2, -1, -1, -1)
    # h = (1, 3), FC(h) = 1 - 3 + 0.5 = -1.5; <(2, 0), h> = 2; <(0, 3), h> = 9
    assert D(x, torch.tensor([0, 1])).tolist() == [0.5, 7.5]
    assert D(x, torch.tensor([[0.5, 0.5], [0.0, 0.0]], dtype=torch.float64)).tolist() == [4.0, -1.5]


def test_every_layer_of_d_has_a_largest_singular_value_of_one() -> None:
    G, D = (network.double() for network in built(16, attention=True))
    x, y = torch.randn(2, 1, 16, 16, dtype=torch.float64), torch.tensor([0, 1])
    with torch.no_grad():
        for _ in range(60):  # iterations of the power method
            D(x, y)
    for network, normalised in ((D.eval(), True), (G, False)):
        layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
        assert len(layers) > 10
        largest = [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]
        assert all(abs(value - 1) < 1e-3 for value in largest) == normalised


# -- attention -----------------------------------------------------------------------------------------------------


def test_attention_begins_as_the_identity_and_is_softmax_over_positions() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16).double()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma_s.fill_(0.7)
    f, g, h = (part(x).flatten(2).transpose(1, 2) for part in (layer.f, layer.g, layer.h))
    assert f.shape == (2, 15, 2)
    read = F.scaled_dot_product_attention(g, f, h, scale=1.0).transpose(1, 2).reshape(2, 2, 3, 5)
    torch.testing.assert_close(layer(x), x + 0.7 * layer.v(read))


@pytest.mark.parametrize(("size", "side"), [(16, 8), (28, 14), (32, 16), (56, 28), (64, 32), (80, 20), (128, 32)])
def test_attention_stands_at_32_pixels_or_the_next_smaller_features(size: int, side: int) -> None:
    seen: list[tuple[int, ...]] = []
    G, D = built(size, attention=True)
    for network in (G, D):
        (layer,) = (module for module in network.modules() if isinstance(module, SelfAttention))
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    y = torch.tensor([0, 1])
    D(G(torch.randn(2, 6), y), y)
    assert seen == [(side, side)] * 2
    assert not any(isinstance(module, SelfAttention) for network in built(size) for module in network.modules())


def test_attention_needs_features_between_two_blocks() -> None:
    with pytest.raises(UserError, match=r"--attention: expected pictures of 16 pixels or more, got 14"):
        built(14, attention=True)


def test_d_with_attention_has_second_derivatives() -> None:
    D = built(16, attention=True)[1]
    x = torch.randn(2, 1, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(D(x, torch.tensor([0, 1])).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(p.grad is not None for name, p in D.named_parameters() if name.startswith("attention"))


# -- start ---------------------------------------------------------------------------------------------------------


def test_start_is_glorots_with_a_gain_in_blocks() -> None:
    torch.manual_seed(0)
    G = build(CBNGANConfig(), spec(28), 0)["G"]
    block = G.blocks[0]  # type: ignore[union-attr,index]
    for weight, fans, gain in (
        (block.conv1.weight, 9 * (64 + 64), math.sqrt(2)),  # type: ignore[union-attr]
        (block.conv2.weight, 9 * (64 + 64), math.sqrt(2)),  # type: ignore[union-attr]
        (block.skip.weight, 64 + 64, 1.0),  # type: ignore[union-attr]
        (G.begin.weight, 128 + 64 * 49, 1.0),  # type: ignore[union-attr]
    ):
        assert weight.std().item() == pytest.approx(gain * math.sqrt(2 / fans), rel=0.05)


def test_start_of_biggan_is_orthogonal() -> None:
    G = built(16, condition="latent", init="orthogonal", embedding=3)[0]
    block = G.blocks[1]  # type: ignore[union-attr,index]
    rows = block.conv2.weight.detach().flatten(1)  # type: ignore[union-attr]
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)
    gamma, beta = (table.detach() for table in (block.norm1.gamma, block.norm1.beta))  # type: ignore[union-attr]
    assert gamma.shape == (1 + 3 + 2, 8)
    for table, shared in ((gamma, 1.0), (beta, 0.0)):
        torch.testing.assert_close(table[0], torch.full((8,), shared))
        torch.testing.assert_close(table[1:] @ table[1:].T, torch.eye(5), rtol=0, atol=1e-5)
