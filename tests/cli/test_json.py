"""`--json`: standard output is one JSON object with its schema, prose goes elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Go = Callable[..., Any]

COMMANDS = {
    "list": "list --json",
    "info": "info pix2pix --json",
    "plugins doctor": "plugins doctor --json",
    "plugins doctor --deep": "plugins doctor --deep --json",
    "data inspect": "data inspect DATA --json",
    "doctor": "doctor --json",
    "eval": "eval RUN --json --precision fp32",
}


@pytest.fixture(params=COMMANDS)
def record(request: pytest.FixtureRequest, go: Go, pairs: Path, trained: Path) -> tuple[str, dict[str, Any]]:
    """Run a command and return its name and the object that it printed."""
    line = COMMANDS[request.param]
    done = go(*(word.replace("DATA", str(pairs)).replace("RUN", str(trained)) for word in line.split()))
    assert done.status == 0, done.err
    assert done.out.count("\n") == 1
    return request.param, json.loads(done.out)


def test_one_object_with_a_schema(record: tuple[str, dict[str, Any]]) -> None:
    name, found = record
    assert found["schema"] == 1
    keys = {
        "list": {"variants", "data_sources", "components", "faults"},
        "info": {"name", "summary", "family", "paper", "fields", "options", "defaults", "presets", "distribution"},
        "plugins doctor": {"plugins", "blocked", "faults"},
        "plugins doctor --deep": {"plugins", "blocked", "faults", "builders"},
        "data inspect": {"path", "layout", "source", "fields", "splits", "odd", "problem", "repairs"},
        "doctor": {"versions", "devices", "kernels", "plugins", "left_out"},
        "eval": {"metrics", "split", "weights", "protocol"},
    }
    assert keys[name] <= found.keys()


def test_prose_without_it(go: Go, pairs: Path) -> None:
    for line in ("list", "info pix2pix", "plugins doctor", f"data inspect {pairs}", "doctor"):
        done = go(*line.split())
        assert done.status == 0
        assert done.out
        with pytest.raises(json.JSONDecodeError):
            json.loads(done.out)


def test_an_error_prints_no_half_object(go: Go) -> None:
    done = go("data", "inspect", "nowhere", "--json")
    assert (done.status, done.out) == (2, "")


def test_list_and_info_tell_what_a_reader_needs(go: Go) -> None:
    listed = json.loads(go("list", "--json").out)
    (pix2pix,) = (variant for variant in listed["variants"] if variant["name"] == "pix2pix")
    assert pix2pix["fields"] == ["A", "B"]
    assert {"images", "pairs"} <= {source["name"] for source in listed["data_sources"]}
    assert {"l1", "psnr"} <= {metric["name"] for metric in listed["components"]["metric"]}
    info = json.loads(go("info", "pix2pix", "--json").out)
    options = {option["name"]: option for option in info["options"]}
    assert all(option["help"] for option in options.values())
    assert options["lambda-l1"]["default"] == 100.0
    assert info["presets"]["paper"]["size"] == 256
