"""Data of a third party: two things implemented, all else follows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ganengine.data import BadPictureError, DataOptions, Dataset, Loader
from ganengine.errors import DataError, UserError
from ganengine.variant import DataSpec, FieldSpec


class Ramps(Dataset):
    """What an author has to write."""

    def __init__(self, options, count=5):
        side = options.size
        fields = {"real": FieldSpec("image", (2, side, side)), "label": FieldSpec("label", (), 3)}
        self.spec = DataSpec(fields, count)

    def read(self, split, index, size):
        return {"real": np.full((size or 4, size or 4, 2), 10 * index, np.uint8), "label": index % 3}


class WithTest(Ramps):
    @property
    def splits(self):
        return {"train": 5, "test": 2}


def test_two_things_are_enough():
    data = Ramps(DataOptions(size=4))
    assert data.splits == {"train": 5}
    assert data.names("train") == ["000000", "000001", "000002", "000003", "000004"]
    with Loader(data, DataOptions(size=4, flip=False)) as loader:
        batch = loader.draw(0, 5)
        assert sorted(batch.index.tolist()) == [0, 1, 2, 3, 4]
        assert batch.label.tolist() == (batch.index % 3).tolist()
        assert batch.real.shape == (5, 2, 4, 4)
        assert batch.real[:, 0, 0, 0].tolist() == pytest.approx((batch.index * 10 / 127.5 - 1).tolist())


def test_the_fingerprint_follows_names_and_fields():
    options = DataOptions(size=4)
    same = Ramps(options).fingerprint
    assert Ramps(DataOptions(size=8)).fingerprint == same
    assert len({same, Ramps(options, count=6).fingerprint, WithTest(options).fingerprint}) == 3


def test_a_missing_split_names_those_there_are():
    with pytest.raises(DataError, match=r'no split "tst"; it has: train \(5\), test \(2\). Did you mean test'):
        WithTest(DataOptions(size=4)).check_split("tst")
    with pytest.raises(DataError, match='no split "test"'):
        Ramps(DataOptions(size=4)).names("test")


@pytest.mark.parametrize(
    ("count", "batch", "message"),
    [
        (5, 6, "A batch of 6 is larger than the data: 5 training samples"),
        (1, 2, "1 training sample[.]"),
        (0, 1, "train/"),
    ],
)
def test_a_batch_larger_than_the_data(count, batch, message):
    data = Ramps(DataOptions(size=4), count)
    with pytest.raises(DataError, match=message):
        data.check_batch(batch)
    if count:
        data.check_batch(count)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"expected \[H, W, 2\] with sides of at least 4, got \[4, 4\]"),
        (np.zeros((4, 4, 3), np.uint8), r"got \[4, 4, 3\]"),
        (np.zeros((3, 4, 2), np.uint8), r"got \[3, 4, 2\]"),
        (np.zeros((4, 4, 2), np.float64), "got float64"),
    ],
)
def test_what_read_returns_is_checked(sample, message):
    class Wrong(Ramps):
        def read(self, split, index, size):
            return {"real": sample, "label": 0}

    with Loader(Wrong(DataOptions(size=4)), DataOptions(size=4)) as loader:
        with pytest.raises(DataError, match=rf"Wrong\.read: field real: .*{message}"):
            loader.draw(0, 2)
        with pytest.raises(DataError, match=message):
            loader.fixed("train", 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": 8, "load_size": 7}, "load_size"),
        ({"memory_mib": -1}, "memory_mib"),
        ({"cache_mib": -1}, "cache_mib"),
    ],
)
def test_options_out_of_range(settings, message):
    with pytest.raises(UserError, match=f"^{message}: expected"):
        DataOptions(**settings)


def test_a_bad_picture_knows_its_path():
    error = BadPictureError("a/x.png", "damaged")
    assert (error.path, error.reason, str(error), error.status) == ("a/x.png", "damaged", "a/x.png: damaged", 2)


def test_looking_at_data_imports_no_torch(tmp_path, paint):
    paint("x.png")
    program = (
        "import sys, ganengine.data\n"
        "assert not {'torch', 'numpy', 'PIL'} & sys.modules.keys()\n"
        "from ganengine.data import SOURCES, DataOptions, inspect, open_data\n"
        f"inspect({str(tmp_path)!r})\n"
        f"open_data({str(tmp_path)!r}, ('real',), DataOptions(), {{s.name: s for s in SOURCES}})\n"
        "assert 'torch' not in sys.modules\n"
        "try: ganengine.data.Loder\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no attribute 'Loder'" in done.stdout
