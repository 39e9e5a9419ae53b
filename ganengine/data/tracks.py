"""The data source `tracks`: a table of tracks, cut into windows of observed steps and those that follow."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganengine.data.archives import File, read_bytes
from ganengine.data.dataset import BadPictureError
from ganengine.data.files import SPLITS, open_folder, some
from ganengine.data.options import DataOptions
from ganengine.data.scenes import OBSERVE, PREDICT, SceneDataset
from ganengine.errors import DataError

NEEDED = ("track", "step")
PLACES = (("lon", "lat"), ("x", "y"))
"""Columns that say where: degrees, or numbers of any unit."""
DEGREE = 111.195
"""Kilometres of a degree of latitude on a sphere of radius 6,371 km."""
FARTHEST = 1e9
"""Coordinates beyond this are a mistake."""
FORM = "tracks.csv with the columns track, step, and lon, lat or x, y (and split, scene)"


@dataclass(frozen=True)
class _Table:
    """What a file holds."""

    splits: Mapping[str, str]
    """Split of each scene."""
    tracks: Mapping[str, Mapping[str, Mapping[int, tuple[float, float]]]]
    """Place by scene, track and step."""
    degrees: bool


def recognise(path: Path) -> bool:
    """Whether it is a table of tracks, or a folder or zip file with one, by the names of its columns."""
    try:
        return any(_columns_fit(_head(file)) for file in _files(path))
    except DataError:
        return False


def build(argument: str, options: DataOptions) -> SceneDataset:
    """Open `FOLDER`, `FILE.csv`, or either with `,OBSERVE,PREDICT` behind it: how many steps are known and predicted.

    Tracks of one `scene` move together; without that column each is by itself. A window begins at every step; who is
    there at all of its steps is in it. Longitude and latitude become kilometres east and north of the window's place.

    Raises:
        DataError: no such table, a line that does not fit, or no track that is long enough.
    """
    place, observe, predict = _asked(argument)
    path = Path(place).expanduser()
    files = _files(path)
    tables = [file for file in files if _columns_fit(_head(file))]
    if not tables and len(files) == 1:
        raise DataError(f"{files[0]}: expected {FORM}, got the columns {some(_head(files[0]), 12) or '(none)'}.")
    if len(tables) != 1:
        got = f"{len(tables)} of them" if tables else some([str(f.name) for f in files]) or "no .csv file"
        raise DataError(f"{path}: expected {FORM}, got {got}. Name one file.")
    table = _read(tables[0])
    found = [
        (number, scene, step, window)
        for scene, tracks in table.tracks.items()
        for number, (step, window) in enumerate(_windows(tracks, observe + predict))
    ]
    scenes: dict[str, list[np.ndarray]] = {}
    names: dict[str, list[str]] = {}
    # The first window of each scene, then the second ones: the first few samples show different scenes.
    for _, scene, step, window in sorted(found, key=lambda one: one[0]):
        split = table.splits[scene]
        scenes.setdefault(split, []).append(_plane(window, observe) if table.degrees else window)
        names.setdefault(split, []).append(f"{scene}/{step}")
    if not scenes:
        longest = max(_longest(steps) for tracks in table.tracks.values() for steps in tracks.values())
        raise DataError(
            f"{tables[0]}: expected tracks of at least {observe + predict} steps in a row ({observe} observed, "
            f"{predict} predicted), the longest has {longest}. Ask for fewer: tracks:{place},OBSERVE,PREDICT."
        )
    order = [split for split in dict.fromkeys(SPLITS.values()) if split in scenes]
    dataset = SceneDataset(
        {split: scenes[split] for split in order},
        observe,
        layout=f"tracks of {observe} + {predict} steps, in {'kilometres' if table.degrees else 'units of the file'}",
        names=names,
    )
    lost = sorted({*table.splits.values()} - {*scenes})
    if lost:
        dataset.notes = [
            f"The split {lost[0]} is left aside: none of its tracks has {observe + predict} steps in a row."
        ]
    return dataset


def _asked(argument: str) -> tuple[str, int, int]:
    """Return the place and how many steps to observe and to predict."""
    match = re.fullmatch(r"(.*?),([-+.,\d\s]*)", argument, re.DOTALL)
    if match is None or Path(argument).expanduser().exists():
        return argument, OBSERVE, PREDICT
    numbers = match[2].split(",")
    if len(numbers) != 2 or not all(re.fullmatch(r"\d{1,5}", number) for number in numbers):
        raise DataError(
            f'tracks: expected FOLDER,OBSERVE,PREDICT with two whole numbers, got "{argument}". For example '
            f"tracks:{match[1] or 'FOLDER'},{OBSERVE},{PREDICT}."
        )
    observe, predict = map(int, numbers)
    if observe < 2 or predict < 1:
        raise DataError(f"tracks: expected at least 2 observed steps and 1 to predict, got {observe} and {predict}.")
    return match[1], observe, predict


def _files(path: Path) -> list[File]:
    if path.is_file() and path.suffix.lower() == ".csv":
        return [path]
    root = open_folder(path)
    return [root.file(name) for name in root.listing().others if name.lower().endswith(".csv")]


def _head(file: File) -> list[str]:
    """Return the names of the columns, in small letters."""
    try:
        with file.open("rb") if isinstance(file, Path) else file.open() as opened:
            line = opened.readline(1 << 16).decode("utf-8-sig", errors="replace")
        return _names(next(csv.reader([line]), []))
    except OSError as error:
        raise DataError(f"{file}: the file cannot be read ({error.strerror}). Check its permissions.") from error
    except (BadPictureError, csv.Error) as error:
        raise DataError(f"{file}: no table ({error}). Save it as .csv.") from error


def _names(row: list[str]) -> list[str]:
    return [name.strip().lower() for name in row]


def _columns_fit(columns: list[str]) -> bool:
    return {*NEEDED} <= {*columns} and any({*pair} <= {*columns} for pair in PLACES)


def _read(file: File) -> _Table:
    """Read a table.

    Raises:
        DataError: a line that does not fit, by its number.
    """
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected text in UTF-8; byte {error.start} is none. Save it as UTF-8.") from error
    except BadPictureError as error:
        raise DataError(f"{error}. Get the file again.") from error
    rows = csv.reader(io.StringIO(text, newline=""))
    splits: dict[str, str] = {}
    tracks: dict[str, dict[str, dict[int, tuple[float, float]]]] = {}
    try:
        columns = _names(next(rows))
        at = {name: number for number, name in enumerate(columns)}
        degrees = {*PLACES[0]} <= {*columns}
        for row in rows:
            if not row:
                continue
            where = f"{file}, line {rows.line_num}"
            if len(row) != len(columns):
                raise DataError(f"{where}: expected {len(columns)} values, as the first line has, got {len(row)}.")
            track = row[at["track"]].strip()
            scene = row[at["scene"]].strip() if "scene" in at else track
            split = _split(where, row[at["split"]]) if "split" in at else "train"
            if splits.setdefault(scene, split) != split:
                raise DataError(
                    f"{where}: {'scene' if 'scene' in at else 'track'} {scene} is in the split {splits[scene]} too. "
                    "Keep all of it in one."
                )
            steps = tracks.setdefault(scene, {}).setdefault(track, {})
            step = _whole(where, row[at["step"]])
            if step in steps:
                raise DataError(f"{where}: track {track} has step {step} twice. Remove one.")
            steps[step] = _place(where, row, at, degrees)
    except csv.Error as error:
        raise DataError(f"{file}, line {rows.line_num}: no table ({error}). Save it as .csv.") from error
    if not tracks:
        raise DataError(f"{file}: expected lines below the names of the columns, got none.")
    return _Table(splits, tracks, degrees)


def _split(where: str, word: str) -> str:
    if word.strip().lower() not in SPLITS:
        raise DataError(f'{where}: split: expected train, val or test, got "{word}".')
    return SPLITS[word.strip().lower()]


def _whole(where: str, word: str) -> int:
    if not re.fullmatch(r"\s*-?\d{1,15}(\.0*)?\s*", word, re.ASCII):
        raise DataError(f'{where}: step: expected a whole number that counts up by 1, got "{word}".')
    return int(word.partition(".")[0])


def _place(where: str, row: list[str], at: Mapping[str, int], degrees: bool) -> tuple[float, float]:
    found = []
    for name, limit in zip(
        PLACES[0] if degrees else PLACES[1], (360.0, 90.0) if degrees else (FARTHEST,) * 2, strict=True
    ):
        try:
            number = float(row[at[name]])
        except ValueError:
            number = math.nan
        if not abs(number) <= limit:
            raise DataError(f'{where}: {name}: expected a number from {-limit:g} to {limit:g}, got "{row[at[name]]}".')
        found.append(number)
    return found[0], found[1]


def _windows(tracks: Mapping[str, Mapping[int, tuple[float, float]]], length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each step at which a window can begin, and the paths [people, length, 2] of all who are there."""
    present: dict[int, list[np.ndarray]] = {}
    for places in tracks.values():
        run: list[int] = []
        for step in sorted(places):
            run = [*run[-(length - 1) :], step] if run and run[-1] == step - 1 else [step]
            if len(run) >= length:
                present.setdefault(run[0], []).append(np.array([places[s] for s in run]))
    for step in sorted(present):
        yield step, np.stack(present[step])


def _longest(places: Mapping[int, tuple[float, float]]) -> int:
    """Return how many steps a track has in a row."""
    best = length = 0
    before: int | None = None
    for step in sorted(places):
        length = length + 1 if before == step - 1 else 1
        best, before = max(best, length), step
    return best


def _plane(window: np.ndarray, observe: int) -> np.ndarray:
    """Return kilometres east and north of the first path's last observed place; the date line is no border."""
    lon, lat = window[0, observe - 1]
    east = (window[..., 0] - lon + 180) % 360 - 180
    return DEGREE * np.stack([east * math.cos(math.radians(lat)), window[..., 1] - lat], axis=-1)
