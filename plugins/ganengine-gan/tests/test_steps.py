"""One step of the engine against the same step written by hand, in both orders; and what a schedule says when."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.batches import Batches
from ganengine.plugins import add_path
from ganengine.testing.subject import Subject
from ganengine.trainer import Trainer
from ganengine.variant import DataSpec, FieldSpec, Progress
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_gan import baseline, networks
from ganengine_gan.config import WGANConfig, WGANGPConfig

add_path(Path(__file__).parents[1])

PLAIN = {"architecture": "mlp", "latent": 8, "penalty": "none", "penalty_every": 1}
"""The game of 2014, small."""


@contextmanager
def started(name: str, **options: Any) -> Iterator[tuple[Trainer, nn.Module, nn.Module, list[Tensor], list[Tensor]]]:
    """Yield a trainer at step 0, copies of G and D, and lists that fill with what G and D are given."""
    subject = Subject(name, None)
    settings = subject.settings
    settings = replace(settings, config=replace(settings.config, **options))
    with subject.trainer(settings) as trainer:
        networks = trainer.players.networks
        G, D = (copy.deepcopy(networks[name]).train() for name in ("G", "D"))
        seen: dict[str, list[Tensor]] = {"G": [], "D": []}
        for key, inputs in seen.items():
            networks[key].register_forward_pre_hook(
                lambda _, args, inputs=inputs: inputs.append(args[0].detach().clone())
            )
        yield trainer, G, D, seen["G"], seen["D"]


def adam(network: nn.Module, trainer: Trainer) -> torch.optim.Adam:
    config = trainer.settings.config
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=config.betas, eps=config.adam_eps)


def same(network: nn.Module, trained: Any) -> bool:
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(network.parameters(), trained.parameters(), strict=True))


def bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def test_alternating_is_algorithm_1() -> None:
    """D on fresh noise; then G on fresh noise against the new D (arXiv:1406.2661)."""
    with started("gan", **PLAIN) as (trainer, G, D, latents, judged):
        trainer.round()
        assert len(latents) == 2
        assert not torch.equal(*latents)
        real = judged[0]
        d_step, g_step = adam(D, trainer), adam(G, trainer)
        (bce(D(real), 1.0) + bce(D(G(latents[0]).detach()), 0.0)).backward()
        d_step.step()
        bce(D(G(latents[1])), 1.0).backward()
        g_step.step()
        assert same(D, trainer.players.networks["D"])
        assert same(G, trainer.players.networks["G"])


def test_simultaneous_takes_both_gradients_at_the_old_weights() -> None:
    with started("gan", **PLAIN, order="simultaneous") as (trainer, G, D, latents, judged):
        trainer.round()
        assert len(latents) == 1  # one forward pass for both
        real = next(x for x in judged if not torch.allclose(x, G(latents[0]), atol=1e-6))
        d_step, g_step = adam(D, trainer), adam(G, trainer)
        fake_logits = D(G(latents[0]))
        g_loss = bce(fake_logits, 1.0)
        g_gradients = torch.autograd.grad(g_loss, list(G.parameters()), retain_graph=True)
        d_loss = bce(D(real), 1.0) + bce(fake_logits, 0.0)
        d_gradients = torch.autograd.grad(d_loss, list(D.parameters()))
        for network, gradients, step in ((G, g_gradients, g_step), (D, d_gradients, d_step)):
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            step.step()
        assert same(D, trainer.players.networks["D"])
        assert same(G, trainer.players.networks["G"])


def test_joined_batches_are_the_same_where_nothing_mixes_them() -> None:
    results = []
    for way in ("separate", "joined"):
        with started("gan", **PLAIN, d_batch=way) as (trainer, *_):
            trainer.round()
            results.append(torch.cat([p.detach().flatten() for p in trainer.players.networks["D"].parameters()]))
    assert torch.allclose(*results, atol=1e-6)


def test_joined_batches_mix_in_batch_norm() -> None:
    results = []
    for way in ("separate", "joined"):
        with started("dcgan", d_batch=way) as (trainer, *_):
            trainer.round()
            results.append(torch.cat([p.detach().flatten() for p in trainer.players.networks["D"].parameters()]))
    assert not torch.allclose(*results, atol=1e-5)


def test_a_warm_up_leaves_g_alone() -> None:
    with started("gan", **PLAIN, d_warmup=2) as (trainer, G, D, *_):
        for _ in range(2):
            trainer.round()
        assert same(G, trainer.players.networks["G"])
        assert not same(D, trainer.players.networks["D"])
        trainer.round()
        assert not same(G, trainer.players.networks["G"])


def test_a_phase_of_g_never_changes_d() -> None:
    """Training G sends gradients through a frozen D (behaviour B17)."""
    with started("gan", **PLAIN) as (trainer, _, _, _, _):
        due = [d for group in trainer.schedule.at(trainer.progress(), {}) for d in group]
        assert [d.phase.name for d in due] == ["d", "g"]
        before = [p.detach().clone() for p in trainer.players.networks["D"].parameters()]
        parts = Batches(trainer).of(due[1].phase, 1)
        trainer.updater.gradients(due[1], parts)
        trainer.updater.step(due[1])
        assert all(torch.equal(a, b) for a, b in zip(before, trainer.players.networks["D"].parameters(), strict=True))


def test_weights_stay_clipped() -> None:
    with started("wgan", architecture="mlp", eager_critic=False) as (trainer, *_):
        for _ in range(2):
            trainer.round()
            limit = max(float(p.detach().abs().max()) for p in trainer.players.networks["D"].parameters())
            assert limit <= 0.01


def test_the_critic_s_steps_of_the_published_code() -> None:
    """100 in the first 25 steps of G and at every 500th, else 5 (arXiv:1701.07875, published code)."""
    repeats = WGANConfig().d_repeats()
    assert callable(repeats)
    found = [repeats(Progress(step=step), {}) for step in (0, 24, 25, 499, 500, 501, 1000)]
    assert found == [100, 100, 5, 5, 100, 5, 100]
    assert WGANConfig(eager_critic=False).d_repeats() == 5
    assert WGANGPConfig().d_repeats() == 5


@pytest.mark.parametrize("every", [1, 4])
def test_a_lazy_penalty_keeps_its_strength(every: int) -> None:
    from ganengine.two_player.schedule import build

    schedule = build(WGANGPConfig(penalty="r1", penalty_weight=6.0, penalty_every=every))
    due = [d for group in schedule.at(Progress(step=0), {}) for d in group]
    carrier = next(d for d in due if d.phase.weights)
    assert carrier.phase.second_order
    assert carrier.phase.weights == {"r1": 3.0}
    assert carrier.gain == every
    names = [d.phase.name for group in schedule.at(Progress(step=1), {}) for d in group]
    assert names == ["d", "g"]


@pytest.mark.parametrize("name", ["dcgan", "lsgan", "wgan", "wgan-gp"])
def test_the_plain_loop_of_benches_trains_both_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Subject(name, None).settings
    kept: dict[str, nn.Module] = {}
    make = networks.build
    monkeypatch.setattr(networks, "build", lambda *given: kept.update(make(*given)) or kept)
    spec = DataSpec({"real": FieldSpec("image", (1, 8, 8))})
    step = baseline.build(settings.config, spec)
    before = {key: copy.deepcopy(network.state_dict()) for key, network in kept.items()}
    step({"real": torch.rand(4, 1, 8, 8) * 2 - 1})
    for key, network in kept.items():
        moved = [not torch.equal(tensor, before[key][path]) for path, tensor in network.named_parameters()]
        assert moved.count(False) <= (key == "D"), key  # a Wasserstein critic's last shift cancels
    if name == "wgan":
        assert all(parameter.abs().max() <= 0.01 for parameter in kept["D"].parameters())
