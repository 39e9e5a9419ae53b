"""One folder with everything in it that can be wrong, for commands to be run in."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HEAD = "from ganengine.hookspecs import hookimpl\nfrom ganengine.variant import Component\nGANENGINE_API = 1\n"
METRIC = HEAD + "@hookimpl\ndef ganengine_metrics():\n    return [Component({})]\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)

LAUGHS_PAIR = "&a0 [x, x]"
for _n in range(1, 30):
    LAUGHS_PAIR = f"&a{_n} [{LAUGHS_PAIR}, *a{_n - 1}]"

TEXTS = {
    "file.yaml": "",
    "here/file.txt": "no picture\n",
    "notes.zip": "no zip file\n",
    "inway/A": "a file where a folder is needed\n",
    "page.html": "somebody's\n",
    "mine/report.html": "somebody's\n",
    "ganengine-taken/README.md": "somebody's\n",
    # Files of options
    "type.yaml": "batch: two\n",
    "value.yaml": "arm: l2\n",
    "option.yaml": "lamda-l1: 3\n",
    "other.yaml": "variant: no-such-gan\n",
    "list.yaml": "- batch\n",
    "word.yaml": "batch\n",
    "number.yaml": "3\n",
    "broken.yaml": "a: [\n",
    "tab.yaml": "batch:\n\t- 3\n",
    "both.yaml": "horizon: 3\nepochs: 2\n",
    "flag.yaml": "flip: maybe\n",
    "flag-word.yaml": "flip: 'no'\n",
    "flag-number.yaml": "flip: 1\n",
    "flag-null.yaml": "flip: null\n",
    "range.yaml": "horizon: -3\n",
    "twice.yaml": "batch: 2\nbatch: 4\n",
    "tag.yaml": "batch: !!python/object/apply:os.system ['true']\n",
    "unknown-tag.yaml": "batch: !secret 3\n",
    "laughs.yaml": LAUGHS,
    "endless.yaml": "betas: &b [0.5, *b]\n",
    "two.yaml": "batch: 2\n---\nbatch: 4\n",
    "alias.yaml": "batch: *nothing\n",
    "merge.yaml": "<<: 3\nbatch: 2\n",
    "key-list.yaml": "? [batch, size]\n: 3\n",
    "key-map.yaml": "? {batch: 3}\n: 3\n",
    "key-number.yaml": "3: 4\n",
    "key-null.yaml": "~: 4\n",
    "key-empty.yaml": "'': 4\n",
    "key-dashes.yaml": "--batch: 4\n",
    "number-list.yaml": "batch: [2, 4]\n",
    "number-map.yaml": "batch: {of: 2}\n",
    "number-float.yaml": "batch: 2.5\n",
    "number-true.yaml": "batch: true\n",
    "number-null.yaml": "batch: null\n",
    "number-date.yaml": "batch: 2024-02-30\n",
    "number-real-date.yaml": "batch: 2024-02-03\n",
    "number-words.yaml": "batch: 2 # 4\nsize: 16 px\n",
    "number-huge.yaml": f"horizon: {'9' * 30}\n",
    "number-nan.yaml": "lambda-l1: .nan\n",
    "number-inf.yaml": "lr: .inf\n",
    "pair-short.yaml": "betas: [0.5]\n",
    "pair-long.yaml": "betas: [0.5, 0.9, 0.99]\n",
    "pair-words.yaml": "betas: [high, low]\n",
    "pair-deep.yaml": "betas: [[0.5], [0.9]]\n",
    "pair-map.yaml": "betas: {one: 0.5, two: 0.9}\n",
    "preset.yaml": "preset: paper\n",
    "config.yaml": "config: file.yaml\n",
    "plugin.yaml": "plugin: bad/empty.py\n",
    "data-list.yaml": "data: [a, b]\n",
    "data-map.yaml": "data: {folder: a}\n",
    "data-null.yaml": 'data: "a\\0b"\n',
    "out-list.yaml": "out: [a, b]\n",
    "out-null.yaml": 'batch: 2\nout: "a\\0b"\n',
    "data-help.yaml": "data: --help\n",
    "data-dash.yaml": "data: --no-flip\n",
    "pair-help.yaml": "betas: [--help, 0.9]\n",
    "pair-laughs.yaml": f"betas: {LAUGHS_PAIR}\n",
    "deep.yaml": "betas: " + "[" * 700 + "]" * 700 + "\n",
    "deep-map.yaml": "betas: " + "{a: " * 700 + "1" + "}" * 700 + "\n",
    "flag-list.yaml": "flip: [true, false]\n",
    "choice-number.yaml": "arm: 3\n",
    "choice-null.yaml": "arm: null\n",
    "number-empty.yaml": "lambda-l1: ''\n",
    "number-comma.yaml": "lr: 0,0002\n",
    "text-null.yaml": "device: null\n",
    "text-map.yaml": "device: {cpu: 1}\n",
    "time.yaml": "max-minutes: 1:30:00\n",
    "escape.yaml": 'resize: "\\e[31mred"\n',
    "control.yaml": "resize: \x07\n",
    "quote.yaml": "resize: 'crop\n",
    "colon.yaml": "batch 2\nsize: 16\n",
    "tagged-list.yaml": "betas: !!set {0.5, 0.9}\n",
    "bytes.yaml": "arm: !!binary aGVsbG8=\n",
    "variant-null.yaml": "variant: null\n",
    "variant-list.yaml": "variant: [pix2pix]\n",
    "underscore.yaml": "batch_size: 3\n",
    "both-spellings.yaml": "load-size: 16\nload_size: 20\n",
    "flag-inject.yaml": "arm: --help\n",
    "seed-word.yaml": "seed: now\n",
    # Folders that are no run, or a damaged one
    "unstarted/config.yaml": "variant: pix2pix\n",
    "gone/config.yaml": "variant: pix2pix\ndata: /nowhere/pairs\n",
    "strange/config.yaml": "variant: no-such-gan\n",
    "damaged/config.yaml": "variant: [\n",
    "listed/config.yaml": "- variant\n",
    "blank/config.yaml": "",
    "nameless/config.yaml": "batch: 3\n",
    "tagged/config.yaml": "variant: !!python/name:os.system\n",
    "future/config.yaml": "variant: pix2pix\nfrom-the-future: 3\n",
    "mistyped/config.yaml": "variant: pix2pix\nbatch: two\n",
    "mapped/config.yaml": "variant: {name: pix2pix}\n",
    "folded/config.yaml/batch": "a folder where a file is needed\n",
    # Plugins
    "bad/empty.py": "",
    "bad/syntax.py": "def (:\n",
    "bad/raises.py": "raise RuntimeError('on import')\n",
    "bad/leaves.py": "raise SystemExit(0)\n",
    "bad/imports.py": "import no_such_module_anywhere\n",
    "bad/newer.py": "GANENGINE_API = 99\n",
    "bad/older.py": "GANENGINE_API = 0\n",
    "bad/word.py": "GANENGINE_API = 'one'\n",
    "bad/true.py": "GANENGINE_API = True\n",
    "bad/unmarked.py": "GANENGINE_API = 1\ndef ganengine_variants():\n    return []\n",
    "bad/unknown_hook.py": HEAD + "@hookimpl\ndef ganengine_variant():\n    return []\n",
    "bad/argument.py": HEAD + "@hookimpl\ndef ganengine_variants(x):\n    return []\n",
    "bad/no_list.py": HEAD + "@hookimpl\ndef ganengine_variants():\n    return None\n",
    "bad/no_record.py": HEAD + "@hookimpl\ndef ganengine_variants():\n    return ['pix2pix']\n",
    "bad/hook_raises.py": HEAD + "@hookimpl\ndef ganengine_metrics():\n    raise KeyError('x')\n",
    "bad/builder.py": METRIC.format("'m', 's', 'nowhere_at_all:build'"),
    "bad/no_builder.py": METRIC.format("'m', 's', 'build'"),
    "bad/name.py": METRIC.format("'a b', 's', 'json:loads'"),
    "bad/taken.py": METRIC.format("'l1', 's', 'json:loads'"),
    "bad/json.py": "GANENGINE_API = 1\n",
    "bad/notes.txt": "no plugin\n",
    "toml-broken/pyproject.toml": "[project\n",
    "toml-none/pyproject.toml": "[project]\nname = 'x'\n",
    "toml-word/pyproject.toml": "project = 'x'\n",
    "toml-points/pyproject.toml": "[project.entry-points]\nganengine = 'x'\n",
    "toml-missing/pyproject.toml": "[project.entry-points.ganengine]\nx = 'not_in_this_folder'\n",
    "toml-colons/pyproject.toml": "[project.entry-points.ganengine]\nx = 'not a module'\n",
    "toml-number/pyproject.toml": "[project.entry-points.ganengine]\nx = 3\n",
}
PICTURES = {
    "unequal/A/0.png": (16, 16),
    "unequal/B/0.png": (8, 8),
    "alone/A/0.png": (16, 16),
    "alone/A/1.png": (16, 16),
    "alone/B/0.png": (16, 16),
    "square/0.png": (16, 16),
    "odd/0.png": (17, 8),
    "lines/0.png": (2, 1),
    "tests/test/0.png": (32, 16),
    "few/train/0.png": (32, 16),
    "half/A/0.png": (16, 16),
    "grey/train/0.png": (32, 16),
    "twins/0.png": (16, 16),
    "twins/0.bmp": (16, 16),
    "twins/0.bmp.png": (16, 16),
}
ZIPS: dict[str, dict[str, int]] = {
    "slip.zip": {"../0.png": 0},
    "root.zip": {"/0.png": 0},
    "drive.zip": {"C:/0.png": 0},
    "back.zip": {"a\\..\\..\\0.png": 0},
    "link.zip": {"0.png": stat.S_IFLNK | 0o777},
    "texts.zip": {"notes.txt": 0},
    "none.zip": {},
    "square.zip": {"0.png": 0},
}


def build(place: Path, pairs: Path, run: Path) -> None:
    """Fill the folder `place`.

    Args:
        place: an empty folder.
        pairs: pairs that can be trained on.
        run: a run of pix2pix that was trained on them.
    """
    for name, text in TEXTS.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "latin.yaml").write_bytes(b"batch: 2 # caf\xe9\n")
    (place / "binary.yaml").write_bytes(bytes(range(256)))
    for name in ("empty", "toml-folder/pyproject.toml", "half/B", "bare", "package"):
        (place / name).mkdir(parents=True)
    (place / "package" / "__init__.py").write_text("raise RuntimeError('on import')\n")
    pictures(place)
    zips(place)
    weights(place / "weights", run)
    runs(place, run)


def pictures(place: Path) -> None:
    """Write pictures that fit nothing, and what only looks like pictures."""
    rng = np.random.default_rng(0)
    for name, (width, height) in PICTURES.items():
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if name.startswith("grey") else pixels).save(place / name)
    whole = (place / "square/0.png").read_bytes()
    bad = {
        "unreadable/text.png": b"no picture\n",
        "unreadable/empty.png": b"",
        "unreadable/cut.png": whole[:60],
        "unreadable/bomb.png": bomb(60_000),
        "unreadable/zero.png": bomb(0),
        "texts/notes.txt": b"no picture\n",
        "hidden/.0.png": whole,
    }
    for name, data in bad.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(data)
    (place / "links").mkdir()
    (place / "links/0.png").symlink_to(place / "square/0.png")
    (place / "dangling").symlink_to(place / "nowhere")
    (place / "circle").symlink_to(place / "circle")


def bomb(side: int) -> bytes:
    """Return the beginning of a PNG that says it is `side` pixels wide and high."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head) - 4) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def zips(place: Path) -> None:
    """Write archives that are refused."""
    whole = (place / "square/0.png").read_bytes()
    for name, members in ZIPS.items():
        with zipfile.ZipFile(place / name, "w") as out:
            for member, mode in members.items():
                info = zipfile.ZipInfo(member)
                info.external_attr = mode << 16
                out.writestr(info, whole)
    (place / "cut.zip").write_bytes((place / "square.zip").read_bytes()[:-30])
    (place / "nothing.zip").write_bytes(b"")
    (place / "folder.zip").mkdir()
    locked = bytearray((place / "square.zip").read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(mark) + flags] |= 1  # says that it is encrypted
    (place / "locked.zip").write_bytes(locked)
    with zipfile.ZipFile(place / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("0.png", whole)
    large = bytearray((place / "bomb.zip").read_bytes())
    at = large.find(b"PK\x01\x02") + 24
    large[at : at + 4] = struct.pack("<I", (1 << 30) + 1)  # says that it unpacks to more than a GiB
    (place / "bomb.zip").write_bytes(large)


class Harm:
    """What would run code where a pickle is trusted."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harmed",)


def weights(folder: Path, run: Path) -> None:
    """Write files that hold no weights of pix2pix."""
    folder.mkdir()
    (folder / "text.pth").write_text("no weights\n")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "code.pth").write_bytes(pickle.dumps(Harm(), 2))
    (folder / "noise.pth").write_bytes(np.random.default_rng(1).bytes(500))
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    (folder / "picture.pth").write_bytes(picture.getvalue())
    things: dict[str, object] = {
        "list": [torch.zeros(2)],
        "tensor": torch.zeros(2),
        "nothing": {},
        "number": 3,
        "checkpoint": {"epoch": 3, "state_dict": {"model.model.0.weight": torch.zeros(2)}},
        "other": {"features.0.weight": torch.zeros(8, 3, 3, 3)},
        "flat": {"model.model.0.weight": torch.zeros(5)},
        "shallow": {"model.model.0.weight": torch.zeros(8, 3, 4, 4)},
        "numbers": {3: torch.zeros(2)},
        "sparse": {"model.model.0.weight": torch.zeros(2, 2).to_sparse()},
        "patchgan": {"model.0.weight": torch.zeros(2)},
    }
    for name, value in things.items():
        torch.save(value, folder / f"{name}.pth")
    whole = (folder / "other.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "run.pth").write_bytes(next(run.glob("checkpoints/*/networks.safetensors")).read_bytes())


def runs(place: Path, run: Path) -> None:
    """Write runs whose only checkpoint is wrong in one way."""
    source = next(run.glob("checkpoints/step-*"))
    meta = json.loads((source / "meta.json").read_text())
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    torn = {
        "no-meta": {"meta.json": None},
        "no-state": {"state.pt": None},
        "no-networks": {"networks.safetensors": None},
        "cut-state": {"state.pt": files["state.pt"][:100]},
        "flipped-networks": {"networks.safetensors": files["networks.safetensors"][:-1] + b"\x55"},
        "text-meta": {"meta.json": b"no JSON"},
        "list-meta": {"meta.json": b"[1]"},
        "newer-meta": {"meta.json": json.dumps({**meta, "format": 99}).encode()},
    }
    for name, changes in torn.items():
        folder = place / "runs" / name / "checkpoints" / source.name
        folder.mkdir(parents=True)
        (place / "runs" / name / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
        for file, data in {**files, **changes}.items():
            if data is not None:
                (folder / file).write_bytes(data)
    whole = place / "runs" / "no-data"
    (whole / "checkpoints" / source.name).mkdir(parents=True)
    text = re.sub(r"(?m)^data:.*$", "data: /nowhere/pairs", (run / "config.yaml").read_text())
    (whole / "config.yaml").write_text(text)
    for file, data in files.items():
        (whole / "checkpoints" / source.name / file).write_bytes(data)
    other = place / "runs" / "other-size"
    (other / "checkpoints" / source.name).mkdir(parents=True)
    text = (run / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("g-filters: 2", "g-filters: 4"))
    for file, data in files.items():
        (other / "checkpoints" / source.name / file).write_bytes(data)
