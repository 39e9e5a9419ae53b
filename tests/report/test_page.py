"""What stands in a report, read back with the standard library's own parser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganengine.errors import UserError
from ganengine.report.page import page
from ganengine.report.words import flat
from ganengine.runfolder import RunFolder

from .seen import Seen, read

TERMS = ("d.d", "g.gan", "g.l1", "g", "D(real)", "D(fake)", "lr d", "lr g", "images_per_s", "data_wait", "memory_mb")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def see(run: Path) -> Seen:
    return read(page(RunFolder.open(run)))


def test_everything_is_there(make_run: Callable[..., Path]) -> None:
    seen = see(make_run(ticks=4, previews=3))
    assert set(TERMS) <= set(seen.texts["th"])
    assert [curve["name"] for chart in seen.data["charts"] for curve in chart["curves"]] == [
        "D(real)", "D(fake)", "d.d", "g.gan", "g.l1", "g", "lr d", "lr g", "images_per_s", "data_wait", "memory_mb"
    ]  # fmt: skip
    text = seen.text()
    for told in (
        *("3,200 of 14,000 images", "2 min 00 s", "900 MiB", "10.46 M", "betas", "0.5, 0.999", "versions.torch"),
        *("2.13.0+cpu", "ganengine resume", "ganengine sample", "ganengine translate", "ganengine eval", "cpu, fp32"),
        *("Paired image-to-image translation", "arXiv:1611.07004", "and d, the phase's total"),
    ):
        assert told in text, told
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in seen.tags


def test_the_curves_are_the_logs_numbers_and_the_lines_those_of_equilibrium(make_run: Callable[..., Path]) -> None:
    data = see(make_run(ticks=3)).data
    assert data["x"] == [{"images": [800, 1600, 2400], "steps": [100, 200, 300], "minutes": [0.5, 1.0, 1.5]}]
    charts = {curve["name"]: (curve["values"], chart) for chart in data["charts"] for curve in chart["curves"]}
    assert charts["g.l1"][0] == [0.1, 0.05, 0.0333333]
    lines = {name: chart["lines"] for name, (_, chart) in charts.items()}
    assert lines["D(real)"] == [0.5]
    assert lines["d.d"] == lines["g.gan"] == [pytest.approx(0.693, abs=2e-4)]
    assert lines["g"] == lines["g.l1"] == lines["lr g"] == []
    assert charts["g.l1"][1]["scale"] == "switch"
    assert charts["D(real)"][1] is charts["D(fake)"][1]


def test_nothing_is_loaded_and_only_its_own_script_may_run(make_run: Callable[..., Path]) -> None:
    seen = see(make_run())
    for tag, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href"):
                assert (value or "").startswith("data:"), tag
    own = seen.text("script", "style")
    assert not re.search(r"@import|url\(|\bfetch\b|XMLHttpRequest|\bimport\b|WebSocket|innerHTML|\beval\b", own)
    urls = re.findall(r"https?://[^\s\"'<]*", seen.text() + str(seen.tags))
    assert set(urls) <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    (policy,) = (str(a["content"]) for a in seen.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    for text in (seen.texts["style"][0], seen.texts["script"][1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_pictures_have_words_and_controls_have_labels(make_run: Callable[..., Path]) -> None:
    seen = see(make_run(previews=3))
    images = seen.of("img")
    assert [image["alt"] for image in images] == [f"Preview after {n} images" for n in ("0", "800", "1,600")]
    assert ["hidden" in image for image in images] == [True, True, False]
    assert all(image["class"] == "pixels" and image["width"] == "320" for image in images)
    (slider,) = (a for a in seen.of("input") if a["type"] == "range")
    assert (slider["max"], slider["value"]) == ("2", "2")
    assert slider["aria-label"]
    plots = [a for tag, a in seen.tags if tag == "div" and a.get("class") == "plot"]
    assert len(plots) == len(seen.data["charts"])
    assert all(plot["role"] == "img" for plot in plots)
    assert any("g.l1: first 0.1, last 0.03333, from 0.03333 to 0.1" in str(plot["aria-label"]) for plot in plots)
    named = {a["aria-labelledby"] for a in seen.of("section")}
    assert named == {a["id"] for a in seen.of("h2")}


def test_hostile_words_stay_words(
    make_run: Callable[..., Path], write_log: Callable[..., None], tick: Callable[..., Any]
) -> None:
    name = HOSTILE.replace("/", "\u2215")
    config = json.dumps({"variant": HOSTILE, "adversarial": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]})
    run = make_run(name=name, config=config)
    write_log(run, tick(1, loss={HOSTILE: 1.0, f"{HOSTILE}.x": 2.0}, d={HOSTILE: 0.5}, lr={HOSTILE: 1}))
    (run / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE, "parameters": {HOSTILE: 5}}))
    (run / "notes.jsonl").write_text(json.dumps({"step": HOSTILE, "text": HOSTILE}))
    plain = make_run(name="plain")
    seen = see(run)
    assert len(seen.of("script")) == 2
    assert not seen.of("img")[2:]
    assert {tag for tag, _ in seen.tags} <= {tag for tag, _ in see(plain).tags} | {
        "div",
        "ul",
        "li",
        "details",
        "summary",
    }
    assert all(not key.startswith("on") for _, attributes in seen.tags for key in attributes)
    assert name in seen.text("h1")
    assert HOSTILE in seen.texts["dt"]
    assert HOSTILE in seen.texts["dd"]
    assert any(HOSTILE in text for text in seen.texts["li"])
    assert any(curve["name"] == HOSTILE for chart in seen.data["charts"] for curve in chart["curves"])


def test_names_that_are_no_text_are_survived(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    renamed = make_run().rename(tmp_path / "na\udcffme")
    assert len(page(RunFolder.open(renamed))) < 1 << 20


def test_yaml_that_unfolds_is_refused(make_run: Callable[..., Path]) -> None:
    bomb = "variant: no-such-gan\na: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"
    with pytest.raises(UserError, match="aliases are not read here"):
        page(RunFolder.open(make_run(config=bomb)))


@pytest.mark.parametrize("ticks", [0, 1, 2])
@pytest.mark.parametrize("previews", [0, 1])
def test_a_run_that_has_just_begun(ticks: int, previews: int, make_run: Callable[..., Path]) -> None:
    run = make_run(ticks=ticks, previews=previews)
    seen = see(run)
    assert len(seen.of("img")) == previews
    assert ("There are no previews" in seen.text("p")) == (previews == 0)
    assert ("The log has no line yet" in seen.text("p")) == (ticks == 0)
    assert seen.text("p").count("None.") == 1
    assert len(seen.data["x"][0]["steps"]) == ticks


def test_a_config_alone_is_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("variant: pix2pix\n")
    seen = see(tmp_path)
    assert "environment.json is missing" in seen.text("li")


def test_what_is_wrong_is_told(
    make_run: Callable[..., Path], write_log: Callable[..., None], tick: Callable[..., Any]
) -> None:
    run = make_run(config="variant: no-such-gan\nadversarial: hinge\n")
    bad = tick(2, loss={"g": None}, skipped=3)
    text = json.dumps(tick(4, loss={"g": 7.0}, skipped=4)).replace("7.0", "NaN")
    write_log(run, tick(1, loss={"g": 1.0}), bad, "{broken", tick(3, loss={"g": 2.0}, skipped=4), text)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "images"')
    (run / "environment.json").write_text("{")
    (run / "samples" / "000000000.png").write_bytes(b"no picture")
    (run / "notes.jsonl").write_text('{"step": 2, "text": "A gradient is not finite."}\n{"st')
    seen = see(run)
    told = seen.text("li")
    for sentence in (
        "4 update(s) were left out because a gradient was not finite, the first by step 2.",
        "Line 3 of log.jsonl cannot be read.",
        "Line 6 of log.jsonl is cut off",
        "loss g: no finite number in 2 of 4 lines of the log.",
        "Preview 000000000.png:",
        "environment.json is damaged",
        "Variant no-such-gan with these options is not installed here",
        "Step 2: A gradient is not finite.",
    ):
        assert sentence in told, sentence
    (chart,) = (c for c in seen.data["charts"] if c["curves"][0]["name"] == "g")
    assert chart["curves"][0]["values"] == [1.0, None, 2.0, None]
    (readings,) = (c for c in seen.data["charts"] if c["curves"][0]["name"] == "D(real)")
    assert readings["lines"] == [0.0]  # by the name of the loss, as the variant cannot be asked
    assert readings["scale"] == ""


def test_options_that_this_version_does_not_have_are_shown_all_the_same(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = see(make_run(config="variant: pix2pix\nfrom-the-future: 3\n"))
    assert "from-the-future" in seen.text("dt")
    assert "not installed here" in seen.text("li")
    assert capsys.readouterr() == ("", "")


def test_a_damaged_config_is_an_error(make_run: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="expected the options of a run; it cannot be read"):
        page(RunFolder.open(make_run(config="variant: [")))


def test_a_long_run_stays_small(
    make_run: Callable[..., Path], write_log: Callable[..., None], tick: Callable[..., Any]
) -> None:
    run = make_run()
    lines = [tick(step) for step in range(1, 20_001)]
    lines[12_345]["loss"]["g"] = 1e6
    write_log(run, *lines)
    whole = page(RunFolder.open(run))
    assert len(whole) < 3_000_000
    seen = read(whole)
    (chart,) = (c for c in seen.data["charts"] if c["curves"][0]["name"] == "g")
    assert max(chart["curves"][0]["values"]) == 1e6


@pytest.mark.parametrize(
    ("record", "rows"),
    [
        ({"a": None, "b": True, "c": [1, 2.5]}, [("a", "-"), ("b", "yes"), ("c", "1, 2.5")]),
        ({"a": {"b": {"c": 1}}}, [("a.b.c", "1")]),
        ({"a": [{"b": 1}, [2, 3]]}, [("a[0].b", "1"), ("a[1]", "2, 3")]),
        ({"data": "/home/somebody/pictures/cats"}, [("data", ".../pictures/cats")]),
        ({"data": "pictures/cats"}, [("data", "pictures/cats")]),
        ({n: n for n in range(1000)}, [(str(n), str(n)) for n in range(400)]),
    ],
)
def test_flat(record: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    assert flat(record) == rows
