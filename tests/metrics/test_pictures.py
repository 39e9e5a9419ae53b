"""Measures of pictures, against hand results and a slow float64 transcription of the SSIM formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganengine.errors import UserError
from ganengine.metrics.pictures import average, edge_ratio, l1, psnr, ssim


def flat(*levels: float, channels: int = 3, side: int = 4) -> Tensor:
    """Pictures of one 8-bit level each."""
    return (torch.tensor(levels) / 255).reshape(-1, 1, 1, 1).expand(-1, channels, side, side)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_l1_and_psnr_by_hand():
    output, target = flat(51, 255, 10), flat(0, 0, 12)
    assert l1(output, target).tolist() == pytest.approx([0.2, 1.0, 2 / 255], abs=1e-12)
    assert psnr(output, target).tolist() == pytest.approx([20 * math.log10(5), 0.0, 20 * math.log10(127.5)], abs=1e-9)


def test_one_wrong_value():
    target = torch.zeros(1, 3, 2, 2)
    output = target.clone()
    output[0, 1, 0, 1] = 1.0
    assert float(l1(output, target)) == pytest.approx(1 / 12)
    assert float(psnr(output, target)) == pytest.approx(10 * math.log10(12))


def test_identical_pictures_have_the_cap():
    x = rand(2, 3, 16, 16)
    assert psnr(x, x).tolist() == [100.0, 100.0]
    assert l1(x, x).tolist() == [0.0, 0.0]
    large = torch.zeros(1, 3, 300, 300)
    almost = large.clone()
    almost[0, 0, 0, 0] = 1 / 255
    assert float(psnr(almost, large)) == 100.0  # 102.4 dB without the cap


def test_rounding_to_8_bits_comes_first():
    # 0.4 of a level rounds away, 0.6 becomes a whole one, values off the scale are cut.
    output = torch.tensor([0.4, 0.6, 280.0, -30.0]).reshape(4, 1, 1, 1) / 255
    target = torch.tensor([0.0, 0.0, 255.0, 0.0]).reshape(4, 1, 1, 1) / 255
    assert l1(output, target).tolist() == pytest.approx([0.0, 1 / 255, 0.0, 0.0], abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_rounded_pictures_are_judged_as_they_are(seed):
    output, target = rand(2, 3, 12, 13, seed=seed), rand(2, 3, 12, 13, seed=seed + 1)
    rounded = [(p.double() * 255).round() / 255 for p in (output, target)]
    for metric in (l1, psnr, ssim, edge_ratio):
        values = metric(output, target)
        assert values.shape == (2,)
        assert torch.equal(values, metric(*rounded))
        assert torch.equal(values[1:], metric(output[1:], target[1:]))
    x, y = (p.numpy() for p in rounded)
    np.testing.assert_allclose(l1(output, target), np.abs(x - y).mean((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(psnr(output, target), -10 * np.log10(((x - y) ** 2).mean((1, 2, 3))), rtol=1e-12)


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13, position by position, variances from centred values."""
    place = np.arange(11) - 5
    weight = np.exp(-(place[:, None] ** 2 + place[None, :] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    c1, c2, values = 0.01**2, 0.03**2, []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (weight * a).sum(), (weight * b).sum()
            va, vb = (weight * (a - ma) ** 2).sum(), (weight * (b - mb) ** 2).sum()
            cov = (weight * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_ssim_equals_the_formula():
    target = rand(2, 2, 14, 17)
    output = (target + 0.3 * rand(2, 2, 14, 17, seed=1)).clamp(0, 1)
    grey = [(p.double().numpy() * 255).round() / 255 for p in (output, target)]
    expected = [np.mean([slow_ssim(grey[0][n, c], grey[1][n, c]) for c in range(2)]) for n in range(2)]
    np.testing.assert_allclose(ssim(output, target), expected, rtol=1e-9)


def test_ssim_by_hand():
    # Flat pictures have no variance: (2 m n + c1) / (m^2 + n^2 + c1), with m = 1, n = 0.2.
    x, y = flat(255, side=12), flat(51, side=12)
    assert float(ssim(x, y)) == pytest.approx((0.4 + 1e-4) / (1.04 + 1e-4), rel=1e-9)
    noise = rand(1, 1, 20, 20)
    assert float(ssim(noise, noise)) == pytest.approx(1.0, abs=1e-12)
    assert float(ssim(noise, 1 - noise)) < 0
    grey = torch.full_like(noise, 0.2)
    torch.testing.assert_close(ssim(noise, grey), ssim(grey, noise))


def test_edge_ratio():
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1.0
    ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    soft = torch.zeros(1, 1, 8, 8)
    soft[..., 4:] = 102 / 255
    assert float(edge_ratio(step, step)) == 1.0
    assert float(edge_ratio(soft, step)) == pytest.approx(0.4)
    # Both rise by 1 along a row: the mean gradient is the same, however far it is spread.
    assert float(edge_ratio(ramp, step)) == pytest.approx(1.0)
    assert float(edge_ratio(step.mT, step)) == pytest.approx(1.0)
    corner = torch.zeros(1, 1, 2, 2)
    corner[0, 0, 0, 0] = 1.0  # falls by 1 to the right and downwards: sqrt 2
    line = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)
    assert float(edge_ratio(corner, line)) == pytest.approx(math.sqrt(2))


def test_blur_lowers_the_edge_ratio():
    sharp = rand(3, 3, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    assert bool((edge_ratio(blurred, sharp) < 0.6).all())
    assert bool((edge_ratio(sharp, blurred) > 1.6).all())


def test_average_leaves_out_what_is_undefined():
    truth = torch.cat([flat(10), rand(1, 3, 4, 4)])
    ratios = edge_ratio(truth, truth)
    assert math.isnan(float(ratios[0]))
    assert average(ratios) == (1.0, 1)
    assert average(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)) == (3.0, 3)
    value, n = average(ratios[:1])
    assert math.isnan(value)
    assert n == 0


@pytest.mark.parametrize("metric", [l1, psnr, ssim, edge_ratio])
@pytest.mark.parametrize("shapes", [((1, 3, 12, 12), (1, 1, 12, 12)), ((3, 12, 12), (3, 12, 12))])
def test_wrong_shapes(metric, shapes):
    with pytest.raises(UserError, match=r"expected output and target of one shape \[N, C, H, W\]"):
        metric(*(torch.zeros(shape) for shape in shapes))


def test_small_pictures():
    with pytest.raises(UserError, match="expected sides of at least 11 pixels, got 10x12"):
        ssim(torch.zeros(1, 1, 10, 12), torch.zeros(1, 1, 10, 12))
    with pytest.raises(UserError, match="expected sides of at least 2 pixels"):
        edge_ratio(torch.zeros(1, 1, 1, 12), torch.zeros(1, 1, 1, 12))
