"""The examples of docs/augmentation.md run, and the page names every group and option."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch

from ganengine.augment.adaptive import AdaptiveAugment
from ganengine.augment.diffaugment import DiffAugment
from ganengine.config import RunOptions

PAGE = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")


def test_examples_run() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    x = torch.rand(4, 3, 8, 8)
    logits = names["D"](x)  # type: ignore[operator]
    assert logits.shape == (4, 1, 1, 1)
    darken = names["Darken"](RunOptions(), torch.device("cpu"))  # type: ignore[operator]
    torch.testing.assert_close(darken(x, torch.ones(4, 1)), x - 0.5)


def test_groups_and_options_are_those_that_there_are() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == [*DiffAugment.groups, *AdaptiveAugment.groups]
    known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(RunOptions)}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known
