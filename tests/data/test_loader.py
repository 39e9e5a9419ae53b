"""Batches: a pure function of seed and position, whatever the batch size, rank, order of draws and memory."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganengine.data import SOURCES, BadPictureError, DataOptions, Dataset, Loader, open_data
from ganengine.data.pictures import read_picture, to_tensor
from ganengine.errors import DataError
from ganengine.variant import DataSpec, FieldSpec

COUNT = 7


class Maps(Dataset):
    """Pixels that tell sample, row and column, so that a crop and a mirror image can be read off."""

    def __init__(self, size=4, count=COUNT, bad=()):
        self.spec = DataSpec(
            {"A": FieldSpec("image", (3, size, size)), "B": FieldSpec("image", (1, size, size))}, count
        )
        self.reads = 0
        self.unreadable = set(bad)

    def read(self, split, index, size):
        self.reads += 1
        if index in self.unreadable:
            raise BadPictureError(f"{split}/{index}.png", "damaged")
        row, column = np.indices((size, size), dtype=np.uint8)
        a = np.stack([np.full_like(row, index), row, column], axis=2)
        return {"A": a, "B": a[:, :, 2:] + 100}


def options(**settings):
    return DataOptions(**{"size": 4, "load_size": 6, **settings})


def levels(images: torch.Tensor) -> torch.Tensor:
    return ((images + 1) * 127.5).round().int()


def same(a, b) -> bool:
    return torch.equal(a.index, b.index) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def stream():
    """The first 6 epochs and a bit, drawn at once."""
    with Loader(Maps(), options()) as loader:
        return loader.draw(0, 50)


def test_each_epoch_is_a_permutation_and_no_two_are_the_same(stream):
    epochs = [tuple(stream.index[start : start + COUNT].tolist()) for start in range(0, 42, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len(set(epochs)) == 6


def test_crops_are_inside_and_all_fields_are_cut_and_mirrored_alike(stream):
    a, b = levels(stream.A), levels(stream.B)
    assert torch.equal(a[:, 0], stream.index.int()[:, None, None].expand(-1, 4, 4))
    assert torch.equal(a[:, 2] + 100, b[:, 0])
    rows, columns = a[:, 1], a[:, 2]
    assert torch.equal(rows - rows[:, :1], torch.arange(4).int()[None, :, None].expand(50, 4, 4))
    mirrored = columns[:, 0, 0] > columns[:, 0, 1]
    steps = torch.where(mirrored, -1, 1)[:, None, None] * torch.arange(4)
    assert torch.equal(columns - columns[:, :, :1], steps.expand(50, 4, 4).int())
    corner = torch.where(mirrored, columns[:, 0, 3], columns[:, 0, 0])
    assert set(rows[:, 0, 0].tolist()) == set(corner.tolist()) == {0, 1, 2}  # 6 - 4 + 1 places, all of them met
    assert 10 <= mirrored.sum() <= 40


def test_augmentation_is_keyed_by_epoch_and_sample(stream):
    looks = {tuple(levels(stream.A)[row, :, 0, 0].tolist()) for row in range(42)}
    assert len(looks) > 20  # 7 samples, each in many forms


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10))
def test_any_split_into_batches_gives_the_same_stream(stream, counts, start):
    with Loader(Maps(), options(memory_mib=start % 2)) as loader:
        position = start
        for count in counts:
            if position + count <= 50:
                assert same(loader.draw(position, count), stream.narrow(position, count))
            position += count


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 20), st.integers(1, 20), st.integers(1, 5))
def test_the_shares_of_ranks_make_up_the_batch(stream, position, count, world):
    shares = []
    for rank in range(world):
        with Loader(Maps(), options()) as loader:
            shares.append(loader.draw(position, count, rank=rank, world=world))
    assert max(s.size for s in shares) - min(s.size for s in shares) <= 1
    whole = stream.narrow(position, count)
    assert torch.equal(torch.cat([s.index for s in shares]), whole.index)
    assert all(torch.equal(torch.cat([s[name] for s in shares]), whole[name]) for name in whole)


def test_draws_in_any_order_with_hints_and_sizes(stream):
    with Loader(Maps(), options()) as loader:
        loader.prefetch(9, 3)
        loader.prefetch(30, 5)
        small = loader.draw(3, 5, size=2)
        assert same(loader.draw(30, 5), stream.narrow(30, 5))
        assert same(loader.draw(9, 3), stream.narrow(9, 3))
        assert same(loader.draw(9, 3), stream.narrow(9, 3))
        assert same(loader.draw(3, 5, size=2), small)
    assert small.A.shape == (5, 3, 2, 2)
    assert small.index.tolist() == stream.index[3:8].tolist()
    # Made of the 6 x 6 that 4 x 4 are cropped from: two places become one, halves rounded up, and 2 x 2 of
    # the 3 x 3 are cut.
    assert set(levels(small.A)[:, 1].unique().tolist()) == {1, 3, 5}
    assert all(max(rows) - min(rows) == 2 for rows in levels(small.A)[:, 1].flatten(1).tolist())


def test_seeds_differ(stream):
    with Loader(Maps(), options(seed=1)) as loader:
        assert not torch.equal(loader.draw(0, 50).index, stream.index)


def test_without_jitter_and_mirroring_pictures_come_as_they_are():
    with Loader(Maps(), options(load_size=None, flip=False)) as loader:
        batch = loader.draw(0, COUNT)
    assert torch.equal(levels(batch.A)[:, 1:], torch.tensor(np.indices((4, 4))).int().expand(COUNT, 2, 4, 4))


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format(stream, channels_last):
    with Loader(Maps(), options(), channels_last=channels_last) as loader:
        batch = loader.draw(0, 50)
    assert batch.A.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert batch.A.is_contiguous() is not channels_last
    assert same(batch, stream)


def test_the_next_batches_are_begun_ahead():
    data = Maps(count=30)
    with Loader(data, options()) as loader:
        loader.draw(0, 5)
        begun = {(request.position, request.count) for request in loader._pending}
        assert begun == {(5, 5), (10, 5)}
        for future in loader._pending.values():
            assert isinstance(future, Future)
            future.result()
        assert data.reads == 15
        before = loader.waited_s
        assert before > 0
        loader.draw(5, 5)
        assert loader.waited_s >= before


@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3, 4}])
def test_the_next_good_picture_takes_the_place_of_a_bad_one(stream, bad):
    told = []
    instead = {index: next(i % COUNT for i in range(index, 99) if i % COUNT not in bad) for index in range(COUNT)}
    with Loader(Maps(bad=bad), options(), on_bad=lambda path, reason: told.append((path, reason))) as loader:
        batch = loader.draw(0, 50)
        loader.draw(50, 3)
    assert batch.index.tolist() == [instead[index] for index in stream.index.tolist()]
    assert torch.equal(levels(batch.A)[:, 1:], levels(stream.A)[:, 1:])  # crop and mirroring stay those of the place
    assert loader.bad == {f"train/{index}.png": "damaged" for index in bad}
    assert sorted(told) == [(f"train/{index}.png", "damaged") for index in sorted(bad)]


def test_bad_pictures_are_fatal_when_asked():
    with (
        Loader(Maps(bad={5}), options(bad_images="fail")) as loader,
        pytest.raises(BadPictureError, match=r"train/5\.png: damaged"),
    ):
        loader.draw(0, COUNT)


def test_no_good_picture_at_all():
    with Loader(Maps(bad=range(COUNT)), options()) as loader:
        with pytest.raises(
            DataError, match=r"No picture of the split train can be read; the first: train/\d.png: damaged"
        ):
            loader.draw(0, 1)
        with pytest.raises(DataError, match="No picture of the split train"):
            loader.fixed("train", 2)


def test_an_exception_in_the_background_surfaces_in_draw():
    class Broken(Maps):
        def read(self, split, index, size):
            raise RuntimeError("a bug in a plugin")

    with Loader(Broken(), options()) as loader:
        for position in (0, 1):
            with pytest.raises(DataError, match=r"a bug in a plugin \(.*test_loader.py, line \d+, in read"):
                loader.draw(position, 1)


def test_nothing_to_draw():
    with Loader(Maps(count=0), options()) as loader, pytest.raises(DataError, match="nothing to train on"):
        loader.draw(0, 1)


def test_fixed_gives_the_first_readable_samples_unaugmented():
    with Loader(Maps(bad={1}), options()) as loader:
        batch = loader.fixed("train", 3)
        assert batch.index.tolist() == [0, 2, 3]
        assert levels(batch.A)[:, 1:].tolist() == [np.indices((4, 4)).tolist()] * 3
        assert loader.fixed("train", 99).size == COUNT - 1
        assert loader.fixed("train", 2, size=8).A.shape == (2, 3, 8, 8)
        with pytest.raises(DataError, match='no split "test"'):
            loader.fixed("test", 1)


def test_fixed_crops_at_the_centre(tmp_path, paint):
    path = paint("0.png", 12, 4)
    sources = {source.name: source for source in SOURCES}
    wanted = DataOptions(size=4, resize="crop", flip=False)
    with Loader(open_data(str(tmp_path), ("real",), wanted, sources), wanted) as loader:
        centre = to_tensor(read_picture(path))[:, :, 4:8]
        assert torch.equal(loader.fixed("train", 1).real[0], centre)
        lefts = {tuple(loader.draw(k, 1).real.flatten().tolist()) for k in range(40)}
    assert len(lefts) == 9  # training sees all of it: 12 - 4 + 1 windows


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 5))
def test_from_files_to_batches(tmp_path, paint, seed):
    pictures = [read_picture(paint(f"{number}.png", 8, 4)) for number in range(3)]
    wanted = DataOptions(size=4, flip=False, seed=seed)
    data = open_data(str(tmp_path), ("A", "B"), wanted, {source.name: source for source in SOURCES})
    with Loader(data, wanted) as loader:
        batch = loader.draw(0, 3)
    for row, index in enumerate(batch.index.tolist()):
        assert torch.equal(batch.A[row], to_tensor(pictures[index][:, :4]))
        assert torch.equal(batch.B[row], to_tensor(pictures[index][:, 4:]))


def test_deep_pictures_keep_their_depth(tmp_path):
    np.save(tmp_path / "0.npy", np.full((4, 4), 32769, np.uint16))
    wanted = DataOptions(size=4)
    data = open_data(str(tmp_path), ("real",), wanted, {source.name: source for source in SOURCES})
    with Loader(data, wanted) as loader:
        assert loader.draw(0, 1).real.unique().tolist() == pytest.approx([32769 / 65535 * 2 - 1], abs=1e-7)


def test_truncated_files_are_named_and_skipped(tmp_path, paint, truncate):
    for number in range(4):
        paint(f"{number}.png", 64, 32)
    truncate(tmp_path / "2.png")
    wanted = DataOptions(size=8)
    data = open_data(str(tmp_path), ("A", "B"), wanted, {source.name: source for source in SOURCES})
    assert data.spec.count == 4  # the header is whole
    with Loader(data, wanted) as loader:
        assert sorted(loader.draw(0, 4).index.tolist()) == [0, 1, 3, 3]
        assert list(loader.bad) == [str(tmp_path / "2.png")]
