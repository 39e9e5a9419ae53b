"""How near pictures are to their ground truth: one value per picture.

Pictures are [N, C, H, W] on [0, 1]. Each function first rounds both to 8 bits, as a saved file would be, and computes
in float64 on the CPU; `average` makes the figure that is reported.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganengine.errors import UserError

PSNR_CAP = 100.0
"""dB; identical pictures, whose ratio is infinite, get this, so that a mean over pictures stays a number."""

SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III-C


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of each picture, [N], in [0, 1].

    Args:
        output, target: [N, C, H, W] on [0, 1].

    Raises:
        UserError: the shapes differ or are not [N, C, H, W].
    """
    output, target = _as_8_bit(output, target)
    return (output - target).abs().mean((1, 2, 3))


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture, [N], in dB.

        10 log10(1 / mean((output - target)^2)), at most 100; identical pictures have 100.

    Args and Raises: as `l1`.
    """
    output, target = _as_8_bit(output, target)
    return (-10.0 * (output - target).square().mean((1, 2, 3)).log10()).clamp(max=PSNR_CAP)


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean structural similarity of each picture, [N], in [-1, 1].

        (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2)), averaged over positions

    under an 11x11 Gaussian window of sigma 1.5 that stays inside the picture, C1 = 0.01^2, C2 = 0.03^2. The paper takes
    grey pictures; with more channels it is the mean over them.

    Args: as `l1`; both sides at least 11 pixels.

    Raises:
        UserError: as `l1`, or a side is shorter than the window.

    Paper: Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment", eq. 13 to 17.
    """
    output, target = _as_8_bit(output, target)
    n, _, height, width = output.shape
    if min(height, width) < SSIM_WINDOW:
        raise UserError(f"ssim: expected sides of at least {SSIM_WINDOW} pixels, got {height}x{width}. Use l1 or psnr.")
    x, y = output.reshape(-1, 1, height, width), target.reshape(-1, 1, height, width)
    mu_x, mu_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mu_x**2
    var_y = _window_mean(y * y) - mu_y**2
    cov = _window_mean(x * y) - mu_x * mu_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similarity = (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return similarity.reshape(n, -1).mean(1)


def edge_ratio(output: Tensor, target: Tensor) -> Tensor:
    """Return mean gradient magnitude of each output over that of its truth, [N]: blur is below 1, noise above.

    The gradient is taken by forward differences to the right and down, in each channel. A truth without any edge has no
    ratio: its value is NaN, which `average` leaves out.

    Args and Raises: as `l1`; both sides at least 2 pixels.
    """
    output, target = _as_8_bit(output, target)
    if min(output.shape[2:]) < 2:
        raise UserError(f"edge_ratio: expected sides of at least 2 pixels, got {list(output.shape[2:])}.")
    truth = edge_strength(target)
    return torch.where(truth > 0, edge_strength(output) / truth, torch.nan)


def average(values: Tensor) -> tuple[float, int]:
    """Return (mean, how many) of the per-picture values [N] that are defined; (NaN, 0) where none is."""
    defined = values[~values.isnan()]
    return float(defined.mean()), len(defined)


def _as_8_bit(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if output.shape != target.shape or output.ndim != 4:
        raise UserError(
            f"metrics: expected output and target of one shape [N, C, H, W], got {list(output.shape)} and"
            f" {list(target.shape)}."
        )
    output, target = (
        (pictures.detach().to("cpu", torch.float64).clamp(0, 1) * 255).round() / 255 for pictures in (output, target)
    )
    return output, target


def _window_mean(x: Tensor) -> Tensor:
    """Return the Gaussian-weighted mean around each position where the window fits, of [M, 1, H, W]."""
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype) - SSIM_WINDOW // 2
    weights = torch.softmax(-(offsets**2) / (2 * SSIM_SIGMA**2), 0)
    return F.conv2d(F.conv2d(x, weights.reshape(1, 1, 1, -1)), weights.reshape(1, 1, -1, 1))


def edge_strength(x: Tensor) -> Tensor:
    """Return the mean gradient magnitude of each picture [N, C, H, W], [N], by forward differences."""
    right = x[:, :, :-1, 1:] - x[:, :, :-1, :-1]
    down = x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
    return (right.square() + down.square()).sqrt().mean((1, 2, 3))
