"""Networks: shapes, published parameter counts, receptive fields, and the size and channels of any picture."""

from __future__ import annotations

import pytest
import torch
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, Dropout, InstanceNorm2d
from ganengine.variant import DataSpec, FieldSpec
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganengine_pix2pix.config import Pix2PixConfig
from ganengine_pix2pix.networks import PatchGAN, ResNet, UNet, build, fitting_levels


def spec(size: int, a: int = 3, b: int = 3) -> DataSpec:
    return DataSpec({"A": FieldSpec("image", (a, size, size)), "B": FieldSpec("image", (b, size, size))}, count=4)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]


# -- published sizes -----------------------------------------------------------------------------------------------


def test_unet_has_the_published_number_of_parameters() -> None:
    kernel = 4 * 4
    encoder = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512), (512, 512), (512, 512), (512, 512)]
    decoder = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64)]
    by_hand = sum(kernel * i * o for i, o in encoder + decoder)
    by_hand += sum(2 * o for _, o in encoder[1:-1] + decoder)  # norms: not after the first layer and the bottleneck
    by_hand += kernel * 128 * 3 + 3  # the output has a bias
    assert by_hand == 54_413_955  # "54.414 M" in the log of the authors' PyTorch code
    networks = build(Pix2PixConfig(g_filters=64, d_filters=64, norm="batch"), spec(256), 0)
    assert parameters(networks["G"]) == by_hand


def test_patchgan_has_the_published_number_of_parameters() -> None:
    by_hand = (16 * 6 * 64 + 64) + (16 * 64 * 128 + 256) + (16 * 128 * 256 + 512) + (16 * 256 * 512 + 1024)
    by_hand += 16 * 512 * 1 + 1
    assert by_hand == 2_768_705
    assert parameters(PatchGAN(6, 64, 70, "batch")) == by_hand


def test_resnet_has_the_published_number_of_parameters() -> None:
    ends = 49 * 3 * 64 + 128 + 49 * 64 * 3 + 3
    down = 9 * 64 * 128 + 256 + 9 * 128 * 256 + 512
    up = 9 * 256 * 128 + 256 + 9 * 128 * 64 + 128
    by_hand = ends + down + up + 9 * 2 * (9 * 256 * 256 + 512)
    assert by_hand == 11_383_427  # "11.383 M"
    assert parameters(ResNet(3, 3, 64, 9, "batch", 0.5)) == by_hand


def test_decoder_takes_the_widths_of_the_paper() -> None:
    unet = UNet(3, 3, 64, 8, "batch", 0.5, skips=True)
    up = [conv.in_channels for conv in convolutions(unet.up)]
    assert up == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    plain = UNet(3, 3, 64, 8, "batch", 0.5, skips=False)
    assert [conv.in_channels for conv in convolutions(plain.up)] == [512, 512, 512, 512, 512, 256, 128, 64]
    assert [conv.out_channels for conv in convolutions(plain.down)] == [64, 128, 256, 512, 512, 512, 512, 512]


@pytest.mark.parametrize(("levels", "dropped"), [(8, 3), (6, 3), (3, 2), (2, 1), (1, 0)])
def test_dropout_is_in_the_first_decoder_layers_and_always_on(levels: int, dropped: int) -> None:
    unet = UNet(3, 3, 2, levels, "batch", 0.5, skips=True)
    holders = [any(isinstance(m, Dropout) for m in layer.modules()) for layer in unet.up]
    assert holders == [True] * dropped + [False] * (levels - dropped)
    assert all(m.always for m in unet.modules() if isinstance(m, Dropout))
    assert not any(isinstance(m, Dropout) for m in unet.down.modules())


@pytest.mark.parametrize(("norm", "layer"), [("batch", BatchNorm2d), ("instance", InstanceNorm2d), ("none", None)])
def test_norms_are_where_the_paper_has_them(norm: str, layer: type | None) -> None:
    networks = build(Pix2PixConfig(norm=norm, g_filters=2, d_filters=2), spec(64), 0)  # type: ignore[arg-type]
    G, D = networks["G"], networks["D"]

    def normed(module: nn.Module) -> bool:
        return layer is not None and any(isinstance(m, layer) for m in module.modules())

    inner = layer is not None
    assert [normed(m) for m in G.down] == [False] + [inner] * 4 + [False]  # type: ignore[union-attr]
    assert [normed(m) for m in G.up] == [inner] * 5 + [False]  # type: ignore[union-attr]
    assert [normed(m) for m in D.layers] == (  # type: ignore[union-attr]
        [False, False, False, True, False, False, True, False, False, True, False, False] if inner else [False] * 12
    )


# -- receptive fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("receptive_field", "side"), [(1, 256), (16, 126), (34, 62), (70, 30), (142, 14), (286, 6)])
def test_receptive_field_by_gradient_support(receptive_field: int, side: int) -> None:
    torch.manual_seed(0)
    D = PatchGAN(1, 1, receptive_field, "none").double()  # type: ignore[arg-type]
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


