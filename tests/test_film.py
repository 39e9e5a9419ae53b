"""Films: what a GIF says of itself, and the colours that it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganengine.film import write_film


@pytest.mark.parametrize(("colours", "least"), [(256, 200), (32, 20)])
def test_a_film_is_endless_and_keeps_its_frames(tmp_path: Path, colours: int, least: int) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    frames = [ramp, ramp[::-1], ramp.transpose(1, 0, 2)]
    write_film(tmp_path / "new" / "x.gif", frames, frame_ms=150, colours=colours)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.gif"]
    with Image.open(tmp_path / "new" / "x.gif") as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"]) == (3, 150, 0)
        for number, frame in enumerate(frames):
            film.seek(number)
            shown = np.asarray(film.convert("RGB"))
            assert least <= len(np.unique(shown)) <= colours
            assert np.abs(shown.astype(int) - frame).max() <= 256 / colours * 2
