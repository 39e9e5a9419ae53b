"""The example in docs/data.md works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from ganengine.data import DataOptions, Loader

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_data_set_of_the_page():
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(code, names)
    options = DataOptions(size=16, load_size=18)
    with Loader(names["Discs"]("20", options), options) as loader:
        batch = loader.draw(0, 20)
    assert sorted(batch.index.tolist()) == list(range(20))
    assert batch.real.shape == (20, 1, 16, 16)
    assert batch.real.unique().tolist() == [-1, 1]