@pytest.mark.parametrize(("receptive_field", "smallest"), [(1, 1), (16, 6), (34, 12), (70, 24), (142, 48), (286, 96)])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_smallest_picture_that_a_patchgan_takes(receptive_field: int, smallest: int, norm: str) -> None:
    config = Pix2PixConfig(g_filters=1, d_filters=1, receptive_field=receptive_field, norm=norm)  # type: ignore[arg-type]
    D = build(config, spec(smallest), 0)["D"]
    assert D(torch.randn(2, 6, smallest, smallest)).shape == (2, 1, 1, 1)
    if receptive_field > 1:
        with pytest.raises(UserError, match=f"--receptive-field {receptive_field}: expected pictures of at least"):
            build(config, spec(smallest - 1), 0)


def test_a_field_that_is_too_large_names_the_largest_that_fits() -> None:
    with pytest.raises(UserError, match=r"at least 24 pixels, they have 16\. Use --receptive-field 34"):
        build(Pix2PixConfig(receptive_field=70), spec(16), 0)


# -- sizes and channels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "levels"),
    [
        *[(256, 8), (512, 8), (128, 7), (64, 6), (32, 5), (16, 4), (4, 2), (2, 1), (1, 1)],
        *[(96, 5), (192, 6), (286, 6), (100, 4), (65, 4), (120, 6), (17, 2)],
    ],
)
def test_depth_fits_the_size(side: int, levels: int) -> None:
    assert fitting_levels(side) == levels


@pytest.mark.parametrize("generator", ["unet", "encoder-decoder", "resnet-6"])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_generators_at_the_usual_sizes(generator: str, size: int) -> None:
    config = Pix2PixConfig(generator=generator, g_filters=2, d_filters=2)  # type: ignore[arg-type]
    networks = build(config, spec(size, a=1, b=4), 0)
    painted = networks["G"](torch.rand(2, 1, size, size) * 2 - 1)
    assert painted.shape == (2, 4, size, size)
    assert painted.abs().max() <= 1
    assert networks["D"](torch.cat((torch.rand(2, 1, size, size), painted), 1)).shape[:2] == (2, 1)


def test_unet_ends_in_one_pixel() -> None:
    G = build(Pix2PixConfig(g_filters=2), spec(64), 0)["G"]
    x = torch.randn(1, 3, 64, 64)
    for layer in G.down:  # type: ignore[union-attr]
        x = layer(x)
    assert x.shape == (1, 16, 1, 1)


@settings(deadline=None, max_examples=40)
@given(
    generator=st.sampled_from(["unet", "encoder-decoder", "resnet-6"]),
    trained=st.integers(8, 40),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    norm=st.sampled_from(["batch", "instance", "none"]),
)
def test_any_size_and_any_channels(
    generator: str, trained: int, height: int, width: int, channels: tuple[int, int], norm: str
) -> None:
    config = Pix2PixConfig(generator=generator, norm=norm, g_filters=1, receptive_field=1)  # type: ignore[arg-type]
    G = build(config, spec(trained, *channels), 0)["G"].eval()
    painted = G(torch.randn(2, channels[0], height, width))
    assert painted.shape == (2, channels[1], height, width)
    assert torch.isfinite(painted).all()


def test_padding_repeats_the_edge_and_is_cropped_away() -> None:
    G = build(Pix2PixConfig(g_filters=2, dropout=0.0), spec(32), 0)["G"].eval()
    x = torch.randn(1, 3, 29, 62)
    padded = torch.cat((x, x[:, :, -1:].expand(-1, -1, 3, -1)), 2)
    padded = torch.cat((padded, padded[..., -1:].expand(-1, -1, -1, 2)), 3)
    assert torch.equal(G(x), G(padded)[..., :29, :62])


# -- start ---------------------------------------------------------------------------------------------------------


def test_the_start_is_that_of_the_paper_and_follows_the_seed() -> None:
    def built(seed: int) -> dict[str, nn.Module]:
        torch.manual_seed(seed)
        return build(Pix2PixConfig(norm="batch"), spec(64), 0)

    first, again, other = built(1), built(1), built(2)
    for name, network in first.items():
        weights = [conv.weight for conv in convolutions(network) if conv.weight.numel() > 10_000]
        assert len(weights) >= 3
        for weight in weights:  # 10,000 numbers: the standard error of the deviation is 0.7 %
            assert weight.std().item() == pytest.approx(0.02, rel=0.05)
        gains = torch.cat([m.weight for m in network.modules() if isinstance(m, BatchNorm2d)])
        assert gains.mean().item() == pytest.approx(1, abs=0.01)
        assert gains.std().item() == pytest.approx(0.02, rel=0.3)
        states = (network.state_dict(), again[name].state_dict(), other[name].state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize(("arm", "channels"), [("l1", None), ("gan", 4), ("l1+gan", 4), ("cgan", 5), ("l1+cgan", 5)])
def test_what_d_sees_follows_the_arm(arm: str, channels: int | None) -> None:
    config = Pix2PixConfig(arm=arm, g_filters=2, d_filters=2)  # type: ignore[arg-type]
    networks = build(config, spec(32, a=1, b=4), 0)
    assert ("D" in networks) == (channels is not None)
    if channels:
        assert convolutions(networks["D"])[0].in_channels == channels


def test_direction_turns_the_channels_round() -> None:
    G = build(Pix2PixConfig(direction="BtoA", g_filters=2), spec(32, a=1, b=4), 0)["G"]
    assert G(torch.randn(1, 4, 32, 32)).shape == (1, 1, 32, 32)
