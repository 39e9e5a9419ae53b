"""The page in a browser without a screen: it draws, it obeys its controls, and its console stays silent."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganengine.cli import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=4000")
USE = """
addEventListener("load", () => {
  const $ = (id) => document.getElementById(id);
  const paths = () => [...document.querySelectorAll(".curve")].map((path) => path.getAttribute("d")).join();
  const told = [];
  const before = paths();
  $("log").click();
  told.push("log " + (paths() !== before));
  $("axis").value = "minutes";
  $("axis").dispatchEvent(new Event("change"));
  $("frame").value = "0";
  $("frame").dispatchEvent(new Event("input"));
  const visible = document.querySelectorAll("#frames img:not([hidden])");
  told.push("shown " + $("shown").textContent, "visible " + visible.length);
  $("enlarge").click();
  told.push("large " + $("frames").className);
  const svg = document.querySelector(".plot svg");
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "Home" }));
  told.push("legend " + document.querySelector(".legend").textContent);
  told.push("wide " + (document.documentElement.scrollWidth > innerWidth));
  document.body.dataset.told = told.join("|");
});
"""


BESIDE = """
addEventListener("load", () => {
  const $ = (id) => document.getElementById(id);
  const told = [];
  const visible = () => [...document.querySelectorAll("#frames img:not([hidden])")].map((image) => image.alt);
  told.push(...visible());
  $("frame").value = "1";
  $("frame").dispatchEvent(new Event("input"));
  told.push($("shown").textContent, ...visible());
  told.push(...[...document.querySelectorAll(".own")].map((place) => place.textContent));
  const figure = document.querySelector("figure[data-chart]");
  const shape = (name) => figure.querySelectorAll(name).length;
  told.push("curves " + shape(".curve.s0") + shape(".curve.s1"));
  const press = (key) => figure.querySelector("svg").dispatchEvent(new KeyboardEvent("keydown", { key }));
  const legend = () => figure.querySelector(".legend").textContent;
  told.push(legend());
  press("Home");
  told.push(legend());
  press("End");
  told.push(legend());
  told.push("wide " + (document.documentElement.scrollWidth > innerWidth));
  document.body.dataset.told = told.join("|");
});
"""


def use(path: Path, script: str) -> None:
    """Add a script to a page, whose own policy would not run one that is not its own: it is told of this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = path.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ")
    path.write_text(text.replace("</body>", f"<script>{script}</script></body>"))


def browse(path: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """Return a page's document once its scripts have run, and what its console said."""
    assert BROWSER
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `chromium` is not on PATH")
@pytest.mark.parametrize("state", ["trained", "begun", "damaged"])
def test_a_browser_draws_it_silently(
    state: str,
    make_run: Callable[..., Path],
    write_log: Callable[..., None],
    tick: Callable[..., Any],
    tmp_path: Path,
) -> None:
    run = make_run(ticks={"trained": 4, "begun": 0, "damaged": 1}[state], previews=2 if state == "trained" else 0)
    if state == "damaged":
        write_log(run, tick(1, loss={"g": None, "d": -1.0}, time={}), '{"step": 2')
    assert main(["report", str(run)]) == 0
    path = run / "report.html"
    if state != "trained":
        document, console = browse(path, tmp_path / "profile")
        assert console == []
        assert len(re.findall("<svg", document)) == (0 if state == "begun" else 4)
        return
    use(path, USE)
    document, console = browse(path, tmp_path / "profile", "--window-size=500,900")
    assert console == []
    assert len(re.findall("<svg", document)) == 9
    assert set(re.findall(">(equilibrium [^<]*)<", document)) == {"equilibrium 0.5", "equilibrium 0.693"}
    assert "NaN" not in document
    assert "Infinity" not in document
    (told,) = re.findall(r'data-told="([^"]*)"', document)
    assert told.split("|") == [
        "log true",
        "shown after 0 images",
        "visible 1",
        "large frames large",
        "legend 0.5 minutes:D(real) 0.7D(fake) 0.3",
        "wide false",
    ]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `chromium` is not on PATH")
def test_a_browser_draws_runs_over_each_other(make_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [make_run(name="long", ticks=4, previews=3), make_run(name="short", ticks=2, previews=1)]
    path = tmp_path / "both.html"
    assert main(["report", *map(str, runs), "--out", str(path)]) == 0
    use(path, BESIDE)
    document, console = browse(path, tmp_path / "profile", "--window-size=500,900")
    assert console == []
    assert "NaN" not in document
    assert "Infinity" not in document
    (told,) = re.findall(r'data-told="([^"]*)"', document)
    assert told.split("|") == [
        "Preview of long after 1,600 images",
        "Preview of short after 0 images",
        "after 800 images",
        "Preview of long after 800 images",
        "Preview of short after 0 images",
        "after 800 images",
        "after 0 images",
        "curves 11",
        "long 0.7short 0.7",
        "800 images:long 0.7short 0.7",
        "3,200 images:long 0.7short -",  # it has ended by then
        "wide false",
    ]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `chromium` is not on PATH")
def test_a_script_that_is_not_its_own_does_not_run(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """The test above could fail: this is how the console sounds."""
    run = make_run()
    assert main(["report", str(run)]) == 0
    path = run / "report.html"
    path.write_text(path.read_text().replace("</body>", "<script>document.body.id = 'taken'</script></body>"))
    document, console = browse(path, tmp_path / "profile")
    assert 'id="taken"' not in document
    assert any("Content Security Policy" in line for line in console)
