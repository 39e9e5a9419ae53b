"""Tiles cover the picture, blend without seams, and come near what the picture as a whole gives."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine.data.pictures import to_levels, to_tensor
from ganengine.errors import UserError
from ganengine.nn import BatchNorm2d, InstanceNorm2d
from ganengine.nn.context import Context, draw_context
from ganengine.translation.statistics import WholeStatistics
from ganengine.translation.tiles import PASSES, Tiling, translate_tiles

# ----------------------------------------------------------------------------------------------------------------
# Geometry


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    multiple = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 6, 32]))
    tile = draw(st.integers(2 * multiple, 700))
    side = Tiling(tile, 0, multiple).side
    overlap = draw(st.none() if tile // 4 <= side // 2 and draw(st.booleans()) else st.integers(0, side // 2))
    return Tiling(tile, overlap, multiple)


@settings(deadline=None, max_examples=400)
@given(tilings(), st.integers(1, 5000))
def test_tiles_cover_every_pixel_and_their_weights_sum_to_one(tiling: Tiling, size: int) -> None:
    spans = tiling.spans(size)
    weights = tiling.weights(spans)
    total = np.zeros(spans[-1][1])
    for (start, stop), weight in zip(spans, weights, strict=True):
        assert len(weight) == stop - start <= tiling.tile
        assert (weight >= 0).all()
        total[start:stop] += weight
    assert len(total) == size
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)
    if size <= tiling.tile:
        assert spans == [(0, size)]
        return
    assert {stop - start for start, stop in spans[:-1]} == {tiling.side}
    assert tiling.side - tiling.step < spans[-1][1] - spans[-1][0] <= tiling.side
    assert all(start % tiling.step == 0 == start % tiling.multiple for start, _ in spans)
    assert spans[0][0] == 0
    for (_, stop), (start, _) in itertools.pairwise(spans[:-1]):
        assert stop - start >= tiling.least
    assert spans[-2][1] - spans[-1][0] >= tiling.least


def test_by_hand() -> None:
    tiling = Tiling(8, 4)
    assert (tiling.step, tiling.side) == (4, 8)
    assert tiling.spans(12) == [(0, 8), (4, 12)]
    # Of 4 pixels of overlap the outer one counts for nothing; a line leads from there across the inner two.
    left, right = tiling.weights(tiling.spans(12))
    np.testing.assert_allclose(left, [1, 1, 1, 1, 1, 0.75, 0.25, 0])
    np.testing.assert_allclose(right, [0, 0.25, 0.75, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((64, 33), "--overlap: expected at most half a tile (32 pixels), got 33"),
        ((7, None, 4), "--tile: these networks take tiles of at least 8 pixels, got 7"),
        ((15, 0, 1, 16), "--tile: these networks take tiles of at least 16 pixels, got 15"),
        ((15, 0, 4, 30), "--tile: these networks take tiles of at least 32 pixels, got 15"),
    ],
)
def test_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Tiling(*arguments)
    assert message in str(caught.value)


# ----------------------------------------------------------------------------------------------------------------
# Pictures


def scene(height: int, width: int) -> np.ndarray:
    """Return a smooth picture, uint8, whose parts differ: dark and flat at the left, wavy at the right."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin(x / 9) * np.cos(y / 7) * (x / width) ** 2
    planes = [
        0.15 + 0.5 * x / width + 0.3 * wave,
        0.4 + 0.25 * wave + 0.2 * y / height,
        0.3 + 0.4 * (x * y) / (width * height),
    ]
    return (np.stack(planes, axis=2).clip(0, 1) * 255).astype(np.uint8)


def network(norm: Callable[[int], nn.Module], seed: int = 0) -> nn.Sequential:
    """Return a network of five normalised layers that halves twice; a pixel sees some 20 pixels around."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), norm(8), nn.ReLU(),
        nn.Conv2d(8, 16, 4, stride=2, padding=1), norm(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 16, 4, stride=2, padding=1), norm(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1), norm(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), norm(8), nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    return net.eval()


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": lambda width: InstanceNorm2d(width, affine=True),
    "plain instance": nn.InstanceNorm2d,
    "batch": BatchNorm2d,
    "group": lambda width: nn.GroupNorm(4, width),
    "channels together": lambda width: nn.GroupNorm(1, width),
}
LAYERS = 5


def runner(net: nn.Module) -> Callable[..., Tensor]:
    def run(x: Tensor, place: str = "") -> Tensor:
        with torch.no_grad(), draw_context(Context(seed=0, statistics="own")):
            result: Tensor = net(x)
        return result

    return run


def both(net: nn.Module, pixels: np.ndarray, tiling: Tiling, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of the whole picture and that of tiles, as int."""
    run = runner(net)
    whole = to_levels(run(to_tensor(pixels)[None])[0], 16)
    tiled = translate_tiles(pixels, tiling, run, WholeStatistics({"G": net}, "own", passes), 16)
    return whole.astype(int), tiled.astype(int)


