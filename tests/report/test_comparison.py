"""Several runs in one page: what stands in it, and where it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganengine.cli import main
from ganengine.report.charts import overlay
from ganengine.report.comparison import LIMIT, colour, comparison, labels
from ganengine.report.frames import BUDGET, COUNT
from ganengine.report.history import History
from ganengine.runfolder import RunFolder

from .conftest import CONFIG, MakeRun
from .seen import Seen, read

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def see(*runs: Path) -> Seen:
    return read(comparison([RunFolder.open(run) for run in runs]))


def curves(seen: Seen) -> dict[str, list[tuple[str, int, int, list[float]]]]:
    """Return (name, run, colour, values) of each curve, by the first words of each chart's caption."""
    found = {}
    for title, chart in zip(seen.texts["b"], seen.data["charts"], strict=True):
        found[title] = [(c["name"], c["run"], c["colour"], c["values"]) for c in chart["curves"]]
    return found


def test_curves_of_one_quantity_lie_over_each_other(make_run: MakeRun) -> None:
    found = curves(see(make_run(name="a", ticks=3), make_run(name="b", ticks=2)))
    assert found["g.l1"] == [("a", 0, 0, [0.1, 0.05, 0.0333333]), ("b", 1, 1, [0.1, 0.05])]
    assert list(found) == [
        "D(real)", "D(fake)", "d.d", "g.gan", "g.l1", "g", "lr d", "lr g", "speed", "waiting for data", "memory"
    ]  # fmt: skip


def test_each_run_has_its_own_axis(make_run: MakeRun, write_log: Any, tick: Any) -> None:
    a, b = make_run(name="a", ticks=2), make_run(name="b")
    write_log(b, tick(7, images=7))
    assert see(a, b).data["x"] == [
        {"images": [800, 1600], "steps": [100, 200], "minutes": [0.5, 1.0]},
        {"images": [7], "steps": [7], "minutes": [0.035]},
    ]


def test_a_quantity_that_one_run_lacks_keeps_the_colours(make_run: MakeRun, write_log: Any, tick: Any) -> None:
    a, b = make_run(name="a"), make_run(name="b")
    write_log(b, tick(1, loss={"d.d": 0.5, "d.gp": 0.25, "d": 3.0}, state={"p": 0.1}))
    found = curves(see(a, b))
    assert found["d.gp"] == [("b", 1, 1, [0.25])]
    assert [(name, values) for name, _, _, values in found["d"]] == [("a", [0.5, 0.5, 0.5]), ("b", [3.0])]
    assert [name for name, *_ in found["g.l1"]] == ["a"]
    sections = [title for title in found if title in ("p", "lr d", "speed")]
    assert sections == ["p", "lr d", "speed"]


def test_lines_of_equilibrium_say_whose_they_are_where_runs_differ(make_run: MakeRun) -> None:
    same = see(make_run(name="a"), make_run(name="b")).data["charts"]
    assert [(chart["lines"], chart["owners"]) for chart in same[:2]] == [([0.5], []), ([0.5], [])]
    ls = make_run(name="c", config=f"{CONFIG}adversarial: ls\n")
    charts = dict(zip(("D(real)", "D(fake)", "d.d"), see(make_run(name="d"), ls).data["charts"], strict=False))
    assert charts["D(real)"]["owners"] == []
    assert charts["d.d"]["lines"] == [0.125, pytest.approx(0.693, abs=2e-4)]
    assert charts["d.d"]["owners"] == ["c", "d"]


def test_scales_that_differ_become_the_plain_one() -> None:
    runs = []
    for label, reading in (("a", 0.5), ("b", -3.0)):
        history = History()
        history.add({"step": 1, "images": 1, "d": {"real": reading}})
        runs.append((label, history, {"d": {"real": 0.5}}))
    (alone,), (both,) = overlay(runs[:1]), overlay(runs)
    assert (alone.scale, both.scale) == ("share", "")


def test_options_that_differ_stand_in_a_table_and_the_others_do_not(make_run: MakeRun) -> None:
    a = make_run(name="a", config=f"{CONFIG}lr: 0.1\nonly-here: 3\n")
    b = make_run(name="b", config=f"{CONFIG}lr: 0.2\n")
    seen = see(a, b)
    rows = seen.texts["th"][seen.texts["th"].index("lr") :]
    assert rows[:2] == ["lr", "only-here"]
    cells = seen.texts["td"]
    at = cells.index("0.1")
    assert cells[at : at + 4] == ["0.1", "0.2", "3", "-"]
    assert "horizon" in seen.texts["dt"]
    assert "horizon" not in seen.texts["th"]
    assert seen.texts["summary"] == ["The same in all runs (4)", "The same in all runs (8)"]
    assert "None differs." in seen.texts["p"]  # of the environments


