"""Wrong use: one message on standard error that helps, status 2, no traceback, nothing left behind."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

Tree = Callable[[Path], dict[str, object]]


class Done(Protocol):
    """What a command left."""

    status: int
    out: str
    err: str


SMALL = "--size 16 --batch 2 --g-filters 2 --d-filters 2 --receptive-field 16 --threads 1 --max-steps 1"
TRAIN = f"run pix2pix DATA {SMALL} --out made"

WRONG: list[tuple[str, str]] = [
    # The data
    ("run pix2pix nowhere --out made", '"nowhere": no such folder, and no data source of that name'),
    ("run pix2pix ./nowhere --out made", "nowhere: no such folder"),
    ("run pix2pix emptv --out made", '"emptv": no such folder, and no data source of that name. Did you mean empty'),
    ("run pix2pix empty --out made", "empty: the folder is empty. Put pictures there"),
    ("run pix2pix texts --out made", "texts: no pictures among 1 file (notes.txt)"),
    (f"run pix2pix unequal {SMALL} --out made", "A/0.png is 16x16, B/0.png is 8x8. Make both pictures"),
    (f"run pix2pix alone {SMALL} --out made", "without partner in B (1.png)"),
    (f"run pix2pix square {SMALL} --out made", "expected A|B side by side"),
    ("run pix2pix DATA/test/0.png --out made", "expected a folder of pictures, got a file"),
    ("run pix2pix images:DATA --out made", "needs A, B, the data source images gives real"),
    ("run pix2pix pairs:nowhere --out made", "nowhere: no such folder"),
    (
        "run pix2pix notes.zip --out made",
        "notes.zip: expected a zip file; this one is damaged, cut off or something else",
    ),
    ("run pix2pix cut.zip --out made", "cut.zip: expected a zip file; this one is damaged, cut off or something else"),
    ("run pix2pix slip.zip --out made", "slip.zip: the zip file is refused: '../0.png' has a path that leads outside"),
    ("run pix2pix root.zip --out made", "root.zip: the zip file is refused: '/0.png' has a path that leads outside"),
    ("run pix2pix link.zip --out made", "link.zip: the zip file is refused: '0.png' is a link"),
    ("run pix2pix texts.zip --out made", "texts.zip: no pictures among 1 file (notes.txt)"),
    ("run pix2pix none.zip --out made", "none.zip: the folder is empty"),
    (f"run pix2pix square.zip {SMALL} --out made", "expected A|B side by side"),
    (
        f"run pix2pix links {SMALL} --out made",
        "links: no pictures; 1 entry left out, the first: 0.png: a link that",
    ),
    ("eval RUN slip.zip", "slip.zip: the zip file is refused"),
    (f"{TRAIN} --batch 5", "A batch of 5 is larger than the data: 4 training samples. Use --batch 4"),
    # The variant and its options
    ("run", "expected the name of a variant first. Installed: "),
    ("run --batch 3", "expected the name of a variant first"),
    ("run pix2pux DATA --out made", 'No variant is called "pix2pux". Did you mean pix2pix'),
    ("info pix2pux", 'No variant is called "pix2pux". Did you mean pix2pix'),
    (f"{TRAIN} --lambda-l2 50", "Unrecognized options: --lambda-l2, 50 Perhaps you meant: --lambda-l1"),
    (f"{TRAIN} --arm l2", "invalid choice 'l2' for argument '--arm'"),
    (f"{TRAIN} --batch two", "Error parsing --batch: invalid literal for int()"),
    (f"{TRAIN} --batch 1.5", "Error parsing --batch"),
    (f"{TRAIN} --batch", "Missing value for argument '--batch'"),
    (f"{TRAIN} --betas 0.5", "Missing value for argument '--betas'"),
    (f"{TRAIN} extra", "Unrecognized options: extra"),
    (f"{TRAIN} --no-batch", "Unrecognized options: --no-batch"),
    (f"{TRAIN} --adversarial hing", 'No loss is called "hing". Did you mean hinge'),
    (f"{TRAIN} --receptive-field 286", "--receptive-field 286: expected pictures of at least 96 pixels, they have 16"),
    (f"{TRAIN} --preset papre", "--preset: expected one of"),
    (f"{TRAIN} --preset", "--preset: expected a value after it, got nothing"),
    # Numbers
    (f"{TRAIN} --batch -1", "--batch: expected a number from 1 to 1048576, got -1"),
    (f"{TRAIN} --batch 0", "--batch: expected a number from 1"),
    (f"{TRAIN} --size 2", "--size: expected a number from 4"),
    (f"{TRAIN} --load-size 8", "--load-size: expected at least --size (16), got 8"),
    (f"{TRAIN} --accumulate 3", "--accumulate: expected a divisor of --batch (2), got 3"),
    (f"{TRAIN} --max-steps -5", "--max-steps: expected a number of at least 1, got -5"),
    (f"{TRAIN} --max-minutes -0.5", "--max-minutes: expected a number of at least 0, got -0.5"),
    (f"{TRAIN} --max-minutes nan", "--max-minutes: expected a number of at least 0, got nan"),
    (f"{TRAIN} --horizon 0", "--horizon: expected a number of at least 1, got 0"),
    (f"{TRAIN} --horizon 5 --epochs 2", "--horizon and --epochs state the same thing"),
    (f"{TRAIN} --lr -1", "--lr: expected above 0, got -1.0"),
    (f"{TRAIN} --lambda-l1 nan", "--lambda-l1: expected 0 or more, got nan"),
    (f"{TRAIN} --threads 0", "--threads: expected a number from 1"),
    # The machine
    (f"{TRAIN} --device cuda:99", '"cuda:99" is not there'),
    (f"{TRAIN} --device tpu", '--device: expected auto, cpu, cuda or cuda:N, got "tpu"'),
    (f"{TRAIN} --device meta", '--device: expected auto, cpu, cuda or cuda:N, got "meta"'),
    (f"{TRAIN} --precision fp16 --device cpu", "--precision fp16: expected a GPU for float16 training, got the CPU"),
    (f"{TRAIN} --precision fp8", "invalid choice 'fp8' for argument '--precision'"),
    # Where to
    (f"run pix2pix DATA {SMALL} --out empty", "--out empty: expected a name that is free; it exists"),
    (f"run pix2pix DATA {SMALL} --out file.yaml", "--out file.yaml: expected a name that is free; it exists"),
    (f"run pix2pix DATA {SMALL} --out file.yaml/run", "cannot be made: Not a directory"),
    (f"{TRAIN} --init-from empty", "empty: expected the folder of a run; it has no config.yaml"),
    (f"{TRAIN} --init-from unstarted", "expected a checkpoint to go on from; there is none"),
    # Files of options
    (f"{TRAIN} --config missing.yaml", "--config missing.yaml: expected a YAML file of options"),
    (f"{TRAIN} --config empty", "--config empty: expected a YAML file of options"),
    (f"{TRAIN} --config", "--config: expected a value after it, got nothing"),
    (f"{TRAIN} --config type.yaml", "Error parsing --batch: invalid literal for int() with base 10: 'two'"),
    (f"{TRAIN} --config value.yaml", "invalid choice 'l2' for argument '--arm'"),
    (f"{TRAIN} --config option.yaml", 'option.yaml: no option is called "lamda-l1". Did you mean lambda-l1'),
    (f"{TRAIN} --config other.yaml", 'other.yaml: written for variant "gan", but this is "pix2pix"'),
    (f"{TRAIN} --config list.yaml", "expected a mapping of options, got a list"),
    (f"{TRAIN} --config broken.yaml", "expected YAML; it does not parse"),
    (f"{TRAIN} --config both.yaml", "--horizon and --epochs state the same thing"),
    (f"{TRAIN} --config flag.yaml", "flip: expected true or false, got 'maybe'"),
    (f"{TRAIN} --config range.yaml --no-flip", "--horizon: expected a number of at least 1, got -3"),
    # What is no run
    *(
        (f"{command} {what}{rest}", message)
        for command, rest in (("resume", ""), ("sample", ""), ("translate", " DATA there"), ("eval", ""))
        for what, message in (
            ("nowhere", "nowhere: expected the folder of a run; there is no such folder"),
            ("empty", "empty: expected the folder of a run; it has no config.yaml"),
            ("unstarted", "expected a checkpoint to go on from; there is none"),
            ("strange", 'No variant is called "gan"'),
            ("damaged", "expected the options of a run; it cannot be read"),
        )
    ),
    # Using a run
    (
        "resume gone",
        "/nowhere/pairs: expected the data that gone was trained on; it is not there any more",
    ),
    ("resume", "Missing from ganengine resume: PATH Folder of the run"),
    ("resume RUN --max-steps 0", "--max-steps: expected a number of at least 1, got 0"),
    ("resume RUN --batch 3", "Unrecognized options: --batch, 3"),
    ("sample RUN --n 0", "--n: expected a number from 1"),
    ("sample RUN --n two", "Error parsing --n"),
    ("sample RUN --split tset", 'The data has no split "tset"; it has: train (4), val (2), test (3). Did you mean'),
    ("sample RUN --view strip", 'does not have a grid view called "strip"; it has triptych'),
    ("sample RUN --device cuda:99", '"cuda:99" is not there'),
    ("sample RUN --out file.yaml", "file.yaml: expected a folder to write to; it is a file"),
    ("translate RUN", "Missing from ganengine translate"),
    ("translate RUN nowhere there", "nowhere: expected a picture or a folder of pictures; there is none"),
    ("translate RUN empty there", "empty: the folder is empty. Put pictures there"),
    ("translate RUN texts there", "texts: no pictures among 1 file (notes.txt)"),
    ("translate RUN unequal unequal", "A/0.png and 1 more: expected names that are free; they exist. Use --overwrite"),
    ("translate RUN unequal/A/0.png unequal/B", "0.png: expected names that are free"),
    ("translate RUN unequal file.yaml", "file.yaml: expected a folder to write to; it is a file"),
    ("translate RUN unequal inway", "inway/A: expected a folder to write to; it is a file"),
    ("translate RUN twins there", "0.bmp.png and 0.bmp would both become 0.bmp.png. Rename one of them"),
    ("translate RUN unequal there --tile 0", "--tile: expected a number from 1"),
    ("translate RUN unequal there --overlap 4", "--overlap: expected --tile too"),
    (
        "translate RUN unequal there --tile 64 --overlap 33",
        "--overlap: expected at most half a tile (32 pixels), got 33",
    ),
    ("translate RUN unequal there --bits 12", "invalid choice '12'"),
    ("translate RUN slip.zip there", "slip.zip: the zip file is refused: '../0.png' has a path that leads outside"),
    ("translate RUN cut.zip there.zip", "cut.zip: expected a zip file; this one is damaged, cut off or something else"),
    ("translate RUN links there", "links: no pictures; 1 entry left out, the first: 0.png: a link that"),
    ("translate RUN none.zip there", "none.zip: the folder is empty"),
    ("translate RUN unequal square.zip", "square.zip: expected names that are free; they exist"),
    ("translate RUN square.zip square.zip --overwrite", "square.zip: expected another OUT than IN"),
    ("translate RUN unequal inway/A/x.zip", "inway/A: expected a folder to write to; it is a file"),
    ("translate RUN unequal there --batch 0", "--batch: expected a number from 1"),
    ("translate RUN unequal there --threads 0", "--threads: expected a number from 1"),
    ("translate RUN unequal there --stats own,running", "invalid choice 'own,running' for argument '--stats'"),
    ("translate RUN unequal there --view sketch", 'does not have a translate view called "sketch"'),
    ("translate RUN unequal there --precision fp16 --device cpu", "--precision fp16: expected a GPU"),
    ("eval RUN nowhere", '"nowhere": no such folder'),
    ("eval RUN --metrics l2", 'No metric is called "l2". Did you mean l1'),
    ("eval RUN --metrics ,", "--metrics: expected names such as l1,psnr; got none"),
    ("eval RUN --split tset", 'The data has no split "tset"'),
    ("eval RUN DATA more", "Unrecognized options: more"),
    # The other commands
    ("trian", 'No command is called "trian". Did you mean'),
    ("--verson", 'No command is called "--verson"'),
    ("list more", "Unrecognized options: more"),
    ("list --jsno", "Unrecognized options: --jsno Perhaps you meant: --json"),
    ("info", "Missing from ganengine info: STR Name of the variant"),
    ("plugins doctr", 'got "doctr". Did you mean doctor'),
    ("data inspct DATA", 'got "inspct". Did you mean inspect'),
    ("data inspect", "Missing from ganengine data inspect"),
    ("data inspect nowhere", "nowhere: no such folder"),
    ("data inspect empty", "empty: the folder is empty"),
    ("data inspect texts", "texts: no pictures among 1 file (notes.txt)"),
    ("data inspect file.yaml", "file.yaml: expected a folder of pictures, got a file"),
    ("data inspect slip.zip", "slip.zip: the zip file is refused: '../0.png' has a path that leads outside"),
    ("data inspect notes.zip --json", "notes.zip: expected a zip file"),
    ("data inspect none.zip --quick", "none.zip: the folder is empty"),
    ("data inspect DATA --quik", "Unrecognized options: --quik Perhaps you meant: --quick"),
    ("data inspect DATA more", "Unrecognized options: more"),
    ("data inspect empty empty", "Unrecognized options: empty"),
    ("data --json", 'expected `ganengine data inspect FOLDER`, got "--json"'),
    ("doctor --deep", "Unrecognized options: --deep"),
    ("list --plugin nowhere.py", "--plugin nowhere.py: expected a Python file or a folder; it does not exist"),
    ("list --plugin", "--plugin: expected a value after it, got nothing"),
]

FILES = {
    "file.yaml": "",
    "type.yaml": "batch: two\n",
    "value.yaml": "arm: l2\n",
    "option.yaml": "lamda-l1: 3\n",
    "other.yaml": "variant: gan\n",
    "list.yaml": "- batch\n",
    "broken.yaml": "a: [\n",
    "both.yaml": "horizon: 3\nepochs: 2\n",
    "flag.yaml": "flip: maybe\n",
    "range.yaml": "horizon: -3\n",
    "texts/notes.txt": "no picture\n",
    "notes.zip": "no zip file\n",
    "unstarted/config.yaml": "variant: pix2pix\n",
    "gone/config.yaml": "variant: pix2pix\ndata: /nowhere/pairs\n",
    "strange/config.yaml": "variant: gan\n",
    "damaged/config.yaml": "variant: [\n",
    "inway/A": "a file where a folder is needed\n",
}
ZIPS: dict[str, dict[str, int]] = {
    "slip.zip": {"../0.png": 0},
    "root.zip": {"/0.png": 0},
    "link.zip": {"0.png": stat.S_IFLNK | 0o777},
    "texts.zip": {"notes.txt": 0},
    "none.zip": {},
    "square.zip": {"0.png": 0},
}
PICTURES = {
    "unequal/A/0.png": (16, 16),
    "unequal/B/0.png": (8, 8),
    "alone/A/0.png": (16, 16),
    "alone/A/1.png": (16, 16),
    "alone/B/0.png": (16, 16),
    "square/0.png": (16, 16),
    "twins/0.png": (16, 16),
    "twins/0.bmp": (16, 16),
    "twins/0.bmp.png": (16, 16),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paint: Callable[..., Path]) -> Path:
    """Return the folder that commands run in, with everything in it that can be wrong."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, size in PICTURES.items():
        paint(tmp_path / name, *size)
    (tmp_path / "empty").mkdir()
    for name, members in ZIPS.items():
        with zipfile.ZipFile(tmp_path / name, "w") as out:
            for member, mode in members.items():
                info = zipfile.ZipInfo(member)
                info.external_attr = mode << 16
                out.writestr(info, (tmp_path / "square/0.png").read_bytes())
    (tmp_path / "cut.zip").write_bytes((tmp_path / "square.zip").read_bytes()[:-30])
    (tmp_path / "links").mkdir()
    (tmp_path / "links/0.png").symlink_to(tmp_path / "square/0.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line.replace(SMALL, "...") for line, _ in WRONG])
def test_wrong_use(
    line: str, message: str, place: Path, pairs: Path, trained: Path, go: Callable[..., Done], tree: Tree
) -> None:
    folders = (place, pairs, trained)
    before = [tree(folder) for folder in folders]
    done = go(*(word.replace("DATA", str(pairs)).replace("RUN", str(trained)) for word in line.split()))
    assert done.status == 2
    assert done.out == ""
    told = flowing(done.err)
    assert message in told
    assert "Traceback" not in told
    if told.startswith("ganengine"):
        assert done.err.count("\n") == 1
    else:
        assert told.count("For full helptext") == 1  # the parser's own form
    assert [tree(folder) for folder in folders] == before


def flowing(text: str) -> str:
    """Return text without the parser's frame and line ends."""
    return " ".join(re.sub(r"[\u2500-\u257f]|-{5,}", " ", text).split())
