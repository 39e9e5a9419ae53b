"""`ganengine diagnose modes`: a short game on the ring, its numbers, pictures and film."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganengine.cli import main
from ganengine.diagnose.modes import contenders
from ganengine.diagnose.pictures import contact_sheet, density, panel
from ganengine.plugins import add_path, registry

GAN = Path(__file__).parents[2] / "plugins" / "ganengine-gan"
PIX2PIX = Path(__file__).parents[2] / "plugins" / "ganengine-pix2pix"
SHORT = ["--steps", "4", "--ticks", "2", "--threads", "1", "--collapse-ticks", "2"]


@pytest.fixture(autouse=True)
def _at_hand() -> Iterator[None]:
    for variant, path in (("gan", GAN), ("pix2pix", PIX2PIX)):
        if variant not in registry().entries["variant"]:
            add_path(path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_two_variants_on_the_ring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diagnose", "modes", "gan", "lsgan --latent 3 --batch 16", *SHORT]
    assert main([*words, "--out", str(tmp_path / "a"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["schema"], result["modes"], result["data"]) == (1, 8, "ring")
    gan, lsgan = result["variants"]
    assert (gan["name"], lsgan["name"]) == ("gan", "lsgan --latent 3 --batch 16")
    for variant, batch in ((gan, 64), (lsgan, 16)):
        ticks = variant["ticks"]
        assert [(tick["step"], tick["images"]) for tick in ticks] == [(0, 0), (2, 2 * batch), (4, 4 * batch)]
        assert all(len(tick["counts"]) == 8 and 0 <= tick["good"] <= 1 for tick in ticks)
        assert [tick["collapsed"] for tick in ticks] == [False, False, True]  # nothing is reached in four steps
    assert json.loads((tmp_path / "a" / "modes.json").read_text()) == result
    for run in ("1-gan", "2-lsgan"):
        assert (tmp_path / "a" / run / "config.yaml").is_file()
        assert list((tmp_path / "a" / run / "checkpoints").iterdir())
    with Image.open(tmp_path / "a" / "modes.png") as picture, Image.open(tmp_path / "a" / "modes.gif") as film:
        assert picture.width == 3 * film.width // 2
        assert picture.height == 2 * film.height
        assert film.n_frames == 3
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    told = capsys.readouterr().out
    assert "COLLAPSED" in told
    assert "flagged at step 4" in told
    again = json.loads((tmp_path / "b" / "modes.json").read_text())
    for then, now in zip(result["variants"], again["variants"], strict=True):
        assert [tick["counts"] for tick in then["ticks"]] == [tick["counts"] for tick in now["ticks"]]


def test_a_preset_for_points_is_taken_unless_the_user_names_another() -> None:
    words = ["wgan-gp", "wgan-gp --preset toy", "wgan-gp --batch 8", "wgan"]
    points, toy, changed, without = (rival.settings for rival in contenders(words, "ring", 3, 1, registry()))
    wanted = registry().variant("wgan-gp").presets["points"]
    assert points.engine.preset == changed.engine.preset == "points"
    assert points.config.d_steps == wanted["d-steps"] != toy.config.d_steps
    assert (toy.engine.preset, without.engine.preset) == ("toy", None)
    assert (changed.engine.batch, changed.config) == (8, points.config)
    assert {each.engine.seed for each in (points, toy, changed, without)} == {3}


def test_minutes_are_of_each_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid"
    words = ["gan", "--minutes", "0.002", "--ticks", "2", "--data", "grid25", "--threads", "1"]
    assert main(["diagnose", "modes", *words, "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["modes"] == 25
    ticks = result["variants"][0]["ticks"]
    assert len(ticks) == 3
    assert ticks[0]["time"]["elapsed_s"] == 0 < ticks[1]["time"]["elapsed_s"] < ticks[2]["time"]["elapsed_s"]
    assert ticks[2]["time"]["elapsed_s"] >= 0.12


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pix2pix"], "needs A, B"),
        (["gan --no-such 3"], "no-such"),
        (["gan", "--data", "glyphs"], "expected points of a mixture"),
        (["gan", "--data", "no-such"], "no-such"),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["diagnose", "modes", *words, *SHORT, "--out", str(tmp_path / "out")])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not any(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "modes", "gan", *SHORT, "--out", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "left"),
    [("1-gan/config.yaml", []), ("1-gan/environment.json", []), ("2-lsgan/environment.json", ["1-gan"])],
)
def test_what_was_not_trained_leaves_nothing_on_a_full_disk(
    file: str, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = Path.write_bytes

    def until_full(path: Path, data: bytes) -> int:
        if Path(file).name in path.name and path.parent.name == Path(file).parent.name:
            write(path, data[:10])
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", until_full)
    out = tmp_path / "deep" / "out"
    assert main(["diagnose", "modes", "gan", "lsgan", *SHORT, "--out", str(out), "--json"]) == 2
    assert f"{out / file} cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == left if left else not any(tmp_path.iterdir())


def test_density_is_darkest_where_points_are() -> None:
    drawn = density(torch.tensor([[1.0, 1.0]] * 5 + [[-1.0, -1.0], [float("nan"), 0.0], [9.0, 9.0]]), 2.0)
    darkest = np.unravel_index(drawn.sum(2).argmin(), drawn.shape[:2])
    assert abs(darkest[0] - 64) <= 8  # y = 1 is a quarter from above
    assert abs(darkest[1] - 192) <= 8
    assert drawn[192, 64].sum() < 3 * 255  # and a little at (-1, -1)
    assert drawn[128, 128].sum() == 3 * 255
    assert (density(torch.zeros(0, 2), 2.0) == 255).all()


def test_shorter_rows_are_filled_up() -> None:
    cell = panel(torch.zeros(3, 2), torch.ones(3, 2), "three")
    sheet = contact_sheet([[cell, cell], [cell]])
    assert sheet.shape == (2 * cell.shape[0], 2 * cell.shape[1], 3)
    assert (sheet[cell.shape[0] :, cell.shape[1] :] == 255).all()
