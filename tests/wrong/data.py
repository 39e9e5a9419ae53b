"""Data that cannot be trained on, and wrong use of `data inspect`."""

from __future__ import annotations

from .run import SMALL

WHERE = {
    # Nothing there
    "nowhere": '"nowhere": no such folder, and no data source of that name',
    "./nowhere": "nowhere: no such folder",
    "emptv": '"emptv": no such folder, and no data source of that name. Did you mean empty',
    "dangling": '"dangling": no such folder',
    "circle": '"circle": no such folder',
    "~nobody-at-all/pairs": "~nobody-at-all/pairs: no such folder",
    "https://example.com/pairs.zip": "no such folder",
    # Names of sources
    "images:DATA": "needs A, B, the data source images gives real",
    "pairs": "Expected a folder of pictures, got none",
    "pairs:nowhere": "nowhere: no such folder. Give a folder of pictures",
    "pair:DATA": "no such folder",
    "openmoji-line:3": 'openmoji-line: expected no argument, got "3"',
    # Not what is needed
    "empty": "empty: the folder is empty. Put pictures there",
    "hidden": "hidden: the folder is empty",
    "file.yaml": "file.yaml: expected a folder of pictures, got a file",
    "DATA/test/0.png": "expected a folder of pictures, got a file",
    "texts": "texts: no pictures among 1 file (notes.txt)",
    "links": "links: no pictures; 1 entry left out, the first: 0.png: a link that leads out of the data",
    "unequal": "A/0.png is 16x16, B/0.png is 8x8. Make both pictures",
    "alone": "without partner in B (1.png)",
    "half": "without partner in B (0.png)",
    "square": "expected A|B side by side, but every picture is as wide as high",
    "twins": "expected A|B side by side",
    "odd": "1 of 1 picture has an odd width, the first: 0.png is 17x8",
    "tests": "The data has nothing to train on: splits test. Give some of it the split train",
    "few": "A batch of 2 is larger than the data: 1 training sample. Use --batch 1",
    "unreadable --bad-images fail": "(4 of 5 pictures cannot be read). Replace it, or take it out",
    # Archives
    "notes.zip": "notes.zip: expected a zip file; this one is damaged, cut off or something else",
    "nothing.zip": "nothing.zip: expected a zip file",
    "cut.zip": "cut.zip: expected a zip file; this one is damaged, cut off or something else",
    "folder.zip": "folder.zip: the folder is empty",
    "slip.zip": "slip.zip: the zip file is refused: '../0.png' has a path that leads outside",
    "root.zip": "root.zip: the zip file is refused: '/0.png' has a path that leads outside",
    "drive.zip": "drive.zip: the zip file is refused: 'C:/0.png' has a path that leads outside",
    "back.zip": "back.zip: the zip file is refused",
    "link.zip": "link.zip: the zip file is refused: '0.png' is a link",
    "locked.zip": "locked.zip: the zip file is refused: '0.png' is encrypted",
    "bomb.zip": "bomb.zip: the zip file is refused: '0.png' unpacks to 1.0 GiB, which may be a zip bomb",
    "texts.zip": "texts.zip: no pictures among 1 file (notes.txt)",
    "none.zip": "none.zip: the folder is empty",
    "square.zip": "expected A|B side by side",
}

INSPECT = {
    "nowhere": "nowhere: no such folder",
    "dangling": "dangling: no such folder",
    "empty": "empty: the folder is empty",
    "hidden": "hidden: the folder is empty",
    "texts": "texts: no pictures among 1 file (notes.txt)",
    "links": "links: no pictures; 1 entry left out",
    "file.yaml": "file.yaml: expected a folder of pictures, got a file",
    "DATA/test/0.png": "expected a folder of pictures, got a file",
    "images:DATA": "no such folder",
    "slip.zip": "slip.zip: the zip file is refused: '../0.png' has a path that leads outside",
    "root.zip --quick": "root.zip: the zip file is refused",
    "locked.zip": "is encrypted",
    "bomb.zip --json": "unpacks to 1.0 GiB",
    "notes.zip --json": "notes.zip: expected a zip file",
    "none.zip --quick": "none.zip: the folder is empty",
    "DATA --quik": "Unrecognized options: --quik Perhaps you meant: --quick",
    "DATA more": "Unrecognized options: more",
    "DATA --json=1": "Unrecognized options: 1",
    "empty empty": "Unrecognized options: empty",
    "''": "expected words that are not empty",
    "--json": "Missing from ganengine data inspect",
    "": "Missing from ganengine data inspect",
}

WRONG = {
    **{f"run pix2pix {where} {SMALL} --out made": message for where, message in WHERE.items()},
    **{f"data inspect {words}": message for words, message in INSPECT.items()},
    "data inspct DATA": 'got "inspct". Did you mean inspect',
    "data DATA": "expected `ganengine data inspect FOLDER`",
    "data --json": 'expected `ganengine data inspect FOLDER`, got "--json"',
}
