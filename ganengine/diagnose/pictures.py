"""Draw what diagnoses show: points and their density over time, curves of D."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganengine.errors import UserError
from ganengine.runfolder import write_whole
from ganengine.scatter import FAKE, SIDE, scatter

if TYPE_CHECKING:
    from ganengine.diagnose.d_optimum import Optimum

CELLS = 64
"""Of a density, along each side."""
CAPTION = 16
"""Pixels above a pair of pictures."""
MARGIN = 4


def density(points: Tensor, limit: float) -> np.ndarray:
    """Draw how densely points lie: a histogram, blurred by a cell, from white to blue by the root of the count.

    Args:
        points: [N, 2]; those outside the picture are not counted.
        limit: largest coordinate in the picture.

    Returns:
        [SIDE, SIDE, 3], uint8.
    """
    edges = np.linspace(-limit, limit, CELLS + 1)
    finite = points[points.isfinite().all(1)].double().numpy()
    counts = np.histogram2d(finite[:, 1], finite[:, 0], (edges, edges))[0][::-1]
    kernel = np.exp(-(np.arange(-2.0, 3.0) ** 2) / 2)
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel / kernel.sum(), "same")
    share = np.sqrt(counts / max(counts.max(), 1e-12))[..., None]
    page: np.ndarray = np.rint(255 * (1 - share) + np.asarray(FAKE) * share).astype(np.uint8)
    return page.repeat(SIDE // CELLS, 0).repeat(SIDE // CELLS, 1)


def panel(points: Tensor, real: Tensor, caption: str) -> np.ndarray:
    """Draw points over real ones, their density below, a caption above."""
    limit = 1.25 * float(real.abs().max())
    page = Image.new("RGB", (SIDE + MARGIN, 2 * (SIDE + MARGIN) + CAPTION), "white")
    pen = ImageDraw.Draw(page)
    pen.text((2, 2), caption, "black", ImageFont.load_default())
    for drawn, top in ((scatter(points, real, limit), CAPTION), (density(points, limit), CAPTION + SIDE + MARGIN)):
        page.paste(Image.fromarray(drawn), (0, top))
        pen.rectangle((0, top, SIDE - 1, top + SIDE - 1), outline="lightgrey")
    return np.asarray(page)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Put panels of one size together; a row that is shorter is filled up with white."""
    widest = max(map(len, rows))
    blank = np.full_like(rows[0][0], 255)
    return np.concatenate([np.concatenate([*row, *[blank] * (widest - len(row))], 1) for row in rows])


def check_plots() -> None:
    """Check that curves can be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            "Plots need matplotlib, which is not installed. Install the extra: pip install 'ganengine[report]', or "
            "leave the plot out with --no-plot."
        ) from error


def plot_optima(path: Path, optima: Sequence[Optimum]) -> None:
    """Plot D beside D* and both densities, a panel for each p_G, without needing a display.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(optima), 4), layout="constrained")
    for place, optimum in enumerate(optima):
        axes = figure.add_subplot(1, len(optima), place + 1)
        for name, style in (("p_data", ":"), ("p_G", "-."), ("D*", "--"), ("D", "-")):
            axes.plot(optimum.x, optimum.curves[name], style, label=name)
        axes.set(
            xlim=(min(0.0, optimum.mean) - 4, max(0.0, optimum.mean) + 4),
            ylim=(0, 1),
            xlabel="x",
            title=f"p_G = N({optimum.mean:g}, 1): loss {optimum.found['loss']:.4f}, least {optimum.best['loss']:.4f}",
        )
        axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    write_whole(path, data.getvalue())
