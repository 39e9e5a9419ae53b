"""Wrong use of `import`, and files that hold no weights of pix2pix."""

from __future__ import annotations

OTHER = "expected weights of a U-Net, a ResNet of 6 or 9 blocks or a PatchGAN of pytorch-CycleGAN-and-pix2pix; it seems"
SAVED = "expected a file that torch.save wrote; it is damaged, or of another kind"

FILES = {
    "nowhere.pth": "nowhere.pth: expected a file of weights; there is none",
    "dangling": "dangling: expected a file of weights; there is none",
    "weights": "weights: expected a file of weights; there is a folder",
    "RUN": "expected a file of weights; there is a folder",
    "slip.zip": SAVED,
    "weights/text.pth": f"weights/text.pth: {SAVED}",
    "weights/empty.pth": SAVED,
    "weights/noise.pth": SAVED,
    "weights/picture.pth": SAVED,
    "weights/cut.pth": SAVED,
    "weights/run.pth": SAVED,
    "weights/code.pth": "expected tensors alone; this file would run code when it is read (",
    "weights/list.pth": f"{OTHER} to be a list",
    "weights/tensor.pth": f"{OTHER} to be a Tensor",
    "weights/number.pth": f"{OTHER} to be a",
    "weights/nothing.pth": f"{OTHER} to be empty",
    "weights/checkpoint.pth": 'holds epoch, state_dict. Where that is in "state_dict", save it by itself',
    "weights/other.pth": f"{OTHER} to be a network of another kind: 1 tensors (features.0.weight [8, 3, 3, 3])",
    "weights/flat.pth": f"{OTHER} to be a U-Net of 1 levels",
    "weights/shallow.pth": f"{OTHER} to be a U-Net of 1 levels",
    "weights/numbers.pth": f"{OTHER} to be a network of another kind",
    "weights/sparse.pth": f"{OTHER} to be tensors that are not dense",
    "weights/patchgan.pth": OTHER,
    "weights/other.pth weights/text.pth": f"weights/text.pth: {SAVED}",
}

WRONG = {
    **{f"import pix2pix {file} --out made": message for file, message in FILES.items()},
    "import": "expected the name of a variant first. Variants that import: pix2pix",
    "import --out made": "expected the name of a variant first",
    "import weights/other.pth": 'No variant is called "weights/other.pth"',
    "import pix2pux weights/text.pth": 'No variant is called "pix2pux". Did you mean pix2pix',
    "import pix2pix": "expected files of weights after pix2pix, and options after those; got no file",
    "import pix2pix --out made": "expected files of weights after pix2pix",
    "import pix2pix '' --out made": "expected words that are not empty",
    "import pix2pix weights/other.pth --data": "--data: expected a value after it, got nothing",
}
