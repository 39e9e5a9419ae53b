"""Losses against numbers worked out by hand, the schedule's rates, and one step of each preset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.config import parse
from ganengine.data import Batch
from ganengine.nn import ConditionalBatchNorm2d, spectral_norm
from ganengine.plugins import add_path, registry
from ganengine.step import Step
from ganengine.testing.subject import Subject
from ganengine.two_player import schedule
from ganengine.variant import DataSpec, FieldSpec, Progress
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine_cbn_gan import baseline, losses, networks
from ganengine_cbn_gan.blocks import EPS
from ganengine_cbn_gan.config import CBNGANConfig
from ganengine_cbn_gan.networks import build

add_path(Path(__file__).parents[1])

TINY = ("--size", "16", "--batch", "4", "--g-filters", "4", "--g-widest", "4", "--d-filters", "4", "--d-widest", "4")


class Painter(nn.Module):
    """Paints -0.25 * (1 + y) everywhere, and remembers the labels."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False).double()
        nn.init.constant_(self.layer.weight, -0.25)
        self.asked: list[Tensor] = []

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        self.asked.append(y)
        return self.layer(1.0 + y.double().unsqueeze(1))[:, :, None, None].expand(-1, -1, 2, 2)


class Judge(nn.Module):
    """l = 2 * mean + y."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale * x.mean((1, 2, 3)) + y


def toy_step() -> Step:
    real = torch.tensor([0.25, -1.0, 0.75, -0.5], dtype=torch.float64)[:, None, None, None].expand(-1, 1, 2, 2)
    batch = Batch({"real": real, "label": torch.tensor([0, 1, 2, 0])}, torch.arange(4))
    return Step({"G": Painter(), "D": Judge()}, batch, Progress(), seed=0)


def test_hinge_by_hand() -> None:
    step, built = toy_step(), losses.build(CBNGANConfig())
    # logits of real: 2 * (0.25, -1, 0.75, -0.5) + (0, 1, 2, 0) = (0.5, -1, 3.5, -1)
    on_real = [0.5, 2.0, 0.0, 2.0]
    terms = built["d"](step)
    fake = [2 * -0.25 * (1 + y) + y for y in step["G"].asked[0].tolist()]  # -0.5, 0, 0.5
    assert list(terms) == ["d"]
    assert terms["d"].tolist() == pytest.approx([r + max(0.0, 1 + f) for r, f in zip(on_real, fake, strict=True)])
    assert step.reports["real"].item() == pytest.approx((0.5 - 1 + 3.5 - 1) / 4)
    terms = built["g"](step)
    fake = [2 * -0.25 * (1 + y) + y for y in step["G"].asked[1].tolist()]
    assert list(terms) == ["g"]
    assert terms["g"].tolist() == pytest.approx([-f for f in fake])


def test_labels_of_fakes_are_drawn_uniformly() -> None:
    step = toy_step()
    batch = Batch(
        {"real": torch.zeros(3000, 1, 2, 2), "label": torch.zeros(3000, dtype=torch.long)}, torch.arange(3000)
    )
    step = Step({"G": Painter(), "D": Judge()}, batch, Progress(), seed=0)
    losses.build(CBNGANConfig())["g"](step)
    counts = step["G"].asked[0].bincount(minlength=3)
    assert (counts - 1000).abs().max() < 130  # five standard deviations


# -- the orthogonal penalty ----------------------------------------------------------------------------------------


def test_off_diagonal_by_hand() -> None:
    # M M^T = [[5, 11], [11, 25]]; with a third row (0, 1): 2 and 4 stand beside them
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    assert losses.off_diagonal(matrix[:2]).item() == pytest.approx(2 * 121)
    assert losses.off_diagonal(matrix).item() == pytest.approx(2 * (121 + 4 + 16))


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_off_diagonal_is_its_formula_either_way_round(rows: int, columns: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=source, dtype=torch.float64)
    gram = matrix @ matrix.T
    expected = (gram * (1 - torch.eye(rows, dtype=torch.float64))).square().sum()
    assert losses.off_diagonal(matrix).item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("spectral", [False, True])
def test_penalty_is_over_the_layers_of_g_before_normalisation(spectral: bool) -> None:
    config = CBNGANConfig(g_filters=2, g_widest=2, d_filters=2, d_widest=2, latent=6, embedding=3, condition="latent")
    fields = {"real": FieldSpec("image", (1, 8, 8)), "label": FieldSpec("label", (), 3)}
    torch.manual_seed(0)
    G = build(config, DataSpec(fields), 0)["G"].double()
    if spectral:
        spectral_norm(G, torch.Generator())
    layers = [m for m in G.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 5
    expected = 0.0
    for layer in layers:
        weight = layer.parametrizations.weight.original if spectral else layer.weight  # type: ignore[union-attr]
        expected += losses.off_diagonal(weight.detach().flatten(1)).item()
    assert losses.orthogonal_penalty(G).item() == pytest.approx(expected)  # type: ignore[arg-type]


def test_penalty_is_a_term_of_g_with_its_weight() -> None:
    step = toy_step()
    step["G"].layer = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        step["G"].layer.weight.copy_(torch.tensor([[1.0], [3.0]]))  # W W^T has 3 off its diagonal, twice
    terms = losses.build(CBNGANConfig(orthogonal=0.5))["g"](step)
    assert terms["orthogonal"].tolist() == pytest.approx([0.5 * 18] * 4)
    assert set(terms) == {"g", "orthogonal"}


# -- the schedule and the presets ----------------------------------------------------------------------------------


def test_linear_rate_falls_over_the_last_ninth() -> None:
    game = schedule.build(CBNGANConfig(lr=2e-4, d_lr=4e-4, lr_ramp="linear", d_steps=5))
    for images, share in ((0, 1.0), (400, 1.0), (425, 0.5), (450, 0.0)):
        (d,), (g,) = game.at(Progress(images=images, horizon=450), {})
        assert (d.lr, g.lr) == pytest.approx((4e-4 * share, 2e-4 * share))
        assert (d.repeats, g.repeats) == (5, 1)
    assert all(o.options["betas"] == (0.0, 0.9) for o in game.optimizers.values())


def preset(name: str, *words: str) -> Any:
    return parse(registry().variant("cbn-gan"), ["--preset", name, *words], "ganengine run cbn-gan")


def test_presets_are_the_papers_recipes() -> None:
    sngan, sagan, biggan = (preset(name) for name in ("sngan", "sagan", "biggan-lite"))
    assert (sngan.config.lr, sngan.config.d_lr, sngan.config.d_steps, sngan.config.lr_ramp) == (2e-4, 2e-4, 5, "linear")
    assert sngan.engine.horizon == 144_000_000  # 450,000 steps of G, 5 batches of 64 each
    assert (sagan.config.lr, sagan.config.d_lr, sagan.config.d_steps) == (1e-4, 4e-4, 1)
    assert sagan.config.attention
    assert (sngan.engine.spectral_norm, sagan.engine.spectral_norm, biggan.engine.spectral_norm) == ("none", "G", "G")
    assert (biggan.config.lr, biggan.config.d_lr, biggan.config.d_steps) == (5e-5, 2e-4, 2)
    assert (biggan.config.condition, biggan.config.embedding, biggan.config.orthogonal) == ("latent", 128, 1e-4)
    assert [s.config.betas for s in (sngan, sagan, biggan)] == [(0.0, 0.9), (0.0, 0.9), (0.0, 0.999)]
    assert (sngan.config.class_spread, sagan.config.class_spread) == (0, 0)
    assert {s.config.adversarial for s in (sngan, sagan, biggan)} == {"hinge"}
    # decay 0.9999 in a step of 2 batches of 64: half is left after ln 2 / 1e-4 steps
    assert biggan.engine.ema_images == pytest.approx(6931 * 128, rel=0.01)


@pytest.mark.parametrize("name", ["sngan", "sagan", "biggan-lite"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_preset_plays(name: str, precision: str) -> None:
    subject = Subject("cbn-gan", None)
    settings = preset(name, *TINY, "--precision", precision, "--device", "cpu", "--threads", "1")
    with subject.trainer(settings) as trainer:
        G = trainer.players.networks["G"]
        before = [parameter.detach().clone() for parameter in G.parameters()]
        for _ in range(2):
            trainer.round()
        after = list(G.parameters())
        assert all(parameter.isfinite().all() for parameter in after)
        moved = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert moved > 0.9 * len(before)


def test_training_makes_the_classes_differ() -> None:
    subject = Subject("cbn-gan", None)
    config = replace(subject.settings.config, class_spread=0.0)
    with subject.trainer(replace(subject.settings, config=config)) as trainer:
        G = trainer.players.networks["G"]
        z = torch.randn(1, trainer.settings.config.latent).expand(2, -1)

        def gap() -> float:
            G.eval()
            with torch.no_grad():
                one, other = G(z, torch.tensor([0, 1]))
            G.train()
            return float((one - other).abs().mean())

        assert gap() == 0
        for _ in range(5):
            trainer.round()
        assert gap() > 1e-4


@torch.no_grad()
def test_the_plain_loop_of_benches_has_norms_that_compute_the_same() -> None:
    ours = ConditionalBatchNorm2d(3, 4, eps=EPS, activation="relu")
    ours.gamma.normal_(1, 0.5)
    ours.beta.normal_(0, 0.5)
    x, y = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    torch.testing.assert_close(baseline.Norm(ours)(x, y), ours(x, y))


def test_the_plain_loop_of_benches_trains_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(registry().variant("cbn-gan"), list(TINY), "test").config
    kept: dict[str, nn.Module] = {}
    monkeypatch.setattr(networks, "build", lambda *given: kept.update(build(*given)) or kept)
    spec = DataSpec({"real": FieldSpec("image", (1, 16, 16)), "label": FieldSpec("label", (), 3)})
    step = baseline.build(config, spec)
    before = {key: {n: p.detach().clone() for n, p in network.named_parameters()} for key, network in kept.items()}
    step({"real": torch.rand(4, 1, 16, 16) * 2 - 1, "label": torch.tensor([0, 1, 2, 0])})
    for key, network in kept.items():
        still = {n for n, p in network.named_parameters() if torch.equal(p, before[key][n])}
        assert still <= {"out.bias"}, key  # inside the margins real and fake draw at it equally
