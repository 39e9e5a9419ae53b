"""The judge: a small classifier, trained on real labelled pictures, that says what samples show.

Its classes give coverage and class accuracy, its penultimate features the Frechet distance FD-judge, which is not FID:
the features are this judge's own, so figures compare within one data set only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine import draws
from ganengine.data.cache import cache_root
from ganengine.errors import DataError
from ganengine.nn.init import initialise
from ganengine.runfolder import write_whole

SIDE = 32
"""Larger pictures are averaged down to this side."""
FEATURES = 64
"""Units of the penultimate layer."""
EPOCHS = 6
"""Passes over the training pictures: about a minute on one core for 7,600 digits."""
BATCH = 64
LR = 2e-3
"""Adam's, falling to 0 in a straight line."""
SHIFT = 2
"""Pixels that training pictures are moved by at most, in both directions."""
CHUNK = 256
"""Pictures judged at once."""
LEAST = 0.97
"""Share of held-out pictures that a judge must get right to be believed."""
RULES = 1
"""Of all that a kept judge depends on beside its data; another number makes those that are kept useless."""

Progress: TypeAlias = "Callable[[Iterable[int], int], Iterable[int]]"
"""(steps, how many) -> the same steps, shown to whoever waits."""


class JudgeNetwork(nn.Module):
    """Three blocks of convolution, batch norm, ReLU and pooling, a layer of `FEATURES` units, and the classes.

    Args:
        channels: of the pictures.
        side: of the pictures, at most `SIDE`.
        classes: K.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.shape = (channels, side, classes)
        layers: list[nn.Module] = []
        for inputs, outputs in ((channels, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            side = -(-side // 2)
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * side * side, FEATURES), nn.ReLU())
        self.classes = nn.Linear(FEATURES, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits [N, K] of pictures [N, C, side, side] in [-1, 1]."""
        logits: Tensor = self.classes(self.features(pictures))
        return logits


@dataclass(frozen=True)
class Verdict:
    """What a judge says of N pictures."""

    classes: Tensor
    """[N], int64: the class that each is most like."""
    features: Tensor
    """[N, FEATURES], float32: the penultimate layer."""


@dataclass(frozen=True)
class Labelled:
    """Pictures [N, C, H, W] in [-1, 1], at most `SIDE` high, and their classes [N]."""

    pictures: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Judge:
    """A trained judge and how far it can be believed."""

    network: JudgeNetwork
    accuracy: float
    """Share of held-out pictures that it gets right."""
    held_out: int
    """How many those were."""

    @torch.no_grad()
    def look(self, pictures: Tensor) -> Verdict:
        """Judge pictures [N, C, H, W] in [-1, 1], of any side from that of the training on."""
        device = next(self.network.parameters()).device
        classes, features = [], []
        for part in torch.split(reduced(pictures), CHUNK):
            found = self.network.features(part.to(device))
            features.append(found.cpu())
            classes.append(self.network.classes(found).argmax(1).cpu())
        return Verdict(torch.cat(classes), torch.cat(features))

    def check(self, least: float = LEAST) -> None:
        """Refuse a judge that errs too often.

        Raises:
            DataError: it got fewer than `least` of the held-out pictures right.
        """
        if self.accuracy < least:
            raise DataError(
                f"The judge is right on {self.accuracy:.1%} of {self.held_out} held-out pictures; expected at least "
                f"{least:.1%}, so its figures would say little. Give more or cleaner labelled data, or accept it with "
                f"--judge-least {max(0.0, int(1000 * self.accuracy) / 1000):g}."
            )


def reduced(pictures: Tensor) -> Tensor:
    """Return pictures [N, C, H, W] averaged down to `SIDE` where they are larger."""
    return F.adaptive_avg_pool2d(pictures, SIDE) if max(pictures.shape[2:]) > SIDE else pictures


def train_judge(
    train: Labelled,
    held_out: Labelled,
    classes: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = lambda steps, count: steps,
) -> Judge:
    """Train a judge on real pictures, moved by a pixel or two, and test it on others.

    Args:
        train: real pictures; at least one of each class.
        held_out: other real pictures.
        classes: K.
        seed: of initial weights, order and shifts.
        device: where to train; the judge stays there.
        progress: shows the steps.

    Determinism: same pictures, seed, device and number of threads give the same weights.
    """
    network = JudgeNetwork(train.pictures.shape[1], train.pictures.shape[2], classes)
    initialise(network, "he", draws.generator(seed, "judge", "init"))
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), LR, fused=True)
    count = len(train.labels)
    batches = max(1, count // BATCH)
    steps = EPOCHS * batches
    source = draws.generator(seed, "judge", "order")
    order = torch.empty(0, dtype=torch.int64)
    network.train()
    for step in progress(range(steps), steps):
        if step % batches == 0:
            order = torch.randperm(count, generator=source)
        rows = order[step % batches * BATCH :][:BATCH]
        down, right = torch.randint(2 * SHIFT + 1, (2,), generator=source).tolist()
        optimizer.param_groups[0]["lr"] = LR * (1 - step / steps)
        logits = network(_moved(train.pictures[rows], down, right).to(device))
        optimizer.zero_grad()
        F.cross_entropy(logits, train.labels[rows].to(device)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval().requires_grad_(False)
    judge = Judge(network, 0.0, len(held_out.labels))
    right_ones = judge.look(held_out.pictures).classes == held_out.labels
    return Judge(network, float(right_ones.double().mean()), len(held_out.labels))


def _moved(pictures: Tensor, down: int, right: int) -> Tensor:
    """Return pictures moved by up to `SHIFT` pixels, their border repeated."""
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, (SHIFT,) * 4, mode="replicate")
    return padded[:, :, down : down + height, right : right + width]


# ----------------------------------------------------------------------------------------------------------------
# Judges that are kept


def kept_at(key: str) -> Path:
    """Return where the judge with this key is kept."""
    return cache_root() / "judges" / f"{key}.safetensors"


def write_judge(path: Path, judge: Judge, about: Mapping[str, Any]) -> None:
    """Keep a judge: one safetensors file, with what is known of it in the header.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    known = {**about, "shape": judge.network.shape, "accuracy": judge.accuracy, "held_out": judge.held_out}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in judge.network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(tensors, {"judge": json.dumps(known, sort_keys=True)}))


def read_judge(path: Path, device: torch.device | str = "cpu") -> Judge | None:
    """Read a judge that was kept, or return None where there is none, or none that is whole."""
    try:
        with safe_open(path, "pt") as file:
            known = json.loads(file.metadata()["judge"])
            network = JudgeNetwork(*known["shape"])
            network.load_state_dict({name: file.get_tensor(name) for name in network.state_dict()})
            judge = Judge(network, float(known["accuracy"]), int(known["held_out"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    network.to(device).eval().requires_grad_(False)
    return judge