def test_previews_stand_side_by_side_with_one_slider(make_run: MakeRun) -> None:
    seen = see(make_run(name="a", previews=3), make_run(name="b", previews=2), make_run(name="c", previews=0))
    assert [(a["alt"], "hidden" in a) for a in seen.of("img")] == [
        ("Preview of a after 0 images", True),
        ("Preview of a after 800 images", True),
        ("Preview of a after 1,600 images", False),
        ("Preview of b after 0 images", True),
        ("Preview of b after 800 images", False),
    ]
    (slider,) = (a for a in seen.of("input") if a["type"] == "range")
    assert slider["max"] == slider["value"] == "2"
    assert "No previews." in seen.texts["p"]


def test_the_previews_of_many_runs_take_no_more_room(make_run: MakeRun) -> None:
    runs = [make_run(name=f"r{n}", ticks=1, previews=20) for n in range(4)]
    assert len(see(*runs).of("img")) == 4 * max(12, COUNT // 4)
    assert BUDGET // LIMIT > 100_000


@pytest.mark.parametrize("ticks", [0, 1])
def test_runs_that_have_just_begun(ticks: int, make_run: MakeRun) -> None:
    seen = see(make_run(name="a", ticks=ticks, previews=0), make_run(name="b", ticks=ticks, previews=0))
    assert any("No run has previews" in text for text in seen.texts["p"])
    assert any("The log has no line yet" in text for text in seen.texts["p"]) == (ticks == 0)


def test_warnings_say_of_which_run_they_are(make_run: MakeRun, write_log: Any, tick: Any) -> None:
    a, b = make_run(name="a"), make_run(name="b")
    write_log(b, tick(1), "{broken")
    assert see(a, b).texts["li"] == ["b: Line 2 of log.jsonl cannot be read. It is left out."]


def test_hostile_words_stay_words(make_run: MakeRun, write_log: Any, tick: Any) -> None:
    config = json.dumps({"variant": HOSTILE, HOSTILE: HOSTILE})
    hostile = make_run(name=HOSTILE.replace("/", "\u2215"), config=config)
    write_log(hostile, tick(1, loss={HOSTILE: 1.0}, lr={HOSTILE: 1}))
    (hostile / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE, "device": HOSTILE}))
    seen = see(hostile, make_run(name="plain"))
    assert len(seen.of("script")) == 2
    assert all(not key.startswith("on") for _, attributes in seen.tags for key in attributes)
    assert len(seen.of("img")) == 4


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/run", "y/run"], ["x/run", "y/run"]),
        (["x/1/run", "y/1/run", "z"], ["x/1/run", "y/1/run", None]),
        (["a"], ["a"]),
    ],
)
def test_labels_are_the_shortest_ends_that_differ(paths: list[str], names: list[str | None], tmp_path: Path) -> None:
    found = labels([tmp_path / path for path in paths])
    assert all(name in (None, got) for name, got in zip(names, found, strict=True))
    assert len(set(found)) == len(paths)


def test_the_page_and_its_script_give_a_run_the_same_colour() -> None:
    script = (Path(__file__).parents[2] / "ganengine" / "report" / "page.js").read_text()
    assert '`s${curve.colour % 6}${curve.colour < 6 ? "" : " dashed"}`' in script
    assert [colour(run) for run in (0, 5, 6, 11)] == ["s0", "s5", "s0 dashed", "s5 dashed"]
    assert len({colour(run) for run in range(LIMIT)}) == LIMIT


def test_it_is_written_here_and_overwrites_only_when_asked(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = [str(make_run(name="a")), str(make_run(name="b"))]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["report", *runs]) == 0
    assert capsys.readouterr() == ("report.html\n", "")
    before = Path("report.html").read_bytes()
    assert before.startswith(b"<!DOCTYPE html>")
    assert main(["report", *runs]) == 2
    assert "report.html: expected names that are free; they exist. Use --overwrite" in capsys.readouterr().err
    assert main(["report", *runs[::-1], "--overwrite"]) == 0
    assert Path("report.html").read_bytes() != before
    assert [path.name for path in Path().iterdir()] == ["report.html"]
    assert not (Path(runs[0]) / "report.html").exists()


def test_one_run_is_still_written_into_its_folder(make_run: Callable[..., Path]) -> None:
    run = make_run()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()
