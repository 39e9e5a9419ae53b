"""Penalties against closed forms for linear and quadratic D, and against finite differences for a small network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ganengine.errors import UserError
from ganengine.losses.penalties import drift_penalty, gradient_penalty, r1_penalty, r2_penalty

SHAPE = (3, 2, 4, 4)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, FAKE = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2)
MIX = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)


def test_linear_critic():
    """D(x) = <w, x>: the gradient is w everywhere."""
    w = randn(*SHAPE[1:], seed=3).requires_grad_()

    def D(x: Tensor) -> Tensor:
        return (x * w).sum((1, 2, 3))

    norm = w.square().sum().sqrt()
    gp = gradient_penalty(D, REAL, FAKE, MIX)
    torch.testing.assert_close(gp, ((norm - 1) ** 2).expand(3))
    torch.testing.assert_close(r1_penalty(D, REAL), norm.square().expand(3))
    (slope,) = torch.autograd.grad(gp.mean(), w, retain_graph=True)
    torch.testing.assert_close(slope, (2 * (norm - 1) * w / norm).detach())
    (slope,) = torch.autograd.grad(r1_penalty(D, REAL).mean(), w)
    torch.testing.assert_close(slope, 2 * w.detach())


def test_quadratic_critic():
    """D(x) = a/2 |x|^2: the gradient is a x, so the place where it is taken shows."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def D(x: Tensor) -> Tensor:
        return a / 2 * x.square().flatten(1).sum(1, keepdim=True)

    share = MIX.reshape(3, 1, 1, 1)
    radius = (share * REAL + (1 - share) * FAKE).flatten(1).norm(dim=1)
    torch.testing.assert_close(gradient_penalty(D, REAL, FAKE, MIX), (a * radius - 1) ** 2)
    torch.testing.assert_close(r1_penalty(D, REAL), a**2 * REAL.flatten(1).square().sum(1))
    torch.testing.assert_close(r2_penalty(D, FAKE), a**2 * FAKE.flatten(1).square().sum(1))
    (slope,) = torch.autograd.grad(gradient_penalty(D, REAL, FAKE, MIX).sum(), a)
    torch.testing.assert_close(slope, (2 * (a * radius - 1) * radius).sum().detach())


@pytest.mark.parametrize(
    "penalty",
    [
        lambda D: gradient_penalty(D, REAL, FAKE, MIX),
        lambda D: r1_penalty(D, REAL),
        lambda D: r2_penalty(D, FAKE),
    ],
    ids=["gp", "r1", "r2"],
)
def test_parameter_gradient_equals_finite_differences(penalty):
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Softplus(), nn.Conv2d(3, 1, 2)).double()
    weight = D[0].weight
    (slope,) = torch.autograd.grad(penalty(D).sum(), weight)
    direction = randn(*weight.shape, seed=4)
    step = 1e-5
    with torch.no_grad():
        weight += step * direction
    above = float(penalty(D).sum().detach())
    with torch.no_grad():
        weight -= 2 * step * direction
    below = float(penalty(D).sum().detach())
    assert float((slope * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=1e-6)


def test_score_is_the_mean_over_map_and_scales():
    w = randn(*SHAPE[1:], seed=5)

    def pixels(x: Tensor) -> Tensor:
        return x * w  # a logit per value: their mean has the gradient w / count

    def scales(x: Tensor) -> list[Tensor]:
        return [pixels(x), 3 * pixels(x).flatten(1).mean(1)]

    count = w.numel()
    torch.testing.assert_close(r1_penalty(pixels, REAL), (w / count).square().sum().expand(3))
    torch.testing.assert_close(r1_penalty(scales, REAL), (2 * w / count).square().sum().expand(3))


def test_samples_are_independent():
    def D(x: Tensor) -> Tensor:
        return x.flatten(1).pow(3).sum(1)

    together = gradient_penalty(D, REAL, FAKE, MIX)
    alone = [gradient_penalty(D, REAL[i : i + 1], FAKE[i : i + 1], MIX[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_flat_critic_gives_no_nan():
    w = torch.zeros(SHAPE[1:], dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: (x * w).sum((1, 2, 3)), REAL, FAKE, MIX)
    assert penalty.tolist() == [1.0, 1.0, 1.0]
    (slope,) = torch.autograd.grad(penalty.sum(), w)
    assert not slope.isnan().any()


def test_nothing_reaches_the_generator():
    w = torch.ones(SHAPE[1:], dtype=torch.float64, requires_grad=True)
    fake = FAKE.clone().requires_grad_()
    gradient_penalty(lambda x: (x * w).square().sum((1, 2, 3)), REAL, fake * 2, MIX).sum().backward()
    assert fake.grad is None
    assert w.grad is not None


def test_float16_logits_are_squared_in_float32():
    penalty = r1_penalty(lambda x: 300 * x.half().flatten(1), torch.ones(2, 1, 1, 1))
    assert penalty.dtype == torch.float32
    assert penalty.tolist() == [90000.0, 90000.0]  # beyond float16's 65504


def test_drift():
    logits = torch.tensor([[[[1.0, 3.0]]], [[[-2.0, 0.0]]]], dtype=torch.float64)
    torch.testing.assert_close(drift_penalty(logits), torch.tensor([5.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(
        drift_penalty([logits, torch.full((2, 1), 3.0, dtype=torch.float64)]),
        torch.tensor([7.0, 5.5], dtype=torch.float64),
    )


@pytest.mark.parametrize(("fake", "mix"), [(FAKE[:2], MIX), (FAKE, MIX[:2]), (FAKE, MIX.reshape(3, 1))])
def test_wrong_shapes(fake, mix):
    with pytest.raises(UserError, match=r"expected real and fake of one shape \[N, ...\] and mix \[N\]"):
        gradient_penalty(lambda x: x, REAL, fake, mix)
