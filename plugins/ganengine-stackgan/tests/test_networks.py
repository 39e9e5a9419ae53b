"""Networks: layers and exact counts of the papers' preset, what the own encoder looks at, conditioning augmentation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ganengine.config import parse
from ganengine.data.text import encode
from ganengine.errors import UserError
from ganengine.variant import DataSpec, FieldSpec, Stage
from torch import Tensor, nn

from ganengine_stackgan import networks, plugin, stack
from ganengine_stackgan.config import IntClsConfig, StackConfig
from ganengine_stackgan.text import CharEncoder, PictureEncoder, chosen, matching_loss, unit

INT_CLS, STACK = plugin.ganengine_variants()


def spec(size: int, **more: FieldSpec) -> DataSpec:
    return DataSpec(
        {"real": FieldSpec("image", (3, size, size)), "captions": FieldSpec("ids", (2, 32), 97), **more}, 100
    )


def paper(variant: object) -> object:
    return parse(variant, ["--preset", "paper"], "x").config  # type: ignore[arg-type]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def conv(inputs: int, outputs: int, kernel: int, bias: bool = False) -> int:
    return inputs * outputs * kernel**2 + outputs * bias


def norm(*widths: int) -> int:
    return 2 * sum(widths)


# -- counts, worked out from the papers' layers ------------------------------------------------------------------------

FC = 1024 * 128 + 128
AUGMENT = 1024 * 256 + 256


def bottleneck(width: int) -> int:
    inner = width // 4
    return conv(width, inner, 1) + conv(inner, inner, 3) + conv(inner, width, 3) + norm(inner, inner, width)


def judge(width: int) -> int:
    return conv(width + 128, width, 1) + norm(width) + conv(width, 1, 4, bias=True)


D64 = (
    FC + conv(3, 64, 4, bias=True) + conv(64, 128, 4) + conv(128, 256, 4) + conv(256, 512, 4) + norm(128, 256, 512)
    + judge(512)
)  # fmt: skip
G64 = (
    FC + conv(228, 1024, 4) + norm(1024) + bottleneck(1024)
    + conv(1024, 512, 4) + norm(512) + bottleneck(512)
    + conv(512, 256, 4) + conv(256, 128, 4) + norm(256, 128) + conv(128, 3, 4, bias=True)
)  # fmt: skip
G0 = (
    AUGMENT + 228 * 1024 * 16 + norm(1024)
    + conv(1024, 512, 3) + conv(512, 256, 3) + conv(256, 128, 3) + conv(128, 64, 3) + norm(512, 256, 128, 64)
    + conv(64, 3, 3, bias=True)
)  # fmt: skip
G256 = (
    AUGMENT + conv(3, 128, 3, bias=True) + conv(128, 256, 4) + conv(256, 512, 4) + norm(256, 512)
    + conv(512 + 128, 512, 3) + norm(512) + 4 * (2 * conv(512, 512, 3) + norm(512, 512))
    + conv(512, 256, 3) + conv(256, 128, 3) + conv(128, 64, 3) + conv(64, 32, 3) + norm(256, 128, 64, 32)
    + conv(32, 3, 3, bias=True)
)  # fmt: skip
D256 = (
    FC + conv(3, 64, 4, bias=True) + conv(64, 128, 4) + conv(128, 256, 4) + conv(256, 512, 4) + conv(512, 1024, 4)
    + conv(1024, 2048, 4) + norm(128, 256, 512, 1024, 2048)
    + conv(2048, 1024, 3) + conv(1024, 512, 3) + norm(1024, 512) + judge(512)
)  # fmt: skip


def test_counts_of_the_papers_networks() -> None:
    with torch.device("meta"):
        main = networks.build(paper(INT_CLS), spec(64), Stage((), "main"))  # type: ignore[arg-type]
        first, second = (
            stack.build(paper(STACK), spec(256), Stage((), name))  # type: ignore[arg-type]
            for name in ("stage-1", "stage-2")
        )
    assert {n: count(net) for n, net in main.items() if n != "E"} == {"G": G64, "D": D64}
    assert {n: count(net) for n, net in first.items() if n != "E"} == {"G0": G0, "D0": D64}
    assert {n: count(net) for n, net in second.items() if n != "E"} == {"G0": G0, "G": G256, "D": D256}
    assert all(not p.requires_grad for n in ("E", "G0") for p in second[n].parameters())


def test_logits_of_several_texts_are_those_of_each_and_gain_the_product() -> None:
    """By hand from the layers; on pictures of 8 x 8, whose features are 4 x 4."""
    torch.manual_seed(0)
    config = IntClsConfig(d_filters=3, condition=2, embedding=5)
    D = networks.Discriminator(config, 5, 3, 1).eval()
    pictures, texts = torch.randn(2, 3, 8, 8), torch.randn(4, 2, 5)
    found = D(pictures, texts)
    torch.testing.assert_close(found, torch.stack([D(pictures, each) for each in texts]))
    seen, project = D.look(pictures), D.project
    assert project is not None
    product = torch.einsum("nchw,echw,ne->n", seen, project.weight, texts[0]) / math.sqrt(5)
    D.project = None
    torch.testing.assert_close(found[0] - D(pictures, texts[0]), product)


def sides(network: nn.Module, *inputs: Tensor) -> list[int]:
    """Return the sides of the features after each change of size."""
    seen: list[int] = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Upsample)):
            module.register_forward_hook(lambda _, __, out: seen.append(out.shape[2]))
    network(*inputs)
    return [side for i, side in enumerate(seen) if i == 0 or seen[i - 1] != side]


@pytest.mark.parametrize(("low", "size"), [(8, 16), (16, 32), (16, 64)])
def test_sides_of_features(low: int, size: int) -> None:
    config = StackConfig(low=low, g0_filters=2, g_filters=4, d_filters=2, condition=3, latent=5, embedding=6, blocks=1)
    built = stack.build(config, spec(size), Stage((), "stage-2"))
    texts = torch.randn(2, 6)
    sketch, kl = built["G0"](torch.randn(2, 8), texts)
    assert (sketch.shape, kl.shape) == ((2, 3, low, low), (2,))
    made, kl = built["G"](sketch, torch.randn(2, 3), texts)
    assert (made.shape, kl.shape) == ((2, 3, size, size), (2,))
    assert built["D"](made, texts).shape == (2,)
    ladder = [4 << k for k in range(10) if 4 << k <= size]
    assert sides(built["D"], made, texts) == [*ladder[-2::-1], 1]
    assert sides(built["G0"], torch.randn(2, 8), texts) == [4 << k for k in range(1, 10) if 4 << k <= low]
    down = [low, low // 2, low // 4]
    assert sides(built["G"], sketch, torch.randn(2, 3), texts) == [
        *down,
        *(low // 4 << k for k in range(1, 10) if low // 4 << k <= size),
    ]
    one = networks.build(IntClsConfig(g_filters=4, d_filters=2, embedding=6), spec(size), Stage((), "main"))
    assert sides(one["G"], torch.randn(2, 32), texts) == ladder


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (IntClsConfig(), 28, r"--size: expected a power of two from 8 on, got 28"),
        (StackConfig(), 16, r"--size: expected more than stage I's --low 16, got 16"),
        (IntClsConfig(text_encoder="precomputed"), 32, r"--text-encoder precomputed: expected data with embeddings"),
    ],
)
def test_what_does_not_fit_is_refused(config: IntClsConfig | StackConfig, size: int, message: str) -> None:
    build = networks.build if isinstance(config, IntClsConfig) else stack.build
    with pytest.raises(UserError, match=message):
        build(config, spec(size), Stage((), "main"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 12},
        {"low": 4},
        {"kl": -1.0},
        {"blocks": 0},
        {"g_filters": 6},
        {"betas": (0.5, 1.0)},
        {"latent": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong)).replace('_', '-')}: expected"):
        replace(StackConfig(), **wrong)  # type: ignore[arg-type]


def test_precomputed_embeddings_need_no_encoder() -> None:
    data = spec(16, embedding=FieldSpec("vector", (3, 7)))
    built = networks.build(IntClsConfig(text_encoder="precomputed"), data, Stage((), "main"))
    assert set(built) == {"G", "D"}
    assert built["G"](torch.randn(2, 32), torch.randn(2, 7)).shape == (2, 3, 16, 16)


# -- text --------------------------------------------------------------------------------------------------------------


def test_an_embedding_has_unit_mean_square_and_ignores_padding() -> None:
    torch.manual_seed(0)
    E = CharEncoder(6, 5).double()
    for text in ("a red three, left", "x", "a blue five at the right"):
        short, long = (torch.from_numpy(encode(text, length))[None] for length in (24, 64))
        found = E(long)
        torch.testing.assert_close(E(short), found)
        torch.testing.assert_close(found.square().mean(1), torch.ones(1, dtype=torch.float64))
    assert not torch.allclose(E(long), E(torch.from_numpy(encode("a blue nine at the right", 64))[None]))
    assert E(torch.zeros(1, 16, dtype=torch.int64)).isfinite().all()


def test_matching_loss_by_hand() -> None:
    pictures = unit(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    texts = unit(torch.tensor([[3.0, 0.0], [1.0, 1.0]], dtype=torch.float64))
    s = 2 * torch.tensor([[1.0, math.sqrt(0.5)], [0.0, math.sqrt(0.5)]], dtype=torch.float64)  # exp(log 2) cos
    rows = -math.log(math.exp(2) / (math.exp(2) + math.exp(math.sqrt(2)))) - math.log(
        math.exp(math.sqrt(2)) / (1 + math.exp(math.sqrt(2)))
    )
    columns = -math.log(math.exp(2) / (math.exp(2) + 1)) - math.log(0.5)
    assert s.shape == (2, 2)
    found = matching_loss(pictures, texts, torch.tensor(math.log(2.0), dtype=torch.float64))
    assert found.shape == ()
    assert float(found) == pytest.approx((rows / 2 + columns / 2) / 2)
    warm = [matching_loss(pictures, texts, torch.tensor(w, dtype=torch.float64)) for w in (math.log(100.0), 9.0)]
    assert float(warm[0]) == pytest.approx(float(warm[1]))  # held at 100


def test_captions_are_chosen_among_those_that_are_there() -> None:
    rows = torch.tensor([[[1, 0], [2, 0], [0, 0]], [[3, 4], [0, 0], [0, 0]]])
    draws = torch.tensor([[0.0, 0.49, 0.5, 0.999], [0.0, 0.3, 0.7, 0.999]])
    assert chosen(rows, draws)[..., 0].tolist() == [[1, 1, 2, 2], [3, 3, 3, 3]]


def test_the_picture_encoder_has_the_texts_width() -> None:
    assert PictureEncoder(3, 16, 4, 7)(torch.randn(2, 3, 16, 16)).shape == (2, 7)


# -- conditioning augmentation -----------------------------------------------------------------------------------------


def test_kl_is_that_of_torch_and_zero_for_the_prior() -> None:
    torch.manual_seed(0)
    mu, log_variance = torch.randn(2, 5, 3, dtype=torch.float64)
    one = torch.distributions.Normal(mu, (log_variance / 2).exp())
    zero = torch.zeros_like(mu)
    wanted = torch.distributions.kl_divergence(one, torch.distributions.Normal(zero, zero + 1)).sum(1)
    torch.testing.assert_close(stack.kl_divergence(mu, log_variance), wanted)
    assert stack.kl_divergence(zero, zero).tolist() == [0.0] * 5
    # by hand: 1/2 (2^2 + e^1 - 1 - 1)
    assert stack.kl_divergence(torch.tensor([[2.0]]), torch.tensor([[1.0]])).item() == pytest.approx((2 + math.e) / 2)


def test_a_condition_is_mu_and_sigma_times_e() -> None:
    augment = stack.Augmentation(2, 1)
    with torch.no_grad():
        augment.out.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        augment.out.bias.copy_(torch.tensor([0.5, 0.0]))
    c, kl = augment(torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0]]))  # mu 3.5, log variance 2, sigma e
    assert c.item() == pytest.approx(3.5 + 2 * math.e)
    assert kl.item() == pytest.approx((3.5**2 + math.exp(2) - 1 - 2) / 2)
