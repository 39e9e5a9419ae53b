"""A log is read whatever is in it, and a long one is drawn by its extremes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganengine.report.history import number, read_history, thin

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LINE = st.fixed_dictionaries(
    {"step": st.integers(0, 1000), "images": st.integers(0, 1000)},
    optional={name: st.dictionaries(st.sampled_from(["a", "b.c"]), JSON, max_size=2) | JSON for name in ("loss", "d")},
)


@settings(deadline=None, max_examples=150)
@given(st.lists(LINE.map(json.dumps) | JSON.map(json.dumps) | st.text(max_size=20), max_size=6), st.integers(0, 30))
def test_any_file_gives_columns_of_one_length(lines: list[str], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        path.write_bytes(data[: len(data) - cut])
        history = read_history(path)
    assert all(len(values) == len(history) for _, _, values in history.columns())
    assert all(value is None or value == number(value) for _, _, values in history.columns() for value in values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.5, 0.5), (True, None), ("1", None), (None, None), (float("nan"), None), (-float("inf"), None),
     (10**400, None), ([1], None)],
)  # fmt: skip
def test_number(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_a_torn_line_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "images": 8}\n{"step": 2,\n[3]\n{"step": 4, "images": 32}\n{"step": 5, "ima')
    history = read_history(path)
    assert history.step == [1.0, 4.0]
    assert [(fault.split()[1], "cut off" in fault) for fault in history.faults] == [
        ("2", False),
        ("3", False),
        ("5", True),
    ]


@pytest.mark.parametrize("text", ["NaN", "null", "Infinity", '"high"'])
def test_a_value_that_is_no_number_is_a_gap(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    row = '{{"step": {}, "images": 8, "loss": {{"g": {}}}}}\n'
    path.write_text(row.format(1, "2.5") + row.format(2, text) + '{"step": 3, "images": 24}\n')
    history = read_history(path)
    assert history.series["loss"] == {"g": [2.5, None, None]}
    assert any("loss g: no finite number in 2 of 3 lines" in fault for fault in history.faults)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 12))
def test_thinning_keeps_ends_and_extremes_and_bounds_rows(column: list[float | None], buckets: int) -> None:
    rows = thin([column], len(column), buckets)
    assert rows == sorted(set(rows))
    assert {0, len(column) - 1} <= set(rows)
    assert len(rows) <= 2 * buckets + 2
    known = [value for value in column if value is not None]
    if known:
        kept = [column[row] for row in rows if column[row] is not None]
        assert (min(kept), max(kept)) == (min(known), max(known))  # type: ignore[type-var]


def test_a_short_log_is_drawn_whole() -> None:
    assert thin([[1.0, 2.0, 3.0]], 3) == [0, 1, 2]
    assert thin([], 0) == []
