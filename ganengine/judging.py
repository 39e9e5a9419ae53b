"""Judge a run's samples: open labelled data, train or fetch the judge, gather what metrics of samples read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ganengine.config import RunOptions
from ganengine.data.dataset import Dataset, hash_record
from ganengine.data.loader import Loader
from ganengine.data.options import DataOptions
from ganengine.errors import DataError, UserError
from ganengine.latents import one_hot
from ganengine.metrics.judge import (
    RULES,
    Judge,
    Labelled,
    Progress,
    Verdict,
    kept_at,
    read_judge,
    reduced,
    train_judge,
    write_judge,
)
from ganengine.metrics.samples import Evidence
from ganengine.plugins import Registry
from ganengine.sampling import Sampler
from ganengine.session import data_options, open_dataset
from ganengine.variant import DataSpec, Variant, View

MOST_TRAINING, MOST_HELD_OUT = 20_000, 5_000
"""Pictures that a judge is trained on and tested with at most, spread evenly over the data."""
EVERY = 10
"""Of data without another split every tenth picture is held out."""
READER = Variant(
    name="judge",
    summary="Looks at pictures with labels.",
    config=object,
    networks="",
    losses="",
    schedule="",
    views="",
    fields=("real", "label"),
)
"""What opening data asks of whoever reads it."""


class _Part(Dataset):
    """Some samples of a split, as if they were a data set: read by `Loader`, which decodes beside and bounds memory."""

    def __init__(self, whole: Dataset, split: str, indices: Sequence[int]) -> None:
        self.spec = DataSpec({name: whole.spec.fields[name] for name in ("real", "label")}, len(indices))
        self._whole, self._split, self._indices = whole, split, indices

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        sample = self._whole.read(self._split, self._indices[index], size)
        return {name: sample[name] for name in self.spec.fields}


@dataclass(frozen=True)
class LabelledData:
    """Data that a judge can be trained on, and which pictures of it are held out.

    Args:
        dataset: with the fields `real` and `label`.
        options: how its pictures are read.
        argument: what the user called it.
    """

    dataset: Dataset
    options: DataOptions
    argument: str

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self.dataset.spec.classes("label")

    @property
    def names(self) -> list[str]:
        """Names of the classes, or numbers where they have none."""
        names = [str(name) for name in getattr(self.dataset, "classes", ())]
        return names if len(names) == self.num_classes else [str(number) for number in range(self.num_classes)]

    @property
    def held_out_split(self) -> str:
        """The split that tells how good a judge is; `train` where there is no other: then a tenth is kept back."""
        return next((name for name in ("test", "val") if self.dataset.splits.get(name)), "train")

    def train(self, most: int = MOST_TRAINING) -> Labelled:
        """Return pictures to train on."""
        indices = range(self.dataset.spec.count)
        kept = indices if self.held_out_split != "train" else [i for i in indices if i % EVERY]
        return self._read("train", kept, most)

    def held_out(self, most: int = MOST_HELD_OUT) -> Labelled:
        """Return pictures that are not trained on."""
        split = self.held_out_split
        step = EVERY if split == "train" else 1
        return self._read(split, range(0, self.dataset.check_split(split), step), most)

    def captions(self, text: str, count: int) -> Tensor:
        """Return the codes [count, L] of a caption of each held-out picture in turn, from the field `text`."""
        split = self.held_out_split
        known = min(count, self.dataset.check_split(split))
        with Loader(self.dataset, replace(self.options, memory_mib=0)) as loader:
            codes = loader.fixed(split, known)[text][:, 0]
        return codes[torch.arange(count) % len(codes)]

    def _read(self, split: str, indices: Sequence[int], most: int) -> Labelled:
        indices = [indices[place * len(indices) // most] for place in range(most)] if len(indices) > most else indices
        pictures, labels = [], []
        options = replace(self.options, flip=False, load_size=None, seed=0, memory_mib=0)
        with Loader(_Part(self.dataset, split, indices), options) as loader:
            for start in range(0, len(indices), 256):
                batch = loader.draw(start, min(256, len(indices) - start))
                known = batch["label"] >= 0
                pictures.append(reduced(batch["real"])[known])
                labels.append(batch["label"][known])
        return Labelled(torch.cat(pictures), torch.cat(labels))


def open_labelled(argument: str, options: RunOptions, plugins: Registry, fields: Sequence[str] = ()) -> LabelledData:
    """Open data with its labels, whether or not the run that is judged reads them.

    Args:
        argument: a path, or `NAME` or `NAME:ARGUMENT` of a data source.
        options: how pictures are read; without a size they have their own, at most 128.
        plugins: bring the data sources.
        fields: what the run's variant reads beside.

    Raises:
        DataError: there are no labels, no pictures, or fewer than two classes.
    """
    reader = replace(READER, fields=tuple(dict.fromkeys((*fields, *READER.fields))))
    try:
        dataset, options = open_dataset(reader, replace(options, data=argument), plugins)
    except DataError as error:
        raise DataError(f"A judge learns from pictures with labels. {error}") from error
    data = LabelledData(dataset, data_options(options), argument)
    kind = dataset.spec.fields["real"].kind
    if kind != "image":
        raise DataError(
            f"{argument}: a judge looks at pictures, this data is of another kind ({kind}). "
            "For points of the plane use `ganengine diagnose modes`."
        )
    if data.num_classes < 2:
        raise DataError(f"{argument}: expected two classes or more to tell apart, got {data.num_classes}.")
    return data


def judge_of(
    data: LabelledData,
    *,
    least: float,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = lambda steps, count: steps,
) -> Judge:
    """Return the judge of this data: the one that is kept in the cache, else one that is trained now and kept.

    Raises:
        DataError: it gets fewer than `least` of the held-out pictures right.
    """
    spec, options = data.dataset.spec.fields, data.options
    about = {
        "rules": RULES,
        "fingerprint": data.dataset.fingerprint,
        "picture": [spec["real"].shape[0], options.size, options.resize, options.alpha],
        "splits": [data.dataset.spec.count, data.held_out_split],
        "seed": seed,
    }
    path = kept_at(hash_record(about))
    judge = read_judge(path, device)
    if judge is None:
        judge = train_judge(
            data.train(), data.held_out(), data.num_classes, seed=seed, device=device, progress=progress
        )  # fmt: skip
        with contextlib.suppress(OSError):  # it works without being kept
            write_judge(path, judge, about)
    judge.check(least)
    return judge


def gather(
    judge: Judge, data: LabelledData, sampler: Sampler, view: View, spec: DataSpec, count: int, real: Verdict
) -> Evidence:
    """Make samples and judge them.

    Classes are asked for in turn: 0, 1, ... K - 1, 0, ..., of a view with a text captions of held-out pictures; the
    latents are those of `ganengine sample` with this seed.

    Args:
        judge: of `data`.
        data: what it learned from.
        sampler: makes the samples.
        view: which.
        spec: what the run was trained on.
        count: how many.
        real: what the judge says of real pictures.

    Raises:
        UserError: samples of another form than the data's pictures, or with other classes.
    """
    classes = spec.classes(view.label)
    expected = data.dataset.spec.fields["real"].shape
    if spec.fields["real"].shape != expected:
        raise UserError(
            f"{data.argument}: expected pictures such as the run was trained on, {list(spec.fields['real'].shape)}; "
            f"got {list(expected)}. Give data of the same kind."
        )
    if classes and classes != data.num_classes:
        raise UserError(
            f"{data.argument}: expected the {classes} classes that the run was trained on, got {data.num_classes}."
        )
    z = sampler.latents(view, count)
    asked = torch.arange(count) % classes if classes else None

    def made(labels: Tensor | None) -> Tensor:
        y = None if labels is None else one_hot(labels, classes)
        return to_8_bit(sampler.sample(view, z, data.captions(view.text, count) if view.text else y))

    return Evidence(
        made=judge.look(made(asked)),
        real=real,
        num_classes=data.num_classes,
        asked=asked,
        swapped=None if asked is None else lambda: judge.look(made((asked + 1) % classes)),
    )


def to_8_bit(pictures: Tensor) -> Tensor:
    """Return pictures in [-1, 1] with the 256 levels that a saved file has."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