@pytest.mark.parametrize("norm", NORMS)
def test_as_many_passes_as_layers_give_what_the_whole_picture_gives(norm: str) -> None:
    whole, tiled = both(network(NORMS[norm]), scene(320, 384), Tiling(256, 128), LAYERS)
    assert np.abs(whole - tiled).max() <= 8  # of 65535: the rounding of float32 through five layers


def test_the_passes_suffice() -> None:
    """Nearer by far than tiles by their own statistics, in a picture whose parts differ much."""
    for seed in range(2):
        net, pixels = network(NORMS["instance"], seed), scene(320, 384)
        whole, tiled = both(net, pixels, Tiling(256, 128), PASSES)
        alone = translate_tiles(pixels, Tiling(256, 128), runner(net), NoStatistics(), 16)
        away, away_alone = np.abs(whole - tiled).mean(), np.abs(whole - alone).mean()
        assert away < away_alone / 20
        assert away < 65535 * 0.003


class NoStatistics(WholeStatistics):
    """Leaves each tile to itself."""

    def __init__(self) -> None:
        super().__init__({}, "own", 0)


def test_running_statistics_need_no_passes() -> None:
    net = network(NORMS["batch"])
    assert WholeStatistics({"G": net}, "running", PASSES).passes == 0
    assert WholeStatistics({"G": net, "z": nn.Parameter(torch.zeros(1))}, "own", PASSES).passes == PASSES
    tracked = nn.InstanceNorm2d(3, track_running_stats=True)
    assert WholeStatistics({"G": tracked}, "own", PASSES).passes == 0


def test_a_layer_called_twice_has_statistics_of_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = InstanceNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.norm(3 * torch.relu(self.norm(x)) + 1))

    whole, tiled = both(Twice().eval(), scene(100, 90), Tiling(32, 8), 2)
    assert np.abs(whole - tiled).max() <= 8


def test_hooks_are_gone_afterwards() -> None:
    net = network(NORMS["instance"])

    def broken(x: Tensor, place: str) -> Tensor:
        raise ValueError("stop")

    with contextlib.suppress(ValueError):
        translate_tiles(scene(64, 64), Tiling(32, 8), broken, WholeStatistics({"G": net}, "own", 1), 8)
    assert not any(module._forward_hooks for module in net.modules())


# ----------------------------------------------------------------------------------------------------------------
# Seams


def jumps(result: np.ndarray, along: int) -> np.ndarray:
    """Return how much neighbouring pixels differ, by place along an axis."""
    return np.abs(np.diff(result.astype(float), axis=along)).mean(axis=tuple(a for a in range(3) if a != along))


def borders(tiling: Tiling, size: int) -> list[int]:
    """Return the places between pixels where a tile starts, ends, or changes its weight's slope."""
    edge = tiling.least // 4
    places = {at for start, stop in tiling.spans(size) for at in (start, start + edge, stop - edge, stop)}
    return sorted(place - 1 for place in places if 0 < place < size)


def test_no_seams() -> None:
    """At the borders of tiles the result has no jump that the untiled one has not; tiles put side by side have."""
    net, pixels, tiling = network(NORMS["instance"]), scene(300, 428), Tiling(128, 32)
    whole, tiled = both(net, pixels, tiling, PASSES)
    pasted = np.zeros_like(whole)
    for top, bottom in tiling.spans(300):
        for left, right in tiling.spans(428):
            tile = runner(net)(to_tensor(np.ascontiguousarray(pixels[top:bottom, left:right]))[None])[0]
            pasted[top:bottom, left:right] = to_levels(tile, 16)
    for along, size in ((0, 300), (1, 428)):
        places = borders(tiling, size)
        assert len(places) >= 8
        away, away_pasted = (np.abs(jumps(result, along) - jumps(whole, along)) for result in (tiled, pasted))
        assert away[places].max() <= 1.5 * np.delete(away, places).max()
        assert away[places].max() < away_pasted[places].max() / 10  # the measure sees a seam where there is one


# ----------------------------------------------------------------------------------------------------------------
# Memory


def test_beside_the_picture_memory_holds_a_row_of_tiles() -> None:
    """numpy's and Python's memory, which holds the blend; torch's strips are counted by their number."""
    strips: list[Any] = []

    def run(x: Tensor, place: str) -> Tensor:
        strips.append(x.shape)
        return x

    pixels = np.zeros((4096, 256, 3), np.uint8)
    tracemalloc.start()
    result = translate_tiles(pixels, Tiling(128, 32), run, NoStatistics(), 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.shape == pixels.shape
    assert {tuple(shape) for shape in strips} == {(1, 3, 128, 128)}
    assert peak < 2 * pixels.nbytes


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
