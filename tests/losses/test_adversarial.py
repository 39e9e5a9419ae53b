"""Adversarial losses against numbers worked out by hand from SYSTEMS's formulas and against plain float64 Python."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.errors import UserError
from ganengine.losses import adversarial as adv
from ganengine.losses.adversarial import Adversarial, adversarial

LOG2 = math.log(2.0)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sp(t: float) -> float:
    """log(1 + e^t) without overflow."""
    return max(t, 0.0) + math.log1p(math.exp(-abs(t)))


def gradient(loss, logit: float) -> float:
    point = tensor(logit).requires_grad_()
    (slope,) = torch.autograd.grad(loss(point).sum(), point)
    return float(slope)


# (name, options, real logit, fake logit, D's loss, G's loss), all by hand
WORKED = [
    ("nonsaturating", {}, 0.0, 0.0, 2 * LOG2, LOG2),
    ("nonsaturating", {"scaling": "mean"}, 0.0, 0.0, LOG2, LOG2),
    ("nonsaturating", {"scaling": "half"}, 0.0, 0.0, LOG2, LOG2 / 2),
    ("nonsaturating", {}, math.log(3), -math.log(3), 2 * math.log(4 / 3), math.log(4)),  # D(x) = 3/4, D(G) = 1/4
    ("saturating", {}, 0.0, 0.0, 2 * LOG2, -LOG2),
    ("saturating", {}, math.log(3), -math.log(3), 2 * math.log(4 / 3), math.log(3 / 4)),
    ("saturating", {"scaling": "half"}, 0.0, 0.0, LOG2, -LOG2 / 2),
    ("ls", {}, 0.5, 0.5, 0.25, 0.125),
    ("ls", {}, 3.0, -2.0, 4.0, 4.5),
    ("ls", {"scaling": "mean"}, 3.0, -2.0, 2.0, 4.5),
    ("ls", {"real_target": 1.0, "fake_target": -1.0, "generator_target": 0.0}, 3.0, -2.0, 2.5, 2.0),
    ("hinge", {}, 0.25, -0.5, 1.25, 0.5),
    ("hinge", {}, 2.0, -3.0, 0.0, 3.0),
    ("hinge", {}, -2.0, 3.0, 7.0, -3.0),
    ("wasserstein", {}, 2.0, -3.0, -5.0, 3.0),
    ("wasserstein", {"scaling": "half"}, 2.0, -3.0, -2.5, 1.5),
    ("nonsaturating", {"smoothing": 0.1}, 2.0, 0.0, 0.9 * sp(-2) + 0.1 * sp(2) + LOG2, LOG2),
    ("nonsaturating", {"real_target": 0.9, "generator_target": 1.0}, 2.0, 0.0, 0.9 * sp(-2) + 0.1 * sp(2) + LOG2, LOG2),
    ("ls", {"smoothing": 0.1}, 0.0, 0.0, 0.405, 0.5),
]


@pytest.mark.parametrize(("name", "options", "real", "fake", "d", "g"), WORKED)
def test_worked_values(name, options, real, fake, d, g):
    losses = adversarial(name, **options)
    assert float(losses.d(tensor(real), tensor(fake))) == pytest.approx(d, abs=1e-12)
    assert float(losses.g(tensor(fake))) == pytest.approx(g, abs=1e-12)
    parts = losses.d_real(tensor(real)) + losses.d_fake(tensor(fake))
    assert float(parts) == pytest.approx(d, abs=1e-12)


# (G's loss, logit, its gradient): SYSTEMS B2 and A5
SLOPES = [
    (adv.saturating_g_loss, -10.0, -4.5397868702e-5),
    (adv.nonsaturating_g_loss, -10.0, -0.9999546021),
    (adv.nonsaturating_g_loss, 5.0, -0.0066928509),
    (adv.ls_g_loss, 5.0, 4.0),
    (adv.hinge_g_loss, 5.0, -1.0),
    (adv.wasserstein_g_loss, -10.0, -1.0),
]


@pytest.mark.parametrize(("loss", "logit", "slope"), SLOPES)
def test_gradients_of_g(loss, logit, slope):
    assert gradient(loss, logit) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize(
    ("d_loss", "g_loss", "name"),
    [
        (adv.nonsaturating_d_loss, adv.nonsaturating_g_loss, "nonsaturating"),
        (adv.saturating_d_loss, adv.saturating_g_loss, "saturating"),
        (adv.ls_d_loss, adv.ls_g_loss, "ls"),
        (adv.hinge_d_loss, adv.hinge_g_loss, "hinge"),
        (adv.wasserstein_d_loss, adv.wasserstein_g_loss, "wasserstein"),
    ],
)
def test_functions_are_the_plain_sum(d_loss, g_loss, name):
    real, fake = tensor(0.3, -1.2), tensor(2.0, -0.7)
    assert torch.equal(d_loss(real, fake), adversarial(name).d(real, fake))
    assert torch.equal(g_loss(fake), adversarial(name).g(fake))


def test_least_squares_targets_of_the_functions():
    assert float(adv.ls_d_loss(tensor(3.0), tensor(-2.0), a=-1.0, b=2.0)) == pytest.approx(1.0)
    assert float(adv.ls_g_loss(tensor(-2.0), c=0.0)) == pytest.approx(2.0)


@pytest.mark.parametrize("name", adv.FAMILIES)
def test_maps_are_averaged_per_sample_and_scales_over_maps(name):
    losses = adversarial(name)
    small = torch.linspace(-3, 3, 2 * 1 * 2 * 2, dtype=torch.float64).reshape(2, 1, 2, 2)
    large = torch.linspace(-1, 5, 2 * 1 * 3 * 4, dtype=torch.float64).reshape(2, 1, 3, 4)
    for term in (losses.d_real, losses.d_fake, losses.g):
        by_patch = [term(m.reshape(-1)).reshape(2, -1).mean(1) for m in (small, large)]
        torch.testing.assert_close(term(small), by_patch[0])
        torch.testing.assert_close(term([small, large]), (by_patch[0] + by_patch[1]) / 2)
        assert term([small, large]).shape == (2,)


@pytest.mark.parametrize("name", adv.FAMILIES)
@settings(deadline=None, max_examples=50)
@given(real=st.floats(-60, 60), fake=st.floats(-60, 60))
def test_swapping_the_labels_mirrors_the_logits(name, real, fake):
    plain = adversarial(name)
    swapped = adversarial(name, real_target=plain.family.fake, fake_target=plain.family.real)
    # Least squares is symmetric about 1/2, the others about 0.
    middle = 0.5 if name == "ls" else 0.0
    d, g = plain.d(tensor(real), tensor(fake)), plain.g(tensor(fake))
    mirrored = tensor(2 * middle - real), tensor(2 * middle - fake)
    assert float(swapped.d(*mirrored)) == pytest.approx(float(d), rel=1e-9, abs=1e-9)
    assert float(swapped.g(mirrored[1])) == pytest.approx(float(g), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(logit=st.floats(-700, 700))
def test_extreme_logits(logit):
    assert float(adv.nonsaturating_g_loss(tensor(logit))) == pytest.approx(sp(-logit), rel=1e-8, abs=1e-12)
    assert float(adv.saturating_g_loss(tensor(logit))) == pytest.approx(-sp(logit), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("name", ["nonsaturating", "ls"])
def test_random_smoothing_draws_a_target_per_sample(name):
    logits = torch.linspace(-2, 2, 3 * 4, dtype=torch.float64).reshape(3, 1, 2, 2)
    draws = tensor(0.0, 0.5, 1.0)
    loss = adversarial(name, smoothing=(0.1, 0.3)).d_real(logits, draws)
    for i, amount in enumerate((0.1, 0.2, 0.3)):
        fixed = adversarial(name, smoothing=amount).d_real(logits[i : i + 1])
        assert float(loss[i]) == pytest.approx(float(fixed), rel=1e-12)


def test_random_smoothing_over_scales_and_of_swapped_labels():
    maps = [torch.full((2, 1, 2, 2), 1.5, dtype=torch.float64), torch.full((2, 1, 1, 1), -0.5, dtype=torch.float64)]
    losses = adversarial("ls", real_target=0.0, fake_target=1.0, smoothing=(0.0, 0.4))
    # Targets 0 and 0.2: 1/2 of the mean over scales of (l - t)^2
    expected = tensor((1.5**2 + 0.5**2) / 4, (1.3**2 + 0.7**2) / 4)
    torch.testing.assert_close(losses.d_real(maps, tensor(0.0, 0.5)), expected)


def test_random_smoothing_needs_draws():
    with pytest.raises(UserError, match=r"expected draws \[N\]"):
        adversarial("ls", smoothing=(0.0, 0.3)).d_real(tensor(1.0))


def test_smoothing_fakes_warns():
    with pytest.warns(UserWarning, match="changes the optimal D"):
        losses = adversarial("nonsaturating", fake_smoothing=0.2)
    assert float(losses.d_fake(tensor(2.0))) == pytest.approx(0.2 * sp(-2) + 0.8 * sp(2))
    with pytest.warns(UserWarning, match="changes the optimal D"):
        adversarial("ls", fake_smoothing=(0.0, 0.1))


def test_smoothing_real_labels_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adversarial("nonsaturating", smoothing=0.1, fake_smoothing=(0.0, 0.0))


@pytest.mark.parametrize(
    ("name", "options", "logits", "expected"),
    [
        ("nonsaturating", {}, [2.0, -0.1, 0.3, 5.0], 0.5),
        ("saturating", {"smoothing": 0.1}, [0.0, 1.0], 0.5),
        ("nonsaturating", {"real_target": 0.0, "fake_target": 1.0}, [2.0, 1.0, -1.0, 3.0], -0.5),
        ("ls", {}, [0.6, 0.4, 0.9, 7.0], 0.5),  # about 1/2, the middle of 0 and 1
        ("ls", {"real_target": 1.0, "fake_target": -1.0}, [0.6, 0.4, -0.9, 7.0], 0.5),
        ("hinge", {}, [0.6, -0.4], 0.0),
    ],
)
def test_signs_say_on_which_side_logits_lie(name, options, logits, expected):
    assert float(adversarial(name, **options).signs(tensor(*logits))) == pytest.approx(expected)


def test_signs_of_maps_are_means_over_scales_and_wasserstein_has_none():
    maps = [tensor(1.0, 2.0), tensor(-1.0, 1.0, 1.0, -3.0).requires_grad_()]
    signs = adversarial("hinge").signs(maps)
    assert float(signs) == pytest.approx(0.5)
    assert not signs.requires_grad
    assert adversarial("wasserstein").signs(maps) is None


def test_readout():
    logits = [tensor(0.0, math.log(3)), tensor(math.log(3), 0.0).reshape(2, 1)]
    assert float(adversarial("nonsaturating").readout(logits)) == pytest.approx(0.625)
    assert float(adversarial("saturating").readout(tensor(0.0))) == pytest.approx(0.5)
    for name in ("ls", "hinge", "wasserstein"):
        assert float(adversarial(name).readout(tensor(4.0, -1.0))) == pytest.approx(1.5)
    half = torch.full((3, 1, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    shown = adversarial("hinge").readout(half)
    assert shown.shape == ()
    assert shown.dtype == torch.float32
    assert not shown.requires_grad


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hing", {}, 'got "hing". Did you mean hinge'),
        ("hinge", {"scaling": "means"}, 'got "means". Did you mean mean'),
        ("nonsaturating", {"real_target": 1.2}, r"expected targets in \[0, 1\]"),
        ("nonsaturating", {"real_target": 0.0}, "expected two different targets"),
        ("ls", {"generator_target": math.inf}, "expected finite targets"),
        ("hinge", {"real_target": 0.9}, r"expected targets \+1 and -1"),
        ("wasserstein", {"smoothing": 0.1}, "no labels to smooth"),
        ("saturating", {"generator_target": 1.0}, "no target of its own"),
        ("ls", {"smoothing": 1.0}, r"expected a share in \[0, 1\)"),
        ("ls", {"smoothing": (0.3, 0.1)}, r"expected a share in \[0, 1\)"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(UserError, match=message):
        adversarial(name, **options)


def test_unequal_batches_are_refused():
    with pytest.raises(UserError, match="as many real as fake samples, got 2 and 3"):
        adversarial("hinge").d(tensor(1, 2), tensor(1, 2, 3))


@pytest.mark.parametrize("name", adv.FAMILIES)
def test_second_order(name):
    losses: Adversarial = adversarial(name)
    logits = tensor(0.3, -0.4, 2.0, -2.5).reshape(2, 1, 1, 2).requires_grad_()
    for term in (losses.d_real, losses.d_fake, losses.g):
        assert torch.autograd.gradcheck(term, logits)
        assert torch.autograd.gradgradcheck(term, logits)
